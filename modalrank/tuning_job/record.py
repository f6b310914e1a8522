"""The record of a search in MLflow: a run for the command, one a study, and nested in it one a trial."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from modalrank.config import Config, dump_config
from modalrank.store import SQLITE, open_store, registry, tracking_uri
from tuning.plots import study_figures
from tuning.spaces import Value
from tuning.study import Found, Outcome

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT, STUDY, TRIAL = "mlflow.parentRunId", "modalrank.study", "modalrank.trial"
# MLflow keeps no longer tags.
LONGEST_TAG = 5000
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "fail": "FAILED"}

Section = Callable[[Mapping[str, Value]], Mapping[str, Any]]


@dataclass(frozen=True)
class TrialRecorder:
    """Writes trials as nested runs; can be sent to another process.

    Attributes
    ----------
    run_id
        The run of the study.
    objectives
        Names of the values.
    section
        Gives the part of the config that a setting stands for.
    """

    uri: str
    experiment_id: str
    run_id: str
    objectives: tuple[str, ...]
    section: Section

    def __call__(self, outcome: Outcome) -> None:
        """Write a trial that has ended."""
        from mlflow.entities import Metric, Param

        start = int(1000 * outcome.started)
        end = start + int(1000 * outcome.seconds)
        tags = {
            PARENT: self.run_id,
            TRIAL: str(outcome.number),
            "state": outcome.state,
            "default": str(outcome.default).lower(),
            "config": yaml.safe_dump(self.section(outcome.params), sort_keys=False)[:LONGEST_TAG],
        }
        if outcome.error:
            tags["error"] = outcome.error[:LONGEST_TAG]
        values = {"seconds": outcome.seconds, "peak_mib": outcome.peak_mib, **outcome.parts}
        if outcome.values:
            values |= dict(zip(self.objectives, outcome.values, strict=True))
        name = f"trial {outcome.number}"
        metrics = [Metric(key, value, end, 0) for key, value in values.items() if value == value]
        params = [Param(key, str(value)) for key, value in outcome.params.items()]
        with registry(self.uri) as client:
            run = client.create_run(self.experiment_id, start_time=start, tags=tags, run_name=name)
            client.log_batch(run.info.run_id, metrics=metrics, params=params)
            client.set_terminated(run.info.run_id, STATUS[outcome.state], end_time=end)


@dataclass(frozen=True)
class SearchRecord:
    """The run of one `modalrank tune`, found again by the study's name and storage when it goes on."""

    uri: str
    experiment_id: str
    run_id: str
    storage: str

    @classmethod
    def begin(cls, config: Config, study: str, storage: str) -> SearchRecord:
        """Find or make the run of a search."""
        client = open_store(config)
        experiment = client.get_experiment_by_name(config.tracking.experiment).experiment_id
        uri, where = tracking_uri(config), hashlib.sha256(_whole(storage).encode()).hexdigest()[:16]
        run_id, new = _found_or_made(client, experiment, study, where, {})
        if new:
            client.log_text(run_id, dump_config(config), "config.yaml")
        return cls(uri, experiment, run_id, where)

    def trials_of(self, study: str, objectives: tuple[str, ...], section: Section) -> TrialRecorder:
        """Find or make the run of a study, and return what writes its trials."""
        parent = {PARENT: self.run_id}
        with registry(self.uri) as client:
            run_id, _ = _found_or_made(client, self.experiment_id, study, self.storage, parent)
        return TrialRecorder(self.uri, self.experiment_id, run_id, objectives, section)

    def end_study(self, recorder: TrialRecorder, found: Found) -> None:
        """Write what the study found, and the trials whose process was killed before it could."""
        with registry(self.uri) as client:
            known = _trials_below(client, self.experiment_id, recorder.run_id)
        for outcome in found.outcomes:
            if str(outcome.number) not in known:
                recorder(outcome)
        best = found.best
        with registry(self.uri) as client:
            client.log_dict(recorder.run_id, dict(recorder.section(best.params)), "best.yaml")
            for name, figure in study_figures(found).items():
                client.log_figure(recorder.run_id, figure, f"plots/{name}.png")
        numbers = {
            "best_ndcg": best.values[0] if best.values else float("nan"),
            "default_ndcg": found.default_ndcg,
            "trials": float(len(found.outcomes)),
        }
        self._end(recorder.run_id, numbers)

    def end(self, numbers: Mapping[str, float], texts: Mapping[str, str]) -> None:
        """Write the result of the search."""
        with registry(self.uri) as client:
            for file, text in texts.items():
                client.log_text(self.run_id, text, file)
        self._end(self.run_id, numbers)

    def fail(self) -> None:
        """Mark the run as failed; the same command goes on with it."""
        with registry(self.uri) as client:
            client.set_terminated(self.run_id, "FAILED")

    def _end(self, run_id: str, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        metrics = [Metric(name, value, now, 0) for name, value in numbers.items() if value == value]
        with registry(self.uri) as client:
            client.log_batch(run_id, metrics=metrics)
            client.set_terminated(run_id)


def _whole(storage: str) -> str:
    """Return the URL of a storage with the full path of an SQLite file."""
    if not storage.startswith(SQLITE):
        return storage
    return SQLITE + str(Path(storage.removeprefix(SQLITE)).resolve())


def _found_or_made(
    client: MlflowClient, experiment: str, study: str, storage: str, tags: Mapping[str, str]
) -> tuple[str, bool]:
    """Return the run of a study and whether it is a new one; an earlier one runs again."""
    mine = f"tags.`{STUDY}` = '{study}' and tags.`modalrank.storage` = '{storage}'"
    runs = client.search_runs([experiment], mine, max_results=1, order_by=["start_time ASC"])
    if runs:
        client.update_run(runs[0].info.run_id, status="RUNNING")
        return str(runs[0].info.run_id), False
    named = {STUDY: study, "modalrank.storage": storage, **tags}
    return str(client.create_run(experiment, tags=named, run_name=study).info.run_id), True


def _trials_below(client: MlflowClient, experiment: str, run_id: str) -> set[str]:
    """Return the numbers of the trials that a study's run holds."""
    found, token = set[str](), None
    while True:
        page = client.search_runs([experiment], f"tags.`{PARENT}` = '{run_id}'", page_token=token)
        found |= {run.data.tags[TRIAL] for run in page}
        token = page.token
        if not token:
            return found
