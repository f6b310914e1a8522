from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.history import UNKNOWN, History, IdIndex
from tests.features.planted import history_of

names = st.lists(st.text(alphabet="abz09é", min_size=1, max_size=4), max_size=12)

HISTORY = history_of(
    [
        # user, item, label, time
        (0, 1, 5.0, 30),
        (0, 2, 1.0, 40),
        (0, 3, 3.0, 10),
        (0, 0, 4.0, 20),
        (2, 3, 5.0, 5),
        (2, 1, 3.0, 6),
    ],
    n_users=4,
    n_items=5,
    positive_from=3.0,
)


@given(names, st.randoms(use_true_random=False))
def test_index_order_of_the_ids_means_nothing(ids, random):
    index = IdIndex.of(ids)
    assert index.ids.tolist() == sorted(set(ids))
    shuffled = random.sample(ids, len(ids))
    np.testing.assert_array_equal(IdIndex.of(shuffled).ids, index.ids)


@given(names, names)
def test_index_codes_point_at_the_ids_and_unknown_ones_nowhere(ids, others):
    index = IdIndex.of(ids)
    codes = index.codes(others)
    assert codes.dtype == np.int64
    for name, code in zip(others, codes, strict=True):
        assert code == UNKNOWN if name not in ids else index.ids[code] == name


@given(names, names)
def test_index_extend_keeps_every_code_and_appends_the_rest_sorted(ids, more):
    index = IdIndex.of(ids)
    grown = index.extend(more)
    np.testing.assert_array_equal(grown.ids[: len(index)], index.ids)
    assert grown.ids[len(index) :].tolist() == sorted(set(more) - set(ids))
    assert (grown.codes([*ids, *more]) != UNKNOWN).all()


def test_index_extend_longer_ids_are_not_cut():
    grown = IdIndex.of(["a", "b"]).extend(["a much longer id"])
    assert grown.ids[grown.codes(["a much longer id"])].tolist() == ["a much longer id"]


def test_index_extend_nothing_new_is_the_same_index():
    index = IdIndex.of(["a", "b"])
    assert index.extend(["b"]) is index


def test_liked_and_disliked_share_what_was_seen_by_label():
    np.testing.assert_array_equal(
        HISTORY.liked.toarray(), [[1, 1, 0, 1, 0], [0] * 5, [0, 1, 0, 1, 0], [0] * 5]
    )
    np.testing.assert_array_equal(HISTORY.disliked.toarray(), [[0, 0, 1, 0, 0], [0] * 5, [0] * 5, [0] * 5])
    np.testing.assert_array_equal(
        HISTORY.seen.toarray(), HISTORY.liked.toarray() + HISTORY.disliked.toarray()
    )
    assert HISTORY.liked.dtype == np.float32


def test_is_positive_label_at_the_border_is_liked():
    np.testing.assert_array_equal(HISTORY.is_positive, [True, False, True, True, True, True])


def test_popularity_counts_users_who_liked_and_activity_items_met():
    np.testing.assert_array_equal(HISTORY.popularity, [1, 2, 0, 2, 0])
    np.testing.assert_array_equal(HISTORY.activity, [4, 0, 2, 0])


