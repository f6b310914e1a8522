"""The MLflow store: opened without a race, and the models that are in its registry."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from features.errors import DataError, TryAgainError
from modalrank.config import Config

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

URI_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"


def tracking_uri(config: Config) -> str:
    """Return the store: the environment's word before the config's."""
    return os.environ.get(URI_VARIABLE) or config.tracking.uri


def store_of(given: str) -> str:
    """Return the store that a command was given; the environment's word comes before it."""
    return os.environ.get(URI_VARIABLE) or given


def require_store(config: Config) -> None:
    """Look whether the store and its artefacts answer, before the work whose result they are to keep.

    Writes nothing.

    Raises
    ------
    DataError
        If the artefacts need a package that is not installed.
    TryAgainError
        If one of them does not answer.
    """
    import mlflow

    uri = tracking_uri(config)
    if not _not_yet_there(uri):
        with quiet_mlflow(), _creation_lock(uri), _answering(uri):
            experiment = _client(uri).get_experiment_by_name(config.tracking.experiment)
            if experiment is not None:
                mlflow.artifacts.list_artifacts(artifact_uri=experiment.artifact_location)


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
    with quiet_mlflow(), _creation_lock(uri), _answering(uri):
        client = _client(uri)
        if client.get_experiment_by_name(config.tracking.experiment) is None:
            client.create_experiment(config.tracking.experiment, artifact_location=_artifacts(uri))
    return client


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
    unknown = DataError(f"no model {model} in {config_uri}", fix="modalrank train registers one")
    if _not_yet_there(config_uri):
        raise unknown
    from mlflow.exceptions import MlflowException

    name, _, alias = model.removeprefix("models:/").partition("@")
    name, _, number = name.partition("/")
    with registry(config_uri) as client:
        try:
            found = (
                client.get_model_version_by_alias(name, alias)
                if alias
                else client.get_model_version(name, number)
            )
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise unknown from error
            raise
        return download(config_uri, name, str(found.version)), str(found.version)


@contextmanager
def registry(uri: str) -> Iterator[MlflowClient]:
    """Connect to a store that is there already.

    Raises
    ------
    DataError
        If there is none yet.
    TryAgainError
        If it does not answer.
    """
    if _not_yet_there(uri):
        raise DataError("there is no such store", fix="modalrank train makes it", file=uri)
    with quiet_mlflow(), _answering(uri):
        yield _client(uri)


def download(uri: str, name: str, version: str) -> Path:
    """Return the local bundle folder of a version; its evaluation set lies beside it."""
    import mlflow

    _client(uri)
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}"))
    return folder / "artifacts" / "bundle"


def signature_of(uri: str, name: str, version: str) -> ModelSignature | None:
    """Return the inputs and outputs that a version declares."""
    import mlflow

    _client(uri)
    signature: ModelSignature | None = mlflow.models.get_model_info(f"models:/{name}/{version}").signature
    return signature


def _artifacts(uri: str) -> str | None:
    """Return the artefact folder beside an SQLite file; a server has its own."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "artifacts").as_uri()


def _not_yet_there(uri: str) -> bool:
    """Tell whether this is an SQLite store that opening would create."""
    return uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists()


def _client(uri: str) -> MlflowClient:
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(uri, uri)


@contextmanager
def _answering(uri: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise DataError(
            f"the artefacts of {uri} need a package that is not installed: {error.name}",
            fix=f"pip install {error.name}",
        ) from error
    except _outside() as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TryAgainError(f"the tracking store {uri} does not answer: {reason}") from error


def _outside() -> tuple[type[Exception], ...]:
    """Return what a store, its database or a bucket of artefacts raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    errors: tuple[type[Exception], ...] = (MlflowException, SQLAlchemyError, OSError)
    with suppress(ImportError):
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        errors += (Boto3Error, BotoCoreError, ClientError)
    return errors


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
def quiet_mlflow() -> Iterator[None]:
    """Keep MLflow's and Alembic's own chatter off the user's terminal.

    Its hints about type hints are of no use: one on `predict` would replace the signature that is logged.
    MLflow overrules the filters for some of them, so warnings are caught and all others given on.
    """
    # The first import sets the levels of the loggers.
    import mlflow  # noqa: F401

    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [log.level for log in loggers]
    for log in loggers:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.filterwarnings("ignore", message=".*type hint", category=UserWarning)
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)
    for warning in caught:
        if "type hint" not in str(warning.message):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
