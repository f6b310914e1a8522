"""Per-query normalisation of scores, so that sources of different scales can be compared.

Everything here ignores NaN ("no opinion"), knows nothing of other queries, and gives the same bits in any
order of the rows within a query: sums run over the sorted values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.frame import IntArray

ScoreArray = NDArray[np.float64]


@dataclass(frozen=True)
class Normalised:
    """Three views of one (n_rows, n_bases) score matrix; NaN where the base has no opinion.

    Attributes
    ----------
    z
        Score minus the query's mean, over its (population) standard deviation; 0 in a constant query.
    unit
        Score scaled from the query's lowest (0) to its highest (1); 0.5 in a constant query.
    rank
        Rank from the worst over the number of opinions, in (0, 1]: the best candidate has 1, the worst of
        n has 1/n, and tied candidates share their average rank.
    """

    z: ScoreArray
    unit: ScoreArray
    rank: ScoreArray


def normalise(scores: ScoreArray, offsets: IntArray) -> Normalised:
    """Return all three views at the price of one sort a base.

    Parameters
    ----------
    scores
        (n_rows, n_bases) float64, finite or NaN.
    offsets
        (n_queries + 1,) int64 row borders; empty queries are allowed.
    """
    z, unit, rank = (np.full(scores.shape, np.nan) for _ in range(3))
    for base in range(scores.shape[1]):
        column = np.ascontiguousarray(scores[:, base])
        order = _order_within_queries(column, offsets)
        unit[:, base] = _min_max_column(column, offsets)
        z[:, base] = _standardise(unit[:, base], unit[order, base], offsets)
        rank[:, base] = _rank_column(column, order, offsets)
    return Normalised(z=z, unit=unit, rank=rank)


def z_scores(scores: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return the (n_rows, n_bases) standard scores within each query; a constant query gets 0."""
    z = np.full(scores.shape, np.nan)
    for base in range(scores.shape[1]):
        unit = _min_max_column(np.ascontiguousarray(scores[:, base]), offsets)
        z[:, base] = _standardise(unit, _sorted_within_queries(unit, offsets), offsets)
    return z


def min_max(scores: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return (n_rows, n_bases) scores scaled to [0, 1] within each query; a constant query gets 0.5."""
    columns = [_min_max_column(np.ascontiguousarray(column), offsets) for column in scores.T]
    return np.stack(columns, axis=1) if columns else scores.copy()


def average_ranks(scores: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return (n_rows, n_bases) average ranks within each query over the number of opinions; best is 1."""
    rank = np.full(scores.shape, np.nan)
    for base in range(scores.shape[1]):
        column = np.ascontiguousarray(scores[:, base])
        rank[:, base] = _rank_column(column, _order_within_queries(column, offsets), offsets)
    return rank


def reduce_queries(ufunc: np.ufunc, values: ScoreArray, offsets: IntArray, *, empty: float) -> ScoreArray:
    """Return one (n_queries,) value a query by `ufunc.reduceat`, and `empty` for a query without rows."""
    result = np.full(len(offsets) - 1, empty)
    filled = np.diff(offsets) > 0
    # reduceat would give an empty slice the value of its neighbour
    if filled.any():
        result[filled] = ufunc.reduceat(np.ascontiguousarray(values), offsets[:-1][filled])
    return result


def weighted_sum(columns: Iterable[tuple[float, ScoreArray]], n_rows: int) -> ScoreArray:
    """Return the (n_rows,) sum of weight times column, added one column after the other.

    A matrix product may add in another order for another number of rows; this cannot, so that a query
    gets the same bits alone and among others. NaN counts as 0.
    """
    total = np.zeros(n_rows)
    for weight, column in columns:
        total += weight * np.where(np.isnan(column), 0.0, column)
    return total


def spread(columns: ScoreArray) -> ScoreArray:
    """Return the (n_rows,) standard deviation over the columns that are not NaN, 0 below two."""
    n_rows = len(columns)
    count = np.maximum((~np.isnan(columns)).sum(axis=1), 1)
    mean = weighted_sum([(1.0, column) for column in columns.T], n_rows) / count
    squares = weighted_sum([(1.0, (column - mean) ** 2) for column in columns.T], n_rows)
    deviation: ScoreArray = np.sqrt(squares / count)
    return deviation


def rows_by_size(offsets: IntArray) -> Iterator[IntArray]:
    """Yield the (n, size) row numbers of the queries of each size.

    Sorting the rows of such a matrix is 20 times faster than one sort by query and score.
    """
    sizes, starts = np.diff(offsets), offsets[:-1]
    for size in np.unique(sizes):
        yield starts[sizes == size][:, None] + np.arange(size)


def _order_within_queries(column: ScoreArray, offsets: IntArray) -> IntArray:
    """Return the (n_rows,) row numbers that sort every query ascending, NaN last; equals in any order."""
    order = np.empty(len(column), dtype=np.int64)
    for rows in rows_by_size(offsets):
        order[rows] = np.take_along_axis(rows, np.argsort(column[rows], axis=1), axis=1)
    return order


def _sorted_within_queries(column: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return the (n_rows,) values with those of every query ascending, NaN last.

    A sort of values is several times faster than one of row numbers.
    """
    ascending = np.empty_like(column)
    for rows in rows_by_size(offsets):
        ascending[rows] = np.sort(column[rows], axis=1)
    return ascending


def _min_max_column(column: ScoreArray, offsets: IntArray) -> ScoreArray:
    sizes = np.diff(offsets)
    low = np.repeat(reduce_queries(np.fmin, column, offsets, empty=np.nan), sizes)
    high = np.repeat(reduce_queries(np.fmax, column, offsets, empty=np.nan), sizes)
    varied = high > low
    unit = np.where(np.isnan(column), np.nan, 0.5)
    unit[varied] = (column[varied] - low[varied]) / (high[varied] - low[varied])
    return unit


def _standardise(unit: ScoreArray, ascending: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return the z-scores of a min-max column; starting from [0, 1] no variance can over- or underflow.

    `ascending` are its (n_rows,) values in ascending order within every query.
    """
    sizes = np.diff(offsets)
    known = ~np.isnan(ascending)
    count = np.maximum(reduce_queries(np.add, known.astype(np.float64), offsets, empty=0.0), 1.0)
    mean = reduce_queries(np.add, np.where(known, ascending, 0.0), offsets, empty=0.0) / count
    deviation = np.where(known, ascending - np.repeat(mean, sizes), 0.0)
    spread = np.sqrt(reduce_queries(np.add, deviation * deviation, offsets, empty=0.0) / count)
    spread[spread == 0.0] = 1.0
    z: ScoreArray = (unit - np.repeat(mean, sizes)) / np.repeat(spread, sizes)
    return z


def _rank_column(column: ScoreArray, order: IntArray, offsets: IntArray) -> ScoreArray:
    n = len(column)
    sizes = np.diff(offsets)
    ascending = column[order]
    starts_tie = np.ones(n + 1, dtype=bool)
    starts_tie[1:-1] = ascending[1:] != ascending[:-1]
    starts_tie[offsets] = True
    borders = np.flatnonzero(starts_tie)
    average = np.repeat((borders[:-1] + borders[1:] + 1) / 2.0, np.diff(borders))
    rank = np.full(n, np.nan)
    rank[order] = average - np.repeat(offsets[:-1], sizes)
    count = reduce_queries(np.add, (~np.isnan(column)).astype(np.float64), offsets, empty=0.0)
    rank /= np.maximum(np.repeat(count, sizes), 1.0)
    rank[np.isnan(column)] = np.nan
    return rank