def test_duplicates_count_once():
    history = history_of(
        [(0, 1, 5.0, 1), (0, 1, 4.0, 2), (1, 1, 5.0, 3), (0, 2, 0.0, 4), (0, 2, 0.0, 5)], 2, 3
    )
    np.testing.assert_array_equal(history.liked.toarray(), [[0, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(history.disliked.toarray(), [[0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(history.popularity, [0, 2, 0])
    np.testing.assert_array_equal(history.activity, [2, 1])


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, [[0, 1, 0, 0, 0], [0, 1, 0, 0, 0]]),
        (2, [[1, 1, 0, 0, 0], [0, 1, 0, 1, 0]]),
        (9, [[1, 1, 0, 1, 0], [0, 1, 0, 1, 0]]),
    ],
)
def test_recent_is_the_last_liked_items_and_skips_the_disliked_last(k, expected):
    recent = HISTORY.recent(k).toarray()
    np.testing.assert_array_equal(recent[[0, 2]], expected)
    assert not recent[[1, 3]].any()


def test_recent_item_liked_again_takes_one_place():
    history = history_of([(0, 0, 1.0, 1), (0, 1, 1.0, 2), (0, 2, 1.0, 3), (0, 2, 1.0, 4)], 1, 3)
    np.testing.assert_array_equal(history.recent(2).toarray(), [[0, 1, 1]])


def test_recent_item_liked_again_counts_at_its_last_time():
    history = history_of([(0, 0, 1.0, 1), (0, 1, 1.0, 2), (0, 0, 1.0, 3)], 1, 2)
    np.testing.assert_array_equal(history.recent(1).toarray(), [[1, 0]])


def test_recent_equal_times_go_by_item_and_not_by_row():
    rows = [(0, 2, 1.0, 7), (0, 0, 1.0, 7), (0, 1, 1.0, 7)]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        history = history_of([rows[row] for row in order], 1, 3)
        np.testing.assert_array_equal(history.recent(2).toarray(), [[1, 1, 0]])


def test_recent_and_recency_without_times_raise():
    for view in ("recent", "recency"):
        with pytest.raises(ValueError, match="need times"):
            getattr(replace(HISTORY, times=None), view)(1)


@pytest.mark.parametrize(("half_life", "half"), [(1, 0.5), (2, np.sqrt(0.5))])
def test_recency_halves_the_weight_every_half_life_items_back(half_life, half):
    weights = HISTORY.recency(half_life)
    assert weights.dtype == np.float32
    expected = [[half, 1, 0, half**2, 0], [0] * 5, [0, 1, 0, half, 0], [0] * 5]
    np.testing.assert_allclose(weights.toarray(), expected, rtol=1e-6)


def test_recency_item_liked_again_counts_once_at_its_last_time():
    history = history_of([(0, 0, 1.0, 1), (0, 1, 1.0, 2), (0, 0, 1.0, 3)], 1, 2)
    np.testing.assert_array_equal(history.recency(1).toarray(), [[1, 0.5]])


interactions = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from([0.0, 1.0, 2.0]), st.integers(0, 9)),
    max_size=30,
)


@given(interactions, st.integers(1, 4))
def test_recent_equals_a_plain_loop(rows, k):
    expected = np.zeros((4, 6))
    for user in range(4):
        mine = sorted((-time, item) for who, item, label, time in rows if who == user and label >= 1)
        for item in list(dict.fromkeys(item for _, item in mine))[:k]:
            expected[user, item] = 1
    np.testing.assert_array_equal(history_of(rows, 4, 6).recent(k).toarray(), expected)


@given(interactions, st.randoms(use_true_random=False), st.sampled_from([0.5, 1.0, 5.0]))
def test_recency_weighs_what_is_liked_in_any_order_of_the_rows(rows, random, half_life):
    history = history_of(rows, 4, 6)
    weights = history.recency(half_life)
    shuffled = history_of(random.sample(rows, len(rows)), 4, 6).recency(half_life)
    np.testing.assert_array_equal(weights.toarray(), shuffled.toarray())
    np.testing.assert_array_equal(weights.toarray() > 0, history.liked.toarray() > 0)
    np.testing.assert_array_equal((weights == 1).toarray(), history.recent(1).toarray() > 0)


@given(interactions, st.randoms(use_true_random=False))
def test_matrices_do_not_depend_on_the_order_of_the_rows(rows, random):
    history, shuffled = (history_of(r, 4, 6) for r in (rows, random.sample(rows, len(rows))))
    for name in ("liked", "disliked", "seen"):
        one, other = getattr(history, name), getattr(shuffled, name)
        for part in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


@given(interactions, st.data())
def test_take_is_the_history_of_those_rows(rows, data):
    keep = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    history = history_of(rows, 4, 6)
    history.liked, history.popularity, history.activity  # noqa: B018 - nothing cached may be inherited
    taken = history.take(np.array(keep, dtype=bool))
    expected = history_of([row for row, kept in zip(rows, keep, strict=True) if kept], 4, 6)
    for name in ("users", "items", "labels", "times", "popularity", "activity"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(expected, name))
    np.testing.assert_array_equal(taken.recent(2).toarray(), expected.recent(2).toarray())


def test_take_without_times_stays_without():
    assert replace(HISTORY, times=None).take(np.arange(6) < 2).times is None


def test_resized_new_users_and_items_have_nothing():
    grown: History = HISTORY.resized(6, 8)
    assert grown.liked.shape == (6, 8)
    np.testing.assert_array_equal(grown.seen.toarray()[:4, :5], HISTORY.seen.toarray())
    assert grown.seen.nnz == HISTORY.seen.nnz
    np.testing.assert_array_equal(grown.popularity, [*HISTORY.popularity, 0, 0, 0])
    np.testing.assert_array_equal(grown.activity, [*HISTORY.activity, 0, 0])


def test_places_count_the_liked_items_from_the_newest():
    rows = [(0, 2, 1.0, 5), (0, 1, 1.0, 9), (0, 3, 0.0, 10), (0, 2, 1.0, 7), (1, 0, 1.0, 1)]
    places = history_of(rows, 3, 4).places.toarray()
    np.testing.assert_array_equal(places, [[0, 1, 2, 0], [1, 0, 0, 0], [0, 0, 0, 0]])


def test_last_times_are_those_of_any_interaction():
    rows = [(0, 2, 1.0, 5), (0, 1, 0.0, 9), (2, 0, 1.0, -3)]
    np.testing.assert_array_equal(history_of(rows, 3, 4).last_times, [9, np.nan, -3])


@pytest.mark.parametrize("what", ["places", "last_times"])
def test_places_and_last_times_without_times_raise(what):
    timeless = replace(history_of([(0, 0, 1.0, 0)], 1, 1), times=None)
    with pytest.raises(ValueError, match="need times"):
        getattr(timeless, what)
