"""One promotion of a model at a time, wherever its registry is."""

from __future__ import annotations

import hashlib
import os
import platform
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from features.errors import TryAgainError
from modalrank.store import SQLITE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

WAIT = 60.0
PAUSE = 0.2
SUFFIX = ".lock"
ABSENT = "RESOURCE_DOES_NOT_EXIST"


@contextmanager
def promotion_lock(client: MlflowClient, uri: str, name: str, wait: float = WAIT) -> Iterator[None]:
    """Hold the only right to move the aliases of a model.

    An SQLite store has a lock file beside it and a PostgreSQL store an advisory lock, which end with the
    process that holds them. A tracking server has a registered model `NAME.lock`, because making one is
    atomic there; it outlives a process that dies, and `modalrank registry unlock NAME` removes it.

    Raises
    ------
    TryAgainError
        If somebody else holds the lock for longer than `wait` seconds.
    """
    if uri.startswith(SQLITE):
        held = _file_lock(uri, name, wait)
    elif uri.startswith("postgresql"):
        held = _advisory_lock(uri, name, wait)
    else:
        held = _registry_lock(client, name, wait)
    with held:
        yield


def remove_lock(client: MlflowClient, name: str) -> bool:
    """Remove what a promotion that died left on a tracking server; returns whether there was one."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_registered_model(name + SUFFIX)
    except MlflowException as error:
        if error.error_code != ABSENT:
            raise
        return False
    return True


def _busy(name: str, more: str = "") -> TryAgainError:
    return TryAgainError(f"another promotion of {name} is going on{more}; run the command again later")


@contextmanager
def _file_lock(uri: str, name: str, wait: float) -> Iterator[None]:
    try:
        with FileLock(f"{uri.removeprefix(SQLITE)}.{name}.lock", timeout=wait):
            yield
    except Timeout as error:
        raise _busy(name) from error


@contextmanager
def _advisory_lock(uri: str, name: str, wait: float) -> Iterator[None]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError
    from sqlalchemy.pool import NullPool

    key = int.from_bytes(hashlib.sha256(f"modalrank {name}".encode()).digest()[:8], signed=True)
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        try:
            connection.execute(text(f"SET lock_timeout = {round(1000 * wait)}"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})
        except OperationalError as error:
            raise _busy(name) from error
        yield


@contextmanager
def _registry_lock(client: MlflowClient, name: str, wait: float) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    deadline = time.monotonic() + wait
    owner = f"process {os.getpid()} on {platform.node()}, {uuid.uuid4().hex[:8]}"
    while True:
        try:
            client.create_registered_model(name + SUFFIX, {"owner": owner})
            break
        except MlflowException as error:
            # A server that finds the name taken looks it up, and its holder may have let go in between.
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", ABSENT):
                raise
            if time.monotonic() > deadline:
                raise _busy(name, _held_by(client, name)) from error
        time.sleep(PAUSE)
    try:
        yield
    finally:
        # Somebody may have removed the lock, and somebody else taken it.
        held = _held(client, name)
        if held is not None and held.tags.get("owner") == owner:
            remove_lock(client, name)


def _held(client: MlflowClient, name: str) -> RegisteredModel | None:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name + SUFFIX)
    except MlflowException as error:
        if error.error_code != ABSENT:
            raise
        return None


def _held_by(client: MlflowClient, name: str) -> str:
    held = _held(client, name)
    if held is None:
        return ""
    age = time.time() - held.creation_timestamp / 1000
    hint = f"modalrank registry unlock {name}"
    return f" since {age:.0f} s by {held.tags.get('owner')} (if that has died: {hint})"
