"""A registry with versions that cost nothing, for tests that only move aliases."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from modalrank.config import Config
from modalrank.store import open_store

MODEL = "shop"


def copied(store: str, folder: Path) -> Path:
    """Return a copy of an initialised store, because migrations take seconds."""
    open_store(Config.model_validate({"tracking": {"uri": store}, "data": {"form": "judged"}}))
    return Path(shutil.copy(store.removeprefix("sqlite:///"), folder / "mlflow.db"))


@pytest.fixture(scope="session")
def first_store(tmp_path_factory) -> str:
    """A store that is initialised once and never written to."""
    return f"sqlite:///{tmp_path_factory.mktemp('first') / 'mlflow.db'}"


@pytest.fixture
def empty_store(tmp_path, first_store) -> str:
    return f"sqlite:///{copied(first_store, tmp_path)}"


@pytest.fixture
def shelf(empty_store) -> Callable[[int], mlflow.MlflowClient]:
    """Make a model with so many versions and return the client."""

    def make(versions: int) -> mlflow.MlflowClient:
        client = mlflow.MlflowClient(empty_store, empty_store)
        client.create_registered_model(MODEL)
        for _ in range(versions):
            client.create_model_version(MODEL, "file:///nowhere")
        return client

    return make
