from __future__ import annotations

import doctest

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import splits
from features.errors import DataError
from features.splits import (
    assign_split,
    by_global_time,
    by_query_groups,
    by_user_time,
    forward_cuts,
    hidden_folds,
    query_folds,
)

STAGES = {"train": 0, "valid": 1, "test": 2}


@st.composite
def logs(draw, distinct_times: bool = False) -> pl.DataFrame:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6))
    n = sum(sizes)
    times = draw(
        st.permutations(range(n)) if distinct_times else st.lists(st.integers(0, 5), min_size=n, max_size=n)
    )
    users = np.repeat(np.arange(len(sizes)), sizes)
    items = np.concatenate([np.arange(size) for size in sizes])
    return pl.DataFrame({"query": users.astype(str), "item": items.astype(str), "time": list(times)})


shares = st.floats(0, 0.45)
seeds = st.integers(0, 2**40)


def stages(frame: pl.DataFrame, split: pl.Series) -> pl.DataFrame:
    return frame.with_columns(split, stage=split.replace_strict(STAGES))


def has_future_in_an_earlier_split(frame: pl.DataFrame) -> bool:
    pairs = frame.join(frame, how="cross")
    return bool(((pairs["stage"] < pairs["stage_right"]) & (pairs["time"] > pairs["time_right"])).any())


def test_docstring_examples_hold():
    assert doctest.testmod(splits).attempted > 0
    assert doctest.testmod(splits).failed == 0


@given(logs(), shares, shares, seeds)
@settings(max_examples=40, deadline=None)
def test_user_time_split_keeps_the_future_of_a_user_out_of_earlier_splits(log, valid, test, seed):
    frame = stages(log, by_user_time(log, valid, test, seed))
    for user in frame.partition_by("query"):
        assert not has_future_in_an_earlier_split(user)
        assert (user["split"] == "train").any()
        assert abs((user["split"] == "test").sum() - test * len(user)) <= 1


@given(logs(), shares, shares)
@settings(max_examples=40, deadline=None)
def test_global_time_split_keeps_the_future_of_all_out_of_earlier_splits(log, valid, test):
    frame = stages(log, by_global_time(log, valid, test))
    assert not has_future_in_an_earlier_split(frame)
    assert frame.group_by("time").agg(pl.col("split").n_unique())["split"].max() == 1


@given(
    logs(), st.randoms(use_true_random=False), st.sampled_from(["user_time", "global_time", "query"]), seeds
)
@settings(max_examples=60, deadline=None)
def test_split_of_a_row_does_not_depend_on_the_order_of_the_rows(log, random, by, seed):
    order = list(range(len(log)))
    random.shuffle(order)
    try:
        straight = assign_split(log, by, 0.2, 0.3, seed)
    except DataError:
        return
    shuffled = assign_split(log[order], by, 0.2, 0.3, seed)
    key = ["query", "item"]
    assert straight.sort(key).equals(shuffled.sort(key))


@given(logs(distinct_times=True), st.sampled_from(["user_time", "global_time", "query"]))
@settings(max_examples=40, deadline=None)
def test_split_does_not_depend_on_item_ids_where_times_differ(log, by):
    renamed = log.with_columns(item=pl.int_range(pl.len(), 0, -1).cast(pl.String))
    try:
        expected = assign_split(log, by, 0.2, 0.3)["split"]
    except DataError:
        return
    assert assign_split(renamed, by, 0.2, 0.3)["split"].equals(expected)


def test_user_time_split_of_ties_ignores_the_order_of_the_ids():
    log = pl.DataFrame({"query": ["u"] * 1000, "item": [f"{i:04d}" for i in range(1000)], "time": [1] * 1000})
    held_out = (by_user_time(log, 0.0, 0.5) == "test").to_numpy()
    assert held_out.sum() == 500
    assert 200 < held_out[:500].sum() < 300
    assert by_user_time(log, 0.0, 0.5, seed=1).to_list() != by_user_time(log, 0.0, 0.5, seed=0).to_list()


@given(logs(), st.floats(0.1, 0.4), seeds)
@settings(max_examples=40, deadline=None)
def test_query_split_keeps_queries_whole(log, share, seed):
    split = by_query_groups(log["query"], share, share, seed)
    per_query = (
        log.with_columns(split)
        .group_by("query")
        .agg(pl.col("split").n_unique(), pl.first("split").alias("s"))
    )
    assert per_query["split"].max() == 1
    assert abs((per_query["s"] == "test").sum() - share * len(per_query)) <= 1


def test_query_split_differs_by_seed_and_repeats_by_seed():
    queries = pl.Series([str(number) for number in range(100)])
    first = by_query_groups(queries, 0.2, 0.2, seed=1)
    assert first.equals(by_query_groups(queries, 0.2, 0.2, seed=1))
    assert not first.equals(by_query_groups(queries, 0.2, 0.2, seed=2))


def test_column_split_is_taken_over_and_required():
    log = pl.DataFrame({"query": ["u"], "item": ["a"], "split": ["test"]})
    assert assign_split(log, "column", 0.1, 0.1)["split"].to_list() == ["test"]
    with pytest.raises(DataError, match="split column"):
        assign_split(log.drop("split"), "column", 0.1, 0.1)


def test_split_replaces_a_split_column_of_the_data():
    log = pl.DataFrame({"query": ["u"] * 4, "item": list("abcd"), "time": range(4), "split": ["test"] * 4})
    split = assign_split(log, "user_time", 0.25, 0.25)["split"]
    assert split.to_list() == ["train", "train", "valid", "test"]


@pytest.mark.parametrize("by", ["user_time", "global_time"])
def test_time_split_without_times_is_refused(by):
    with pytest.raises(DataError, match="time column"):
        assign_split(pl.DataFrame({"query": ["u"], "item": ["a"]}), by, 0.1, 0.1)


