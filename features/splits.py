"""Splits, folds and label windows: pure functions that never look at the order of the rows."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.contract import SPLITS
from features.errors import DataError
from features.frame import IntArray

_GOLDEN_GAMMA = 0x9E3779B97F4A7C15

SplitBy = Literal["column", "user_time", "global_time", "query"]


def assign_split(
    interactions: pl.DataFrame, by: SplitBy, valid: float, test: float, seed: int = 0
) -> pl.DataFrame:
    """Return the interactions with a `split` column (`train`, `valid`, `test`) made as `by` says.

    Raises
    ------
    DataError
        If the column that `by` needs is absent, or if `train`, or a split that is asked for, gets no row.
    """
    if by == "column":
        return by_column(interactions)
    if valid < 0 or test < 0 or valid + test >= 1:
        raise DataError(
            f"got the shares valid {valid} and test {test}, expected 0 or more and a sum below 1",
            fix="leave a share for train",
        )
    if by == "user_time":
        split = by_user_time(interactions, valid, test, seed)
    elif by == "global_time":
        split = by_global_time(interactions, valid, test)
    else:
        split = by_query_groups(interactions["query"], valid, test, seed)
    for name, share in zip(SPLITS, (1 - valid - test, valid, test), strict=True):
        if share > 0 and not (split == name).any():
            raise DataError(
                f"splitting {len(split)} rows by {by} leaves no {name} row",
                fix="raise its share, bring more data or split another way",
            )
    return interactions.with_columns(split)


def by_column(interactions: pl.DataFrame) -> pl.DataFrame:
    """Return the interactions as they are, which must have a `split` column; raises DataError if not."""
    if "split" not in interactions.columns:
        raise DataError(
            "got no split column, expected one", fix="name the split column, or split by time or query"
        )
    return interactions


def by_user_time(interactions: pl.DataFrame, valid: float, test: float, seed: int = 0) -> pl.Series:
    """Return (n_rows,) the split of each row: the last shares of each user's rows by time.

    Rows at the same time come in an order that a hash of the item id gives. Shares are rounded to whole
    rows and the first row of a user always trains.

    Examples
    --------
    Ten rows of one user, in the order of time, with valid .2 and test .2:

    >>> rows = pl.DataFrame({"query": ["u"] * 10, "item": list("abcdefghij"), "time": range(10)})
    >>> [by_user_time(rows, 0.2, 0.2).to_list().count(name) for name in ("train", "valid", "test")]
    [6, 2, 2]
    >>> by_user_time(rows, 0.2, 0.2).to_list().index("test")
    8
    """
    _require_time(interactions)
    codes = interactions["query"].rank("dense").to_numpy().astype(np.int64)
    times, ties = interactions["time"].to_numpy(), _id_hashes(interactions["item"], seed)
    ranks, sizes = _ranks_within(codes, times, ties)
    n_test, n_held = np.floor(sizes * test + 0.5), np.floor(sizes * (valid + test) + 0.5)
    valid_from = np.maximum(sizes - n_held, 1)
    test_from = np.maximum(sizes - n_test, 1)
    return _split_series(ranks >= valid_from, ranks >= test_from)


def by_global_time(interactions: pl.DataFrame, valid: float, test: float) -> pl.Series:
    """Return (n_rows,) the split of each row by two cut times, the quantiles of all times.

    Rows at the same time stay together: a row at a cut time belongs to the later split.

    Examples
    --------
    >>> rows = pl.DataFrame({"time": [1, 2, 3, 4, 5, 5, 7, 8, 9, 10]})
    >>> by_global_time(rows, 0.2, 0.2).to_list()[4:]
    ['train', 'train', 'valid', 'valid', 'test', 'test']
    """
    _require_time(interactions)
    times = interactions["time"].to_numpy()
    if not len(times):
        return _split_series(np.zeros(0, dtype=bool), np.zeros(0, dtype=bool))
    ordered = np.append(np.sort(times).astype(np.float64), np.inf)
    n_test, n_held = (int(len(times) * share + 0.5) for share in (test, valid + test))
    return _split_series(times >= ordered[len(times) - n_held], times >= ordered[len(times) - n_test])


def by_query_groups(queries: pl.Series, valid: float, test: float, seed: int = 0) -> pl.Series:
    """Return (n_rows,) the split of each row where whole queries are drawn at random.

    Examples
    --------
    >>> by_query_groups(pl.Series(["a", "a", "b", "c", "c"]), 0.3, 0.3, seed=0).to_list()
    ['train', 'train', 'test', 'valid', 'valid']
    """
    codes = queries.rank("dense").to_numpy().astype(np.int64) - 1
    n_queries = int(codes.max()) + 1 if len(codes) else 0
    place = np.random.default_rng(seed).permutation(n_queries)
    n_test, n_held = (int(n_queries * share + 0.5) for share in (test, valid + test))
    return _split_series(place[codes] < n_held, place[codes] < n_test)


def hidden_folds(
    queries: IntArray,
    n_folds: int,
    seed: int = 0,
    times: NDArray[np.int64 | np.float64] | None = None,
    *,
    hide_single: bool = False,
) -> IntArray:
    """Return (n_rows,) the fold in which each interaction is hidden to become an out-of-fold label.

    The interactions of a user are dealt evenly over the folds, so that he is warm in every fold: a whole
    hidden user would be cold in training and warm in serving. With `times` they are dealt in the order of
    time, so that every fold reaches over the user's whole history. The one interaction of a user who has
    no other gets -1, it is never hidden, unless `hide_single`. The fold of a user does not depend on the
    other users.

    Parameters
    ----------
    queries
        (n_rows,) codes of the users.
    n_folds
        At least 2.
    seed
        Of the fold that each user's deal starts with, and of the order where there are no times.
    times
        (n_rows,) or None.
    hide_single
        Whether the one interaction of a user is hidden too, because more of him is known elsewhere.

    Examples
    --------
    User 0 has five interactions, user 1 has one, user 2 has two:

    >>> hidden_folds(np.array([0, 0, 0, 0, 0, 1, 2, 2]), 3, seed=0, times=np.arange(8)).tolist()
    [1, 2, 0, 1, 2, -1, 1, 2]
    """
    _require_folds(n_folds)
    order_key = _mix(queries, seed, _positions_within(queries)) if times is None else times
    ranks, sizes = _ranks_within(queries, order_key)
    first_fold = (_mix(queries, seed) % np.uint64(n_folds)).astype(np.int64)
    return np.where((sizes > 1) | hide_single, (ranks + first_fold) % n_folds, -1)


def query_folds(n_queries: int, n_folds: int, seed: int = 0) -> IntArray:
    """Return (n_queries,) the fold of each query, as even as can be, at random.

    Examples
    --------
    >>> query_folds(7, 3, seed=0).tolist()
    [2, 1, 0, 0, 2, 0, 1]
    """
    _require_folds(n_folds)
    return np.random.default_rng(seed).permutation(np.arange(n_queries, dtype=np.int64) % n_folds)


def forward_cuts(
    times: NDArray[np.int64 | np.float64], n_windows: int, history: float = 0.5
) -> list[int | float]:
    """Return the n_windows ascending times at which a label window begins and its history ends.

    Window k takes its labels from `cuts[k] <= time < cuts[k + 1]` (the last one: to the end) and its
    history from `time < cuts[k]`. The share `history` of all rows lies before the first window; the
    windows share the rest evenly.

    Raises
    ------
    DataError
        If the times are too few or too equal for that many windows, each with a row before it.

    Examples
    --------
    >>> forward_cuts(np.arange(100, 110), 2)
    [105, 107]
    >>> forward_cuts(np.arange(100, 110), 2, history=0.8)
    [108, 109]
    """
    if n_windows < 1 or not 0 < history < 1:
        raise ValueError(
            f"got {n_windows} windows after {history}, expected 1 or more after a share in (0, 1)"
        )
    ordered = np.sort(times)
    shares = history + (1 - history) * np.arange(n_windows) / n_windows
    places = np.floor(len(ordered) * shares + 1e-9).astype(np.int64)
    cuts = ordered[places].tolist() if len(ordered) else []
    if len(set(cuts)) < n_windows or cuts[0] == ordered[0]:
        raise DataError(
            f"got {len(np.unique(times))} distinct times, too few for {n_windows} label windows",
            fix="ask for fewer windows, or use hidden folds",
        )
    return list(cuts)


def _require_time(interactions: pl.DataFrame) -> None:
    if "time" not in interactions.columns:
        raise DataError("got no time column, expected one", fix="name the time column or split another way")


def _require_folds(n_folds: int) -> None:
    if n_folds < 2:
        raise ValueError(f"got {n_folds} folds, expected at least 2")


def _split_series(held_out: NDArray[np.bool_], tested: NDArray[np.bool_]) -> pl.Series:
    stage = held_out.astype(np.int64) + tested
    return pl.Series("split", np.array(SPLITS, dtype=object)[stage], dtype=pl.String)


def _ranks_within(groups: IntArray, *keys: NDArray[np.generic]) -> tuple[IntArray, IntArray]:
    """Return (n_rows,) each row's place within its group by these keys, from 0, and the group's size."""
    order = np.lexsort((*reversed(keys), groups))
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, counts)
    return ranks, counts[inverse].astype(np.int64)


def _positions_within(groups: IntArray) -> IntArray:
    return _ranks_within(groups, np.arange(len(groups)))[0]


def _id_hashes(ids: pl.Series, seed: int) -> NDArray[np.uint64]:
    """Return (n_rows,) a hash of each id that no version of a library changes."""
    salt = str(seed).encode()
    unique, codes = np.unique(ids.to_numpy().astype(str), return_inverse=True)
    digests = [hashlib.blake2b(text.encode(), digest_size=8, salt=salt[:16]).digest() for text in unique]
    return np.frombuffer(b"".join(digests), dtype="<u8")[codes].astype(np.uint64)


def _mix(codes: IntArray, seed: int, positions: IntArray | None = None) -> NDArray[np.uint64]:
    """Return (n_rows,) random numbers that depend on (seed, code, position) alone."""
    mixed = _split_mix(codes.astype(np.uint64) + np.uint64(seed * _GOLDEN_GAMMA % 2**64))
    return mixed if positions is None else _split_mix(mixed + positions.astype(np.uint64))


def _split_mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    values = values + np.uint64(_GOLDEN_GAMMA)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
