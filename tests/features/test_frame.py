from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import DataError
from features.frame import RankingFrame, concatenate, rows_of_queries


def frame_of(queries, weights=None) -> RankingFrame:
    """Return a frame in which every value tells the row it came from."""
    rows = np.arange(len(queries))
    return RankingFrame(
        features=np.stack([rows, rows + 100, rows + 200], axis=1).astype(np.float32),
        feature_names=("a0", "b0", "a1"),
        blocks={"a": (0, 2), "b": (1,)},
        labels=rows.astype(np.float32),
        queries=np.asarray(queries, dtype=np.int64),
        items=rows + 1000,
        modalities=("text",),
        present=rows[:, None] % 2 == 0,
        query_weights=None if weights is None else np.asarray(weights, dtype=np.float32),
    )


def rows_in(frame: RankingFrame) -> np.ndarray:
    """Return the original row numbers, after a check that all columns moved together."""
    rows = frame.labels.astype(np.int64)
    np.testing.assert_array_equal(frame.items, rows + 1000)
    np.testing.assert_array_equal(frame.features, np.stack([rows, rows + 100, rows + 200], axis=1))
    np.testing.assert_array_equal(frame.present[:, 0], rows % 2 == 0)
    return rows


sizes_of_queries = st.lists(st.integers(1, 5), min_size=1, max_size=8)


def frame_with(sizes) -> RankingFrame:
    codes = np.random.default_rng(len(sizes)).permutation(len(sizes)) * 3
    return frame_of(np.repeat(codes, sizes), weights=np.arange(len(sizes)))


def test_frame_offsets_and_group_sizes_follow_the_rows():
    frame = frame_of([7, 7, 3, 9, 9, 9])
    np.testing.assert_array_equal(frame.offsets, [0, 2, 3, 6])
    np.testing.assert_array_equal(frame.group_sizes, [2, 1, 3])
    assert (frame.n_rows, frame.n_queries) == (6, 3)


def test_frame_without_rows_has_no_query():
    frame = frame_of([])
    np.testing.assert_array_equal(frame.offsets, [0])
    assert (frame.n_rows, frame.n_queries, len(frame.group_sizes)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("queries", "row", "query"), [([1, 1, 2, 1], 4, 1), ([5, 4, 6, 6, 4, 5], 5, 4), ([0, 1, 0, 1], 3, 0)]
)
def test_frame_query_that_starts_again_raises_with_its_row(queries, row, query):
    with pytest.raises(DataError, match=f"row {row}: query {query} starts again") as caught:
        frame_of(queries)
    assert caught.value.row == row


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("features", np.zeros((2, 3), np.float32)),
        ("features", np.zeros((3, 2), np.float32)),
        ("labels", np.zeros(4, np.float32)),
        ("items", np.zeros(2, np.int64)),
        ("present", np.zeros((3, 2), bool)),
        ("query_weights", np.ones(3, np.float32)),
    ],
)
def test_frame_of_another_shape_raises(name, value):
    with pytest.raises(ValueError, match=f"{name}: got .*expected"):
        replace(frame_of([0, 0, 1]), **{name: value})


def test_frame_without_presence_has_every_modality():
    frame = RankingFrame(
        features=np.zeros((2, 1), np.float32),
        feature_names=("a",),
        blocks={"a": (0,)},
        labels=np.zeros(2, np.float32),
        queries=np.zeros(2, np.int64),
        items=np.arange(2),
        modalities=("text", "image"),
    )
    np.testing.assert_array_equal(frame.present, np.ones((2, 2), bool))


def test_row_weights_repeat_the_query_weights():
    np.testing.assert_array_equal(frame_of([4, 4, 2], weights=[3, 5]).row_weights, [3, 3, 5])
    assert frame_of([4, 4, 2]).row_weights is None


def test_select_blocks_keeps_the_columns_in_the_order_asked_for():
    frame = frame_of([0, 0, 1])
    selected = frame.select_blocks(["b", "a"])
    assert selected.feature_names == ("b0", "a0", "a1")
    assert selected.blocks == {"b": (0,), "a": (1, 2)}
    np.testing.assert_array_equal(selected.features, frame.features[:, [1, 0, 2]])
    assert selected.features.flags.c_contiguous


def test_select_blocks_one_block_has_only_its_columns():
    selected = frame_of([0, 0, 1]).select_blocks(["a"])
    assert selected.feature_names == ("a0", "a1")
    assert selected.blocks == {"a": (0, 1)}


def test_select_blocks_unknown_name_raises_with_those_there():
    with pytest.raises(KeyError, match=r"unknown block 'c', the frame has \['a', 'b'\]"):
        frame_of([0]).select_blocks(["a", "c"])


