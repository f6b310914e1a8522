"""Whoever comes second has to look again, and no crash loses the champion."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter

import mlflow
import pytest

from features.errors import TryAgainError
from modalrank.promotion.aliases import (
    CHAMPION,
    FAULT_VARIABLE,
    PENDING,
    PREVIOUS,
    STEPS,
    aliases_of,
    history,
    move,
    repair,
)
from modalrank.promotion.lock import promotion_lock
from tests.modalrank.promotion.conftest import MODEL

PROMOTERS = 20
CLEAN = multiprocessing.get_context("forkserver")
CLEAN.set_forkserver_preload(
    ["mlflow", "mlflow.store.model_registry.sqlalchemy_store", "modalrank.promotion.lock"]
)


def promote_as_one_of_many(uri: str, expected: str | None, after: str, fault: str = "") -> None:
    """Move the champion as the command does; the exit code is 5 for who comes second."""
    os.environ[FAULT_VARIABLE] = fault
    client = mlflow.MlflowClient(uri, uri)
    try:
        with promotion_lock(client, uri, MODEL):
            repair(client, MODEL)
            move(client, MODEL, "promote", expected, after, "a test", "")
    except TryAgainError as error:
        os._exit(error.exit_code)


def run(*jobs: tuple) -> list[int]:
    """Run each job in a process of its own, all at once; returns their exit codes."""
    processes = [CLEAN.Process(target=promote_as_one_of_many, args=job) for job in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
    return [process.exitcode for process in processes]


def state(client: mlflow.MlflowClient) -> tuple[str | None, str | None, int]:
    known = aliases_of(client, MODEL)
    return known.get(CHAMPION), known.get(PREVIOUS), len(history(client, MODEL))


def test_moves_are_in_the_ledger_and_previous_follows(shelf):
    client = shelf(3)
    for before, after in ((None, "1"), ("1", "3"), ("3", "2")):
        move(client, MODEL, "promote", before, after, f"to {after}", "runs:/x")
    assert state(client) == ("2", "3", 3)
    entries = history(client, MODEL)
    assert [(e.number, e.before, e.after, e.reason) for e in entries] == [
        (1, None, "1", "to 1"),
        (2, "1", "3", "to 3"),
        (3, "3", "2", "to 2"),
    ]
    assert repair(client, MODEL) is None


def test_a_champion_that_changed_meanwhile_is_not_overwritten(shelf):
    client = shelf(3)
    move(client, MODEL, "promote", None, "1", "", "")
    with pytest.raises(TryAgainError, match="is version 1 and was None"):
        move(client, MODEL, "promote", None, "2", "", "")
    assert state(client) == ("1", None, 1)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("first", [True, False])
def test_a_kill_at_any_step_leaves_what_the_next_command_repairs(shelf, empty_store, step, first):
    client = shelf(3)
    expected = None
    if not first:
        move(client, MODEL, "promote", None, "1", "", "")
        move(client, MODEL, "promote", "1", "2", "", "")
        expected = "2"
    before = state(client)
    assert run((empty_store, expected, "3", step)) == [-signal.SIGKILL]
    after = ("3", expected, before[2] + 1)
    if not first:
        assert aliases_of(client, MODEL)[CHAMPION] in ("2", "3"), "there is a champion at any time"
    repair(client, MODEL)
    assert state(client) == (before if step in ("intent", "previous") else after)
    assert PENDING not in client.get_registered_model(MODEL).tags
    assert run((empty_store, state(client)[0], "1", "")) == [0], "and the next promotion works"


def test_of_many_promoters_at_once_one_wins(shelf, empty_store):
    client = shelf(PROMOTERS + 1)
    move(client, MODEL, "promote", None, "1", "", "")
    codes = run(*((empty_store, "1", str(number + 2)) for number in range(PROMOTERS)))
    assert Counter(codes) == {0: 1, 5: PROMOTERS - 1}
    champion, previous, moves = state(client)
    assert int(champion) == codes.index(0) + 2 and previous == "1" and moves == 2
    assert PENDING not in client.get_registered_model(MODEL).tags


def test_a_held_lock_is_told_as_try_again(shelf, empty_store):
    client = shelf(1)
    with (
        promotion_lock(client, empty_store, MODEL),
        pytest.raises(TryAgainError, match=f"another promotion of {MODEL}"),
        promotion_lock(client, empty_store, MODEL, wait=0.05),
    ):
        pass