@pytest.mark.parametrize(("valid", "test"), [(0.5, 0.5), (-0.1, 0.2)])
def test_split_with_impossible_shares_is_refused(valid, test):
    with pytest.raises(DataError, match="shares"):
        assign_split(pl.DataFrame({"query": ["u"], "item": ["a"], "time": [1]}), "user_time", valid, test)


def test_split_that_leaves_a_part_empty_is_refused():
    log = pl.DataFrame({"query": ["u"] * 4, "item": list("abcd"), "time": [1] * 4})
    with pytest.raises(DataError, match="no train row"):
        assign_split(log, "global_time", 0.2, 0.2)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60), st.integers(2, 6), seeds, st.booleans())
@settings(max_examples=60, deadline=None)
def test_hidden_folds_spread_each_user_evenly_and_leave_everybody_warm(users, n_folds, seed, timed):
    queries = np.array(users, dtype=np.int64)
    times = np.arange(len(users))[::-1].copy() if timed else None
    folds = hidden_folds(queries, n_folds, seed, times)
    for user in np.unique(queries):
        own = folds[queries == user]
        if len(own) == 1:
            assert own.tolist() == [-1]
            continue
        counts = np.bincount(own, minlength=n_folds)
        assert counts.max() - counts.min() <= 1
        assert counts.max() < len(own)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=60), st.integers(2, 6), seeds, st.booleans())
@settings(max_examples=60, deadline=None)
def test_hidden_folds_that_hide_single_ones_too_hide_every_row_once(users, n_folds, seed, timed):
    queries = np.array(users, dtype=np.int64)
    times = np.arange(len(users)) if timed else None
    kept = hidden_folds(queries, n_folds, seed, times)
    folds = hidden_folds(queries, n_folds, seed, times, hide_single=True)
    single = np.bincount(queries)[queries] == 1
    assert ((folds >= 0) & (folds < n_folds)).all()
    assert folds[~single].tolist() == kept[~single].tolist()


def test_hidden_folds_deal_single_rows_evenly():
    counts = np.bincount(hidden_folds(np.arange(20_000), 5, seed=3, hide_single=True))
    assert len(counts) == 5 and counts.min() > 0.9 * counts.max()


@given(logs(distinct_times=True), st.randoms(use_true_random=False), seeds)
@settings(max_examples=40, deadline=None)
def test_hidden_folds_by_time_do_not_depend_on_the_order_of_the_rows(log, random, seed):
    queries, times = log["query"].cast(pl.Int64).to_numpy(), log["time"].to_numpy()
    order = np.arange(len(log))
    random.shuffle(order)
    folds = hidden_folds(queries, 3, seed, times)
    assert hidden_folds(queries[order], 3, seed, times[order]).tolist() == folds[order].tolist()


@given(logs(distinct_times=True), seeds)
@settings(max_examples=40, deadline=None)
def test_hidden_folds_of_a_user_do_not_depend_on_the_others(log, seed):
    queries, times = log["query"].cast(pl.Int64).to_numpy(), log["time"].to_numpy()
    own = queries == 0
    for clock in (times, None):
        alone = hidden_folds(queries[own], 3, seed, None if clock is None else clock[own])
        assert alone.tolist() == hidden_folds(queries, 3, seed, clock)[own].tolist()


def test_hidden_folds_are_balanced_over_users_and_differ_by_seed():
    queries = np.repeat(np.arange(20_000), 2)
    counts = np.bincount(hidden_folds(queries, 5, seed=3))
    assert counts.min() > 0.9 * counts.max()
    assert hidden_folds(queries, 5, seed=3).tolist() != hidden_folds(queries, 5, seed=4).tolist()


def test_hidden_folds_without_times_ignore_the_place_of_a_row():
    folds = hidden_folds(np.repeat(np.arange(3000), 10), 2, seed=0).reshape(-1, 10)
    assert np.abs(folds.mean(axis=0) - 0.5).max() < 0.05
    assert abs((folds[:, 0] == folds[:, 2]).mean() - 4 / 9) < 0.05


@given(st.integers(0, 50), st.integers(2, 7), seeds)
@settings(max_examples=40, deadline=None)
def test_query_folds_are_even_and_repeat_by_seed(n_queries, n_folds, seed):
    folds = query_folds(n_queries, n_folds, seed)
    counts = np.bincount(folds, minlength=n_folds)
    assert len(folds) == n_queries and counts.max() - counts.min() <= 1
    assert folds.tolist() == query_folds(n_queries, n_folds, seed).tolist()


def test_one_fold_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        hidden_folds(np.array([0, 0]), 1)
    with pytest.raises(ValueError, match="at least 2"):
        query_folds(3, 1)


@given(st.permutations(range(40)), st.integers(1, 5), st.floats(0.2, 0.8))
@settings(max_examples=40, deadline=None)
def test_forward_cuts_leave_history_and_share_the_rest_evenly(times, n_windows, history):
    clock = np.array(times)
    cuts = forward_cuts(clock, n_windows, history)
    assert cuts == forward_cuts(np.sort(clock), n_windows, history)
    assert abs((clock < cuts[0]).mean() - history) <= 1 / 40
    sizes = np.diff([*((clock < cut).sum() for cut in cuts), 40])
    assert sizes.max() - sizes.min() <= 1


def test_forward_cuts_of_too_few_times_are_refused():
    for times in (np.array([]), np.array([5, 5, 5, 5]), np.array([1, 1, 1, 2])):
        with pytest.raises(DataError, match="distinct times"):
            forward_cuts(times, 2)
    with pytest.raises(ValueError, match="windows"):
        forward_cuts(np.arange(10), 0)