def test_take_queries_once_each_keeps_codes_and_weights():
    taken = frame_of([7, 7, 3, 9, 9], weights=[1, 2, 3]).take_queries(np.array([2, 0]))
    np.testing.assert_array_equal(rows_in(taken), [3, 4, 0, 1])
    np.testing.assert_array_equal(taken.queries, [9, 9, 7, 7])
    np.testing.assert_array_equal(taken.query_weights, [3, 1])


def test_take_queries_repeated_stay_apart():
    taken = frame_of([7, 7, 3], weights=[1, 2]).take_queries(np.array([0, 0, 1, 0]))
    np.testing.assert_array_equal(rows_in(taken), [0, 1, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(taken.group_sizes, [2, 2, 1, 2])
    np.testing.assert_array_equal(taken.query_weights, [1, 1, 2, 1])


def test_take_queries_given_weights_replace_those_there():
    weights = np.array([0.5, 2.5], dtype=np.float32)
    for frame in (frame_of([7, 7, 3], weights=[1, 2]), frame_of([7, 7, 3])):
        np.testing.assert_array_equal(frame.take_queries(np.array([1, 1]), weights).query_weights, [0.5, 2.5])


def test_take_queries_none_is_an_empty_frame():
    taken = frame_of([7, 7, 3], weights=[1, 2]).take_queries(np.array([], dtype=np.int64))
    assert (taken.n_rows, taken.n_queries, len(taken.query_weights)) == (0, 0, 0)


def test_take_rows_queries_left_empty_disappear_with_their_weight():
    frame = frame_of([7, 7, 3, 9, 9], weights=[1, 2, 3])
    taken = frame.take_rows(np.array([False, True, False, True, True]))
    np.testing.assert_array_equal(rows_in(taken), [1, 3, 4])
    np.testing.assert_array_equal(taken.queries, [7, 9, 9])
    np.testing.assert_array_equal(taken.query_weights, [1, 3])


def test_take_rows_none_is_an_empty_frame():
    taken = frame_of([7, 7, 3], weights=[1, 2]).take_rows(np.zeros(3, dtype=bool))
    assert (taken.n_rows, taken.n_queries, len(taken.query_weights)) == (0, 0, 0)


def test_concatenate_equal_codes_become_different_queries():
    stacked = concatenate([frame_of([5, 5, 1]), frame_of([5, 1, 1])])
    np.testing.assert_array_equal(stacked.group_sizes, [2, 1, 1, 2])
    np.testing.assert_array_equal(rows_in(stacked), [0, 1, 2, 0, 1, 2])
    assert stacked.query_weights is None


def test_concatenate_frame_without_weights_weighs_1():
    stacked = concatenate([frame_of([0, 1], weights=[3, 4]), frame_of([0, 0])])
    np.testing.assert_array_equal(stacked.query_weights, [3, 4, 1])


@pytest.mark.parametrize("change", [{"feature_names": ("a0", "b0", "a2")}, {"modalities": ("image",)}])
def test_concatenate_other_columns_raise(change):
    frame = frame_of([0, 1])
    with pytest.raises(ValueError, match="other columns"):
        concatenate([frame, replace(frame, **change)])


@given(st.lists(st.integers(0, 5), max_size=8), st.data())
def test_rows_of_queries_are_the_slices_one_after_the_other(sizes, data):
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    some = st.lists(st.integers(0, len(sizes) - 1), max_size=8) if sizes else st.just([])
    positions = data.draw(some)
    expected = [row for q in positions for row in range(offsets[q], offsets[q + 1])]
    np.testing.assert_array_equal(rows_of_queries(offsets, np.array(positions, dtype=np.int64)), expected)


@given(sizes_of_queries, st.randoms(use_true_random=False))
def test_take_queries_there_and_back_is_the_same_frame(sizes, random):
    frame = frame_with(sizes)
    order = np.array(random.sample(range(len(sizes)), len(sizes)))
    back = frame.take_queries(order).take_queries(np.argsort(order))
    np.testing.assert_array_equal(rows_in(back), np.arange(frame.n_rows))
    np.testing.assert_array_equal(back.queries, frame.queries)
    np.testing.assert_array_equal(back.query_weights, frame.query_weights)


@given(sizes_of_queries)
def test_concatenate_of_single_queries_is_the_whole(sizes):
    frame = frame_with(sizes)
    stacked = concatenate([frame.take_queries(np.array([q])) for q in range(frame.n_queries)])
    np.testing.assert_array_equal(rows_in(stacked), np.arange(frame.n_rows))
    np.testing.assert_array_equal(stacked.offsets, frame.offsets)
    np.testing.assert_array_equal(stacked.query_weights, frame.query_weights)


@given(sizes_of_queries, st.data())
def test_take_rows_keeps_the_weight_of_every_row(sizes, data):
    frame = frame_with(sizes)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=frame.n_rows, max_size=frame.n_rows)))
    taken = frame.take_rows(keep)
    np.testing.assert_array_equal(rows_in(taken), np.flatnonzero(keep))
    np.testing.assert_array_equal(taken.row_weights, frame.row_weights[keep])
