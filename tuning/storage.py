"""Where studies are kept: SQLite by default, and every other URL that Optuna knows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback, get_storage

from features.errors import ConfigError, TryAgainError

SQLITE = "sqlite:///"
# A trial whose process has given no sign of life for GRACE seconds counts as failed.
HEARTBEAT, GRACE = 5, 20
RETRIES = 1


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's progress and the notes on what is experimental in it off the user's terminal."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def retry() -> RetryHeartbeatStaleTrialCallback:
    """Return what puts a failed trial back into the queue once."""
    with quiet_optuna():
        return RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)


def open_storage(url: str, *, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> BaseStorage:
    """Connect to the storage of studies, and make it where it is not there yet.

    Raises
    ------
    ConfigError
        If it is no URL of a storage.
    TryAgainError
        If it does not answer.
    """
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        with quiet_optuna(), _creation_lock(url):
            if url.startswith("redis"):
                return get_storage(url)
            storage = RDBStorage(
                url,
                heartbeat_interval=heartbeat,
                grace_period=grace,
                heartbeat_stale_trial_callback=retry(),
            )
            if url.startswith(SQLITE):
                _write_ahead(storage.engine)
            return optuna.storages.get_storage(storage)
    except (ArgumentError, ImportError, ValueError) as error:
        raise ConfigError(
            f"--storage {url!r}: {_first_line(error)}",
            fix="give a URL that Optuna knows, such as sqlite:///mlruns/optuna.db",
        ) from error
    except (SQLAlchemyError, StorageInternalError, OSError) as error:
        raise TryAgainError(f"the storage of studies {url} does not answer: {_first_line(error)}") from error


def _write_ahead(engine: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
    """Let SQLite write ahead: a commit then needs no flush to disk, and a killed process loses nothing."""
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA busy_timeout=60000")

    # Connections that are open already were made without it.
    engine.dispose()


@contextmanager
def _creation_lock(url: str) -> Iterator[None]:
    """Two processes that make the tables of one SQLite file at once can leave it corrupt."""
    if not url.startswith(SQLITE):
        yield
        return
    file = Path(url.removeprefix(SQLITE))
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        yield


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
