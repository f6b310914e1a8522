"""Promote, rollback and registry as they are typed, on models that were really trained and logged."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from modalrank.promotion.aliases import CHAMPION, PENDING, PREVIOUS, aliases_of, history
from modalrank.store import URI_VARIABLE, download
from tests.modalrank.promotion.conftest import NAME, on_one, registered_on


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
    assert json.loads(shown) == [{"model": NAME, "versions": 2, "aliases": {"challenger": "3"}, "note": ""}]
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


def test_a_move_that_was_cut_off_is_told_and_then_undone(versions, cli):
    assert cli("promote", NAME, "--version", 2, "--reason", "a start")[0] == 0
    entry = replace(history(versions, NAME)[0], number=2, before="2", after="3")
    versions.set_registered_model_tag(NAME, PENDING, json.dumps(asdict(entry)))
    for words in (("registry", "history", NAME), ("registry", "list"), ("promote", NAME, "--dry-run")):
        _, shown, told = cli(*words)
        assert "to version 3 was cut off" in shown + told
    code, _, told = cli("promote", NAME)
    assert code == 4 and "undid a promote to version 3" in told
    assert PENDING not in versions.get_registered_model(NAME).tags


def test_a_version_that_cannot_be_measured_is_not_forced(versions, cli, tmp_path):
    assert cli("promote", NAME, "--version", 2, "--reason", "a start")[0] == 0
    damaged = download(versions.tracking_uri, NAME, "3") / "items.npy"
    kept = shutil.copy(damaged, tmp_path / "kept.npy")
    damaged.write_bytes(b"nonsense")
    try:
        code, _, _ = cli("promote", NAME, "--force", "--reason", "hurry")
    finally:
        shutil.copy(kept, damaged)
    assert code == 4 and aliases_of(versions, NAME)[CHAMPION] == "2"


def test_files_of_the_working_folder_do_not_take_the_place_of_modules(versions, cli):
    Path("features.py").write_text("raise SystemExit(9)")
    assert cli("promote", NAME, "--version", 2, "--reason", "a start")[0] == 0
