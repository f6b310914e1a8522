"""The record of a scoring job in MLflow: one run a job, however often the command is given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from features.errors import DataError
from modalrank.scoring.job import Result
from modalrank.store import registry

if TYPE_CHECKING:
    from mlflow import MlflowClient

JOB = "modalrank.job"


def record_job(uri: str, result: Result) -> str:
    """Return the run that tells of a finished job, made now unless there is one.

    It holds the counts, the coverage of the modalities and the drift as metrics, model, version and input
    as tags, and the manifest as an artefact.

    Raises
    ------
    DataError
        If the model is not registered there.
    TryAgainError
        If the store does not answer; the output stays published, and the same command records it.
    """
    from mlflow.entities import Metric
    from mlflow.utils.time import get_current_time_millis

    facts, now = result.manifest, get_current_time_millis()
    model = facts["model"]
    with registry(uri) as client:
        experiment = _experiment(client, model)
        known = client.search_runs(
            [experiment], f"tags.`{JOB}` = '{facts['job']}' and attributes.status = 'FINISHED'"
        )
        if known:
            return str(known[0].info.run_id)
        model = facts["model"]
        tags = {
            JOB: facts["job"],
            "model": model["name"],
            "version": model["version"],
            "out": str(result.out),
        }
        name = f"score {model['name']} {model['version']}"
        run = str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)
        metrics = [Metric(key, value, now, 0) for key, value in _numbers(facts)]
        client.log_batch(run, metrics=metrics)
        client.log_text(run, json.dumps(facts, indent=1), "manifest.json")
        client.set_terminated(run)
        return run


def _experiment(client: MlflowClient, model: Mapping[str, str]) -> str:
    """Return the experiment in which the version of a model was trained."""
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_model_version(model["name"], model["version"])
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise DataError(
            f"the model {model['name']} has no version {model['version']} in this store, in whose experiment "
            "the job could be recorded",
            fix="score models:/NAME@alias of the store with --tracking-uri, or leave out --track",
        ) from error
    return str(client.get_run(version.run_id).info.experiment_id)


def _numbers(facts: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the metrics of a job by name."""
    for name, value in facts["counts"].items():
        if name != "skipped":
            yield f"rows.{name}", float(value)
    yield "rows.skipped", float(sum(facts["counts"]["skipped"].values()))
    yield "score.lowest", facts["lowest"]
    yield "score.highest", facts["highest"]
    for name, share in facts["coverage"].items():
        yield f"coverage.{name}", share
    drift = facts["drift"]
    if drift is not None:
        for name in ("score_psi", "score_ks", "largest"):
            yield f"drift.{name}", drift[name]
        for name, part in drift["coverage"].items():
            yield f"drift.coverage.{name}", part["psi"]
