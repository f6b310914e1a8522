"""The record of a training run in MLflow, and its model as a version in the registry."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from packaging.requirements import Requirement
from packaging.version import Version

from modalrank.bundle import LIBRARIES, Bundle
from modalrank.config import Config, dump_config
from modalrank.drift import Reference
from modalrank.promotion.frozen import freeze
from modalrank.robustness.contestants import references_of
from modalrank.sampling_choice import SamplerTrial
from modalrank.store import quiet_mlflow, tracking_uri
from modalrank.training import TrainResult
from rankers.transformer_ranker import LIBRARIES as NEURAL_LIBRARIES
from rankers.transformer_ranker import TransformerRanker

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER = "challenger"
PACKAGES = ("features", "rankers", "ensembles", "tuning", "modalrank")
EXAMPLE_ROWS = 5


@dataclass(frozen=True)
class Record:
    """Where a training run was recorded."""

    uri: str
    run_id: str
    experiment_id: str
    model: str
    version: str


def record(client: MlflowClient, config: Config, result: TrainResult, plots: Mapping[str, Any]) -> Record:
    """Log a training run and register its model as a new version with the alias `challenger`."""
    import mlflow

    experiment = client.get_experiment_by_name(config.tracking.experiment)
    bundle = bundle_of(config, result)
    with (
        mlflow.start_run(experiment_id=experiment.experiment_id, run_name=config.name) as run,
        tempfile.TemporaryDirectory() as temporary,
    ):
        _log_facts(client, run.info.run_id, config, result)
        for name, figure in plots.items():
            mlflow.log_figure(figure, f"plots/{name}.png")
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        bundle.save(folder)
        evaluation = Path(temporary) / "evaluation"
        evaluation.mkdir()
        freeze(bundle, result).save(evaluation)
        references = Path(temporary) / "references"
        references.mkdir()
        references_of(result).save(references)
        folders = {"bundle": folder, "evaluation": evaluation, "references": references}
        info = _log_model(bundle, folders, result)
    number = _register(client, config.name, info.model_uri, run.info.run_id, info.model_id)
    return Record(tracking_uri(config), run.info.run_id, experiment.experiment_id, config.name, number)


def bundle_of(config: Config, result: TrainResult) -> Bundle:
    """Return what a training run found, ready to be saved or to score."""
    stack, model = result.stack.pruned(), result.model
    if not stack.uses_family(TransformerRanker.family):
        # Only a transformer reads sequences, which cost time at scoring.
        model = replace(model, settings=replace(model.settings, sequence=0))
    return Bundle(
        config=config,
        queries=result.dataset.queries,
        items=result.dataset.items,
        encoders=result.encodings.encoders,
        model=model,
        stack=stack,
        blocks={name: result.blocks[name] for name in stack.bases},
        reference=Reference.of(
            result.test_scores[result.chosen], result.test.frame.modalities, result.test.frame.present
        ),
    )


def _log_facts(client: MlflowClient, run_id: str, config: Config, result: TrainResult) -> None:
    import mlflow
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    values = {f"test.{name}": interval.mean for name, interval in result.metrics.items()}
    for standing in result.standings:
        values[f"valid.{standing.role.split(':')[0]}.{standing.name}"] = standing.valid.mean
    for part in result.slices:
        values[f"slice.{part.kind}.{part.name}.{part.metric}"] = part.value.mean
    values |= {f"ceiling.{name}": share for name, share in result.ceilings.items()}
    values |= {f"seconds.{name}": spent for name, spent in result.seconds.items()}
    metrics = [Metric(_metric_name(key), value, now, 0) for key, value in values.items() if value == value]
    params = [Param(key, value[:6000]) for key, value in _flat(config.model_dump(mode="json"))]
    tags = [
        RunTag("chosen", result.chosen),
        *(RunTag("sampling", trial.named) for trial in result.samplers if trial.chosen),
        RunTag("git_commit", _git_commit() or "not in a git work tree"),
        RunTag("python", platform.python_version()),
    ]
    client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
    mlflow.log_text(dump_config(config), "config.yaml")
    mlflow.log_dict({name: version(name) for name in ("mlflow", *LIBRARIES)}, "versions.json")
    mlflow.log_dict(result.dataset.input_digests(), "inputs_sha256.json")
    mlflow.log_dict({"trials": [asdict(trial) for trial in result.trials]}, "retriever_trials.json")
    mlflow.log_text(leaderboard_table(result).write_csv(), "leaderboard.csv")
    mlflow.log_text(slice_table(result).write_csv(), "slices.csv")
    if result.samplers:
        mlflow.log_text(sampler_table(result.samplers).write_csv(), "samplers.csv")
    if result.encodings.bad:
        mlflow.log_text(pl.DataFrame(result.encodings.bad, orient="row").write_csv(), "bad_media.csv")


def leaderboard_table(result: TrainResult) -> pl.DataFrame:
    """Return the leaderboard with intervals, best on validation first."""
    rows = []
    for s in result.standings:
        row: dict[str, Any] = {"name": s.name, "role": s.role, "chosen": s.chosen}
        for split, interval in (("valid", s.valid), ("test", s.test)):
            if interval is not None:
                row |= {split: interval.mean, f"{split}_low": interval.low, f"{split}_high": interval.high}
        rows.append(row | {"gate": s.note})
    return pl.DataFrame(rows)


def sampler_table(samplers: Sequence[SamplerTrial]) -> pl.DataFrame:
    """Return every sampler that was tried, with its mean, its paired gain and its worst slice."""
    rows = []
    for trial in samplers:
        row: dict[str, Any] = {"sampler": trial.named, "rung": trial.rung}
        for name, value in (("ndcg", trial.ndcg), ("gain", trial.gain)):
            row |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
        if trial.worst is not None:
            row |= {f"worst_{name}": value for name, value in asdict(trial.worst).items()}
        rows.append(row | {"chosen": trial.chosen})
    return pl.DataFrame(rows)


def slice_table(result: TrainResult) -> pl.DataFrame:
    """Return the slices of the test with n and intervals."""
    return pl.DataFrame(
        [{"kind": s.kind, "name": s.name, "metric": s.metric, **asdict(s.value)} for s in result.slices]
    )


def _log_model(bundle: Bundle, folders: Mapping[str, Path], result: TrainResult) -> Any:  # noqa: ANN401 - MLflow's type
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, DataType, Schema

    from modalrank.dataset import row_columns

    features = row_columns(bundle.config.modalities)
    ids = [ColSpec(DataType.string, name) for name in ("query", "item")]
    inputs = Schema([*ids, *(ColSpec(DataType.double, name, required=False) for name in features)])
    outputs = Schema(
        [
            *ids,
            ColSpec(DataType.double, "score"),
            ColSpec(DataType.long, "rank"),
            ColSpec(DataType.string, "modalities_used"),
            ColSpec(DataType.string, "fallback"),
        ]
    )
    root = Path(__file__).resolve().parents[1]
    with quiet_mlflow():
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("serving_model.py")),
            artifacts={name: str(folder) for name, folder in folders.items()},
            code_paths=[str(root / package) for package in PACKAGES],
            signature=ModelSignature(inputs=inputs, outputs=outputs),
            input_example=_example(bundle, result, features),
            pip_requirements=_requirements(bundle),
        )


def _register(client: MlflowClient, name: str, source: str, run_id: str, model_id: str) -> str:
    """Make a new version of the model and point the alias `challenger` at it; return its number."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    registered = client.create_model_version(name, source, run_id, model_id=model_id)
    client.set_registered_model_alias(name, CHALLENGER, registered.version)
    return str(registered.version)


