from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.score_frame import ScoreFrame, concatenate

PARTS = ("scores", "labels", "present", "context")


def frame_of(sizes, weights=None) -> ScoreFrame:
    """Return a frame in which every value tells the row it came from."""
    n = int(np.sum(sizes))
    rows = np.arange(n, dtype=np.float64)
    return ScoreFrame(
        scores=np.stack([rows, rows + 100], axis=1),
        bases=("one", "two"),
        labels=rows.astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        modalities=("text",),
        present=np.arange(n)[:, None] % 2 == 0,
        base_modality={"one": "text"},
        context=(rows[:, None] + 200).astype(np.float32),
        context_names=("activity",),
        query_weights=None if weights is None else np.asarray(weights, dtype=np.float32),
    )


def rows_in(frame: ScoreFrame) -> np.ndarray:
    """Return the original row numbers, after a check that all columns moved together."""
    rows = frame.labels.astype(np.int64)
    np.testing.assert_array_equal(frame.scores, np.stack([rows, rows + 100], axis=1))
    np.testing.assert_array_equal(frame.context[:, 0], rows + 200)
    np.testing.assert_array_equal(frame.present[:, 0], rows % 2 == 0)
    return rows


sizes_of_queries = st.lists(st.integers(0, 4), min_size=1, max_size=8)


def test_frame_sizes_follow_the_offsets():
    frame = frame_of([2, 0, 3])
    assert frame.n_queries == 3
    np.testing.assert_array_equal(frame.group_sizes, [2, 0, 3])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scores", np.zeros((5, 3))),
        ("scores", np.zeros((4, 2))),
        ("present", np.zeros((5, 2), bool)),
        ("context", np.zeros((5, 0), np.float32)),
    ],
)
def test_frame_of_another_shape_raises(name, value):
    with pytest.raises(ValueError, match=f"{name}: got shape"):
        replace(frame_of([2, 3]), **{name: value})


@pytest.mark.parametrize("offsets", [[], [0, 2, 4], [1, 5], [0, 2, 6]])
def test_frame_offsets_that_miss_rows_raise(offsets):
    with pytest.raises(ValueError, match="offsets must run from 0 to 5"):
        replace(frame_of([2, 3]), offsets=np.array(offsets, dtype=np.int64))


def test_take_queries_may_repeat_and_keeps_the_weights():
    taken = frame_of([2, 1, 3], weights=[5, 6, 7]).take_queries(np.array([1, 2, 1]))
    np.testing.assert_array_equal(rows_in(taken), [2, 3, 4, 5, 2])
    np.testing.assert_array_equal(taken.offsets, [0, 1, 4, 5])
    np.testing.assert_array_equal(taken.query_weights, [6, 7, 6])


@pytest.mark.parametrize("weights", [None, [5, 6, 7]])
def test_take_queries_given_weights_replace_those_there(weights):
    taken = frame_of([2, 1, 3], weights).take_queries(np.array([2, 0]), np.array([0.5, 2], dtype=np.float32))
    np.testing.assert_array_equal(taken.query_weights, [0.5, 2])


def test_take_queries_none_is_an_empty_frame():
    taken = frame_of([2, 1]).take_queries(np.array([], dtype=np.int64))
    assert (taken.n_queries, len(taken.labels)) == (0, 0)


def test_take_rows_query_left_empty_keeps_its_place_and_weight():
    frame = frame_of([2, 1, 3], weights=[5, 6, 7])
    taken = frame.take_rows(np.array([True, True, False, False, True, True]))
    np.testing.assert_array_equal(rows_in(taken), [0, 1, 4, 5])
    np.testing.assert_array_equal(taken.offsets, [0, 2, 2, 4])
    np.testing.assert_array_equal(taken.query_weights, [5, 6, 7])


def test_concatenate_frame_without_weights_weighs_1():
    stacked = concatenate([frame_of([1, 2], weights=[3, 4]), frame_of([2])])
    np.testing.assert_array_equal(stacked.query_weights, [3, 4, 1])
    np.testing.assert_array_equal(stacked.offsets, [0, 1, 3, 5])
    np.testing.assert_array_equal(rows_in(stacked), [0, 1, 2, 0, 1])
    assert concatenate([frame_of([1]), frame_of([2])]).query_weights is None


@given(sizes_of_queries)
def test_concatenate_of_single_queries_is_the_whole(sizes):
    frame = frame_of(sizes, weights=np.arange(len(sizes)))
    stacked = concatenate([frame.take_queries(np.array([q])) for q in range(frame.n_queries)])
    for part in (*PARTS, "offsets", "query_weights"):
        np.testing.assert_array_equal(getattr(stacked, part), getattr(frame, part))


@given(sizes_of_queries, st.data())
def test_take_rows_every_row_stays_in_its_query(sizes, data):
    frame = frame_of(sizes)
    n = len(frame.labels)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    taken = frame.take_rows(keep)
    query = np.repeat(np.arange(len(sizes)), sizes)
    np.testing.assert_array_equal(rows_in(taken), np.flatnonzero(keep))
    np.testing.assert_array_equal(np.repeat(np.arange(len(sizes)), taken.group_sizes), query[keep])


@pytest.mark.parametrize("view", ["z", "unit", "rank"])
@given(sizes_of_queries, st.data())
def test_views_of_a_part_are_those_of_the_whole_lists(view, sizes, data):
    frame = frame_of(sizes)
    generator = np.random.default_rng(len(sizes))
    shuffled = generator.permutation(frame.scores)
    frame, alone = replace(frame, scores=shuffled), replace(frame, scores=shuffled)
    whole = getattr(frame.views, view)
    positions = np.array(data.draw(st.lists(st.integers(0, len(sizes) - 1))), dtype=np.int64)
    expected = getattr(alone.take_queries(positions).views, view)
    np.testing.assert_array_equal(getattr(frame.take_queries(positions).views, view), expected)
    keep = generator.random(len(whole)) < 0.5
    np.testing.assert_array_equal(getattr(alone.thinned(keep).views, view), whole[keep])
