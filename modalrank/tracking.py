"""MLflow: the store, the record of a training run, and the registry."""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from filelock import FileLock
from packaging.requirements import Requirement

from features.errors import DataError, TryAgainError
from modalrank.bundle import LIBRARIES, Bundle
from modalrank.config import Config, dump_config
from modalrank.training import TrainResult

if TYPE_CHECKING:
    from mlflow import MlflowClient

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

logger = logging.getLogger(__name__)

CHALLENGER = "challenger"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
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


def tracking_uri(config: Config) -> str:
    """Return the store: the environment's word before the config's."""
    return os.environ.get(URI_VARIABLE) or config.tracking.uri


def open_store(config: Config) -> MlflowClient:
    """Connect to the store and its experiment, making both where they are not there yet.

    The first creation of an SQLite store is done under a file lock, because two processes at once can
    leave it corrupt for good.

    Raises
    ------
    TryAgainError
        If the store does not answer.
    """
    uri = tracking_uri(config)
    with _quiet_mlflow(), _creation_lock(uri):
        import mlflow
        from mlflow.exceptions import MlflowException

        try:
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
            client = mlflow.MlflowClient(uri, uri)
            if client.get_experiment_by_name(config.tracking.experiment) is None:
                client.create_experiment(config.tracking.experiment, artifact_location=_artifacts(uri))
        except (MlflowException, OSError) as error:
            raise TryAgainError(f"the tracking store {uri} does not answer: {error}") from error
    return client


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
        info = _log_model(bundle, folder, result)
    number = _register(client, config.name, info.model_uri, run.info.run_id, info.model_id)
    return Record(tracking_uri(config), run.info.run_id, experiment.experiment_id, config.name, number)


def bundle_of(config: Config, result: TrainResult) -> Bundle:
    """Return what a training run found, ready to be saved or to score."""
    stack = result.stack.pruned()
    return Bundle(
        config=config,
        queries=result.dataset.queries,
        items=result.dataset.items,
        encoders=result.encodings.encoders,
        model=result.model,
        stack=stack,
        blocks={name: result.blocks[name] for name in stack.bases},
    )


def fetch_model(config_uri: str, model: str) -> tuple[Path, str]:
    """Return the local bundle folder and the version of `models:/NAME@alias`, `models:/NAME/2` or a folder.

    Raises
    ------
    DataError
        If there is no such model.
    """
    if not model.startswith("models:/"):
        folder = Path(model)
        if not folder.is_dir():
            raise DataError("no such model", fix="give models:/NAME@challenger or a folder", file=model)
        return folder, folder.name
    with _quiet_mlflow():
        import mlflow
        from mlflow.exceptions import MlflowException

        mlflow.set_tracking_uri(config_uri)
        mlflow.set_registry_uri(config_uri)
        client = mlflow.MlflowClient(config_uri, config_uri)
        name, _, alias = model.removeprefix("models:/").partition("@")
        try:
            if alias:
                found = client.get_model_version_by_alias(name, alias)
            else:
                name, _, number = name.partition("/")
                found = client.get_model_version(name, number)
            folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{found.version}"))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise DataError(
                    f"no model {model} in {config_uri}", fix="modalrank train registers one"
                ) from error
            raise TryAgainError(f"the registry {config_uri} does not answer: {error}") from error
    return folder / "artifacts" / "bundle", str(found.version)


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


def slice_table(result: TrainResult) -> pl.DataFrame:
    """Return the slices of the test with n and intervals."""
    return pl.DataFrame(
        [{"kind": s.kind, "name": s.name, "metric": s.metric, **asdict(s.value)} for s in result.slices]
    )


def _log_model(bundle: Bundle, folder: Path, result: TrainResult) -> Any:  # noqa: ANN401 - MLflow's type
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
        ]
    )
    root = Path(__file__).resolve().parents[1]
    with _quiet_mlflow():
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("serving_model.py")),
            artifacts={"bundle": str(folder)},
            code_paths=[str(root / package) for package in PACKAGES],
            signature=ModelSignature(inputs=inputs, outputs=outputs),
            input_example=_example(bundle, result, features),
            pip_requirements=_requirements(),
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


def _requirements() -> list[str]:
    """Return what this distribution needs, at the versions that are installed."""
    needed = [Requirement(text) for text in requires("modalrank") or []]
    names = [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    return [f"{name}=={version(name)}" for name in sorted(names)]


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


def _artifacts(uri: str) -> str | None:
    """Return the artefact folder beside an SQLite file; a server has its own."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "artifacts").as_uri()


@contextmanager
def _creation_lock(uri: str) -> Iterator[None]:
    if not uri.startswith(SQLITE):
        yield
        return
    database = Path(uri.removeprefix(SQLITE))
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):
        yield


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """Keep MLflow's and Alembic's own chatter off the user's terminal.

    The hint to add type hints to `predict` is of no use: they would replace the signature that is logged.
    """
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*type hint", category=UserWarning)
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