def _requirements(bundle: Bundle) -> list[str]:
    """Return what this distribution needs, for a transformer too if the model holds one, with versions."""
    needed = [Requirement(text) for text in requires("modalrank") or []]
    names = [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    if bundle.stack.uses_family(TransformerRanker.family):
        names += NEURAL_LIBRARIES
    # A build is named after its CUDA (2.13.0+cu130), and only the version is known everywhere.
    return [f"{name}=={Version(version(name)).public}" for name in sorted(names)]


def _example(bundle: Bundle, result: TrainResult, features: list[str]) -> Any:  # noqa: ANN401 - pandas
    test = result.test
    queries = test.queries.repeat(test.frame.group_sizes)[:EXAMPLE_ROWS]
    items = test.items[:EXAMPLE_ROWS]
    pairs = pl.DataFrame({"query": bundle.queries.ids[queries], "item": bundle.items.ids[items]})
    if features:
        rows = result.dataset.interactions.select("query", "item", *features)
        pairs = pairs.join(rows, on=["query", "item"], how="left").with_columns(
            pl.col(features).cast(pl.Float64)
        )
    return pairs.to_pandas()


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


def _metric_name(name: str) -> str:
    """Return the name with only what MLflow allows."""
    for mark, word in (("@", "_at_"), ("+", "_and_"), ("(", ""), (")", "")):
        name = name.replace(mark, word)
    return name


def _git_commit() -> str | None:
    from mlflow.utils.git_utils import get_git_commit

    commit: str | None = get_git_commit(str(Path(__file__).resolve().parent))
    return commit
