"""A registry with versions that cost nothing, for tests that only move aliases."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from ensembles import MetaLearner, make_meta
from modalrank.config import Config
from modalrank.store import URI_VARIABLE, open_store
from modalrank.tracking import record

MODEL, NAME = "shop", "tiny-log"


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
            client.create_model_version(MODEL, "s3://nowhere/model")
        return client

    return make


def registered_on(result, meta: MetaLearner, uri: str) -> None:
    """Register the trained world under another meta-learner."""
    config = result.dataset.config
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URI_VARIABLE, uri)
        record(open_store(config), config, replace(result, stack=replace(result.stack, meta=meta)), {})


def on_one(result, base: str) -> MetaLearner:
    """Return the meta-learner that reads this base alone."""
    best = make_meta("best_single").fit(result.valid.frame)
    best.bases_ = (base,)
    return best


@pytest.fixture(scope="session")
def three(log_result, first_store, tmp_path_factory) -> Path:
    """A store in which version 1 ranks by popularity, 2 by all bases and 3 by popularity again."""
    copy = copied(first_store, tmp_path_factory.mktemp("three"))
    popular, fusion = on_one(log_result, "popularity"), make_meta("rank_fusion").fit(log_result.valid.frame)
    for meta in (popular, fusion, popular):
        registered_on(log_result, meta, f"sqlite:///{copy}")
    return copy


@pytest.fixture
def versions(three, tmp_path, monkeypatch) -> mlflow.MlflowClient:
    """A copy of that store; its models are where they were."""
    uri = f"sqlite:///{shutil.copy(three, tmp_path / 'mlflow.db')}"
    monkeypatch.setenv(URI_VARIABLE, uri)
    return mlflow.MlflowClient(uri, uri)
