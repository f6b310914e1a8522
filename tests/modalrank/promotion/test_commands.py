"""Promote, rollback and registry as they are typed, on models that were really trained and logged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from ensembles import MetaLearner, make_meta
from modalrank.promotion.aliases import CHAMPION, PREVIOUS, aliases_of
from modalrank.store import URI_VARIABLE, download, open_store
from modalrank.tracking import record
from tests.modalrank.promotion.conftest import copied

NAME = "tiny-log"


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


@pytest.fixture(scope="module")
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


def shut(shown: str) -> set[str]:
    return {gate["name"] for gate in json.loads(shown)["gates"] if not gate["passed"]}


def test_from_the_first_champion_to_a_rollback(versions, cli):
    code, _, told = cli("promote", NAME, "--version", 1)
    assert code == 2 and "--reason" in told

    code, shown, _ = cli("promote", NAME, "--version", 1, "--dry-run", "--json")
    assert code == 4 and "NDCG@5 against popularity" in shut(shown)
    code, shown, _ = cli("promote", NAME, "--version", 1, "--reason", "a start", "--json")
    assert code == 4 and CHAMPION not in aliases_of(versions, NAME)
    code, shown, _ = cli("promote", NAME, "--version", 1, "--force", "--reason", "a start")
    assert code == 0 and "Champion of tiny-log: version 1" in shown

    code, shown, _ = cli("promote", NAME, "--version", 2, "--json")
    assert (code, shut(shown)) == (0, set())
    assert json.loads(shown)["moved"] is True

    code, shown, _ = cli("promote", NAME, "--json")
    assert code == 4, "version 3 is the challenger, and worse"
    assert "NDCG@5 against the champion" in shut(shown)
    known = aliases_of(versions, NAME)
    assert (known[CHAMPION], known[PREVIOUS]) == ("2", "1")
    run = versions.get_model_version(NAME, "3").run_id
    (folder,) = [file.path for file in versions.list_artifacts(run, "promotion")]
    kept = {Path(file.path).name for file in versions.list_artifacts(run, folder)}
    assert kept == {"decision.json", "decision.html"}

    code, shown, _ = cli("rollback", NAME, "--reason", "complaints")
    assert code == 0 and "Champion of tiny-log: version 1; version 2 is previous" in shown
    code, shown, _ = cli("registry", "history", NAME, "--json")
    moves = [(entry["kind"], entry["after"], entry["reason"]) for entry in json.loads(shown)]
    assert moves == [
        ("promote", "1", "a start"),
        ("promote", "2", "every gate is open"),
        ("rollback", "1", "complaints"),
    ]


def test_versions_with_an_alias_are_not_deleted(versions, cli):
    code, _, told = cli("registry", "delete", NAME, "--version", 3)
    assert code == 4 and "is challenger and stays" in told
    assert cli("registry", "delete", NAME, "--version", 2)[0] == 0
    code, shown, _ = cli("registry", "show", NAME, "--json")
    assert code == 0 and [row["version"] for row in json.loads(shown)] == ["3", "1"]
    code, shown, _ = cli("registry", "list", "--json")
    assert json.loads(shown) == [{"model": NAME, "versions": 2, "aliases": {"challenger": "3"}}]
    code, _, told = cli("promote", NAME, "--version", 2)
    assert code == 3 and "has no version 2" in told


def test_a_damaged_challenger_is_refused_and_says_which_file(versions, cli, tmp_path):
    assert cli("promote", NAME, "--version", 2, "--reason", "a start")[0] == 0
    damaged = download(versions.tracking_uri, NAME, "3") / "history.npz"
    kept = shutil.copy(damaged, tmp_path / "kept.npz")
    damaged.write_bytes(b"nonsense")
    try:
        code, shown, _ = cli("promote", NAME, "--json")
    finally:
        shutil.copy(kept, damaged)
    assert code == 4 and shut(shown) == {"integrity: version 3 in a clean process"}
    assert "history.npz" in shown
    assert aliases_of(versions, NAME)[CHAMPION] == "2"


def test_judged_lists_are_promoted_too(judged_result, empty_store, monkeypatch, cli):
    registered_on(judged_result, on_one(judged_result, "linear"), empty_store)
    monkeypatch.setenv(URI_VARIABLE, empty_store)
    name = judged_result.dataset.config.name
    _, shown, _ = cli("promote", name, "--dry-run", "--json")
    gates = {gate["name"]: gate for gate in json.loads(shown)["gates"]}
    assert "NDCG@5 against popularity" not in gates
    assert gates["integrity: scores in a clean process"]["passed"] and gates["no modality at all"]["passed"]


def test_unknown_names_say_where_to_look(versions, cli):
    code, _, told = cli("promote", "nothing")
    assert code == 3 and "modalrank registry list" in told
    code, _, told = cli("rollback", NAME, "--reason", "x")
    assert code == 3 and "no previous champion" in told
    code, _, told = cli("registry", "list", "--tracking-uri", "sqlite:///absent.db")
    assert code == 0, "the variable names the store"
