from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from features import candidates
from features.candidates import Candidates, recall_ceilings, retrieve, score_given, top_items, user_batches
from features.history import History
from features.retrievers import fit_behaviour
from tests.features.planted import TableRetriever, block_history, history_of, self_history

NAN = np.nan
FIRST = TableRetriever("first", np.array([[9, 8, 7, 6, 5], [1, 2, NAN, 4, 3]], dtype=np.float32))
SECOND = TableRetriever("second", np.array([[0, -1, 1, NAN, 2], [NAN] * 5], dtype=np.float32))
TWO = self_history(2, 5)
BOTH_USERS = np.array([0, 1])


def together(parts: list[Candidates]) -> Candidates:
    return Candidates(
        np.concatenate([part.queries for part in parts]),
        np.concatenate([part.items for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def retrieved(retrievers, history: History, users, per_source, met=None) -> Candidates:
    return together(list(retrieve(retrievers, history, users, [per_source] * len(retrievers), met)))


def assert_same(one: Candidates, other: Candidates) -> None:
    for name in ("queries", "items", "scores"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_top_items_the_highest_positive_ones():
    scores = np.array([[3, 1, 2, 5], [0, -1, 2, NAN], [NAN] * 4], dtype=np.float32)
    expected = np.array([[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(top_items(scores, 2), expected)


def test_top_items_more_than_there_are_takes_all_positive():
    np.testing.assert_array_equal(
        top_items(np.array([[1, 0, 2]], dtype=np.float32), 9), [[True, False, True]]
    )


some_scores = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 9)),
    elements=st.sampled_from([NAN, -1.0, 0.0, 1.0, 2.0, 3.5]),
)


@given(some_scores, st.integers(1, 10))
def test_top_items_none_left_out_is_better(scores, n):
    for row, chosen in zip(scores, top_items(scores, n), strict=True):
        positive = row > 0
        assert chosen.sum() == min(n, positive.sum())
        assert not (chosen & ~positive).any()
        left_out = row[positive & ~chosen]
        assert not len(left_out) or left_out.max() <= row[chosen].min()


def test_retrieve_is_the_union_with_the_scores_of_all_sources():
    got = retrieved([FIRST, SECOND], TWO, BOTH_USERS, per_source=2)
    np.testing.assert_array_equal(got.queries, [0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(got.items, [0, 1, 2, 4, 3, 4])
    np.testing.assert_array_equal(got.scores, [[9, 0], [8, -1], [7, 1], [5, 2], [4, NAN], [3, NAN]])
    np.testing.assert_array_equal(got.offsets, [0, 4, 6])


def test_retrieve_takes_as_many_of_each_source_as_its_depth_says():
    got = together(list(retrieve([FIRST, SECOND], TWO, BOTH_USERS, [3, 1], None)))
    np.testing.assert_array_equal(got.items, [0, 1, 2, 4, 1, 3, 4])


def test_retrieve_met_items_make_room_for_others():
    met = sparse.csr_array(np.array([[1, 0, 0, 0, 1], [0, 0, 0, 0, 0]], dtype=np.float32))
    got = retrieved([FIRST, SECOND], TWO, BOTH_USERS, per_source=2, met=met)
    np.testing.assert_array_equal(got.items, [1, 2, 3, 4])
    np.testing.assert_array_equal(got.queries, [0, 0, 1, 1])


def test_retrieve_gives_more_of_every_source_where_candidates_are_too_few():
    few = retrieved([FIRST, SECOND], TWO, BOTH_USERS, per_source=1)
    assert few.offsets.tolist() == [0, 2, 3]
    enough = together(list(retrieve([FIRST, SECOND], TWO, BOTH_USERS, [1, 1], None, at_least=2)))
    np.testing.assert_array_equal(enough.queries, [0, 0, 1, 1])
    np.testing.assert_array_equal(enough.items, [*few.items[:2], 3, 4])
    all_known = retrieved([FIRST, SECOND], TWO, BOTH_USERS, per_source=5)
    assert_same(
        together(list(retrieve([FIRST, SECOND], TWO, BOTH_USERS, [1, 1], None, at_least=9))), all_known
    )


def test_retrieve_only_the_users_asked_for():
    got = retrieved([FIRST], TWO, np.array([1]), per_source=1)
    np.testing.assert_array_equal(got.queries, [1])
    np.testing.assert_array_equal(got.items, [3])


def test_candidates_without_rows_have_no_query():
    nothing = Candidates(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 1), np.float32))
    np.testing.assert_array_equal(nothing.offsets, [0])


def real_world() -> tuple[list, History]:
    history = block_history(20, 3, 12, n_cold=2)
    als = {"factors": 4, "regularization": 1.0, "iterations": 3}
    return [
        fit_behaviour(kind, history, als if kind == "als" else {}) for kind in ("popularity", "ease", "als")
    ], history


@pytest.mark.parametrize("users_a_batch", [1, 3, 7])
def test_retrieve_batches_do_not_change_the_result(users_a_batch, monkeypatch):
    retrievers, history = real_world()
    users = np.arange(20)
    whole = retrieved(retrievers, history, users, 5, history.seen)
    monkeypatch.setattr(candidates, "BATCH_CELLS", users_a_batch * history.n_items)
    parts = list(retrieve(retrievers, history, users, [5] * len(retrievers), history.seen))
    assert len(parts) == -(-20 // users_a_batch)
    assert_same(together(parts), whole)


@pytest.mark.parametrize("users_a_batch", [1, 3, 512])
def test_score_given_equals_the_scores_of_retrieve(users_a_batch, monkeypatch):
    retrievers, history = real_world()
    whole = retrieved(retrievers, history, np.arange(0, 20, 2), 5)
    monkeypatch.setattr(candidates, "BATCH_CELLS", users_a_batch * history.n_items)
    parts = list(score_given(retrievers, history, whole.queries, whole.items))
    assert len(parts) == -(-10 // users_a_batch)
    assert_same(together(parts), whole)


def test_score_given_without_retrievers_has_no_score():
    queries, items = np.array([0, 0, 1]), np.array([1, 2, 0])
    (only,) = score_given([], TWO, queries, items)
    assert_same(only, Candidates(queries, items, np.zeros((3, 0), np.float32)))


def test_retrieve_user_of_whom_nothing_is_known_gets_the_popular_items():
    rows = [(0, 1, 1.0, 0), (0, 2, 1.0, 0), (1, 1, 1.0, 0), (1, 2, 1.0, 0), (2, 1, 1.0, 0), (2, 3, 1.0, 0)]
    history = history_of(rows, n_users=4, n_items=5)
    retrievers = [fit_behaviour(kind, history, {}) for kind in ("popularity", "item_knn")]
    got = retrieved(retrievers, history, np.array([3]), per_source=2, met=history.seen)
    np.testing.assert_array_equal(got.items, [1, 2])
    np.testing.assert_array_equal(got.scores, [[3, NAN], [2, NAN]])


# User 0 is to find items 1 and 4, user 1 item 3; the disliked item 2 is nothing to find.
HELD_OUT = history_of([(0, 1, 1.0, 0), (0, 4, 1.0, 0), (0, 2, 0.0, 0), (1, 3, 1.0, 0)], 2, 5)


def test_recall_ceilings_hand_computed():
    # Unseen: user 0 is shown 1, 2 by the first and 4, 2 by the second; user 1 is shown 3, 4 by the first.
    got = recall_ceilings([FIRST, SECOND], TWO, HELD_OUT, [2, 2])
    assert got == {"first": 2 / 3, "second": 1 / 3, "union": 1.0}


def test_recall_ceilings_seen_items_take_places_where_they_are_not_excluded():
    # Now the first shows user 0 the items 0 and 1.
    got = recall_ceilings([FIRST, SECOND], TWO, HELD_OUT, [1, 1], exclude_seen=False)
    assert got == {"first": 1 / 3, "second": 1 / 3, "union": 2 / 3}


def test_recall_ceilings_nothing_held_out_is_0():
    nothing = history_of([(0, 1, 0.0, 0)], 2, 5)
    assert recall_ceilings([FIRST], TWO, nothing, [2]) == {"first": 0.0, "union": 0.0}


def test_recall_ceilings_batches_do_not_change_the_result(monkeypatch):
    retrievers, history = real_world()
    held_out = block_history(20, 3, 12, n_cold=2, seed=1)
    whole = recall_ceilings(retrievers, history, held_out, [4] * len(retrievers))
    monkeypatch.setattr(candidates, "BATCH_CELLS", 1)
    assert recall_ceilings(retrievers, history, held_out, [4] * len(retrievers)) == whole
    assert 0 < whole["ease"] <= whole["union"] < 1


def test_user_batches_are_never_empty_and_keep_the_order(monkeypatch):
    monkeypatch.setattr(candidates, "BATCH_CELLS", 10)
    assert [batch.tolist() for batch in user_batches(np.array([3, 5, 8]), 5)] == [[3, 5], [8]]
    assert [batch.tolist() for batch in user_batches(np.array([3, 5]), 1000)] == [[3], [5]]
    assert list(user_batches(np.zeros(0, np.int64), 5)) == []
