"""A registry with versions that cost nothing, for tests that only move aliases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import polars as pl
import pytest

from ensembles import MetaLearner, make_meta
from modalrank.config import Config
from modalrank.promotion.aliases import CHAMPION, PREVIOUS, aliases_of
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


def registered_on(result, meta: MetaLearner, uri: str, config: Config | None = None) -> None:
    """Register the trained world under another meta-learner."""
    config = config or result.dataset.config
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URI_VARIABLE, uri)
        record(open_store(config), config, replace(result, stack=replace(result.stack, meta=meta)), {})


def on_one(result, base: str) -> MetaLearner:
    """Return the meta-learner that reads this base alone."""
    best = make_meta("best_single").fit(result.valid.frame)
    best.bases_ = (base,)
    return best


def whole_round(result, cli, uri: str, config: Config, folder: Path) -> None:
    """Register two versions, promote one after the other, score with the champion and roll back."""
    fusion = make_meta("rank_fusion").fit(result.valid.frame)
    for meta in (on_one(result, "popularity"), fusion):
        registered_on(result, meta, uri, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URI_VARIABLE, uri)
        assert cli("promote", NAME, "--version", 1, "--force", "--reason", "a start")[0] == 0
        code, shown, _ = cli("promote", NAME, "--json")
        assert code == 0, shown
        assert json.loads(shown)["moved"] is True

        users, out = folder / "users.parquet", folder / "out"
        pl.DataFrame({"user_id": ["u00", "u01"]}).write_parquet(users)
        model = f"models:/{NAME}@champion"
        assert cli("score", "--model", model, "--users", users, "--top-k", 3, "--out", out)[0] == 0
        scores = pl.read_parquet(out / "**" / "*.parquet")
        assert scores["model_version"].unique().to_list() == ["2"]

        assert cli("rollback", NAME, "--reason", "complaints")[0] == 0
    known = aliases_of(mlflow.MlflowClient(uri, uri), NAME)
    assert (known[CHAMPION], known[PREVIOUS]) == ("1", "2")


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
