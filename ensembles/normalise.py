"""Per-query normalisation of base scores, so that bases of different scales can be compared.

Everything here ignores NaN ("no opinion"), knows nothing of other queries, and gives the same bits in any
order of the rows within a query: sums run over the sorted values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembles.score_frame import ScoreFrame
from features.frame import FloatArray, IntArray

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
        z[:, base] = _standardise(unit[:, base], order, offsets)
        rank[:, base] = _rank_column(column, order, offsets)
    return Normalised(z=z, unit=unit, rank=rank)


def z_scores(scores: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return the (n_rows, n_bases) standard scores within each query; a constant query gets 0."""
    return normalise(scores, offsets).z


def min_max(scores: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return (n_rows, n_bases) scores scaled to [0, 1] within each query; a constant query gets 0.5."""
    columns = [_min_max_column(np.ascontiguousarray(column), offsets) for column in scores.T]
    return np.stack(columns, axis=1) if columns else scores.copy()


def average_ranks(scores: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return (n_rows, n_bases) average ranks within each query over the number of opinions; best is 1."""
    return normalise(scores, offsets).rank


def opinions_per_query(scores: ScoreArray, offsets: IntArray) -> IntArray:
    """Return the (n_queries, n_bases) number of candidates about which each base has an opinion."""
    given = np.zeros((len(scores) + 1, scores.shape[1]), dtype=np.int64)
    np.cumsum(~np.isnan(scores), axis=0, out=given[1:])
    return np.diff(given[offsets], axis=0)


def list_ranks(scores: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return (n_rows, n_bases) ranks from the best (1), as if each base had ranked the whole list.

    The average ranks of a base with opinions on only some candidates are stretched evenly over the list,
    so that being first of two among a hundred counts as the upper quarter and not as the top. Where a
    base has an opinion on every candidate these are its plain average ranks; NaN stays NaN.
    """
    sizes = np.diff(offsets)
    opinions = np.repeat(np.maximum(opinions_per_query(scores, offsets), 1), sizes, axis=0)
    above = 1.0 + 0.5 / opinions - average_ranks(scores, offsets)
    ranks: ScoreArray = above * np.repeat(sizes, sizes)[:, None] + 0.5
    return ranks


def normalised_features(frame: ScoreFrame) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the (n_rows, n_features) float32 inputs of a learned meta-learner and their names.

    Per base its z-score, its min-max, its average rank and its distance to the best of the list (in
    z-scores, 0 or less); then the presence bits, the context, the number of opinions on the candidate and
    the disagreement: the standard deviation over bases of the average rank (0 below two opinions). The
    choice of views follows the per-impression features of the RecSys Challenge 2024 winners.
    """
    views = normalise(frame.scores, frame.offsets)
    opinions = (~np.isnan(frame.scores)).sum(axis=1)
    columns: dict[str, NDArray[np.floating] | NDArray[np.integer] | NDArray[np.bool_]] = {}
    for index, base in enumerate(frame.bases):
        best = reduce_queries(np.fmax, views.z[:, index], frame.offsets, empty=np.nan)
        columns[f"{base}:z"] = views.z[:, index]
        columns[f"{base}:min_max"] = views.unit[:, index]
        columns[f"{base}:rank"] = views.rank[:, index]
        columns[f"{base}:to_best"] = views.z[:, index] - np.repeat(best, frame.group_sizes)
    columns |= {f"present:{name}": frame.present[:, i] for i, name in enumerate(frame.modalities)}
    columns |= {f"context:{name}": frame.context[:, i] for i, name in enumerate(frame.context_names)}
    columns["opinions"] = opinions
    columns["disagreement"] = _spread(views.rank, opinions)
    return np.stack([column.astype(np.float32) for column in columns.values()], axis=1), tuple(columns)


def weighted_sum(columns: Iterable[tuple[float, ScoreArray]], n_rows: int) -> ScoreArray:
    """Return the (n_rows,) sum of weight times column, added one column after the other.

    A matrix product may add in another order for another number of rows; this cannot, so that a query
    gets the same bits alone and among others. NaN counts as 0.
    """
    total = np.zeros(n_rows)
    for weight, column in columns:
        total += weight * np.where(np.isnan(column), 0.0, column)
    return total


def reduce_queries(ufunc: np.ufunc, values: ScoreArray, offsets: IntArray, *, empty: float) -> ScoreArray:
    """Return one (n_queries,) value a query by `ufunc.reduceat`, and `empty` for a query without rows."""
    result = np.full(len(offsets) - 1, empty)
    filled = np.diff(offsets) > 0
    # reduceat would give an empty slice the value of its neighbour
    if filled.any():
        result[filled] = ufunc.reduceat(np.ascontiguousarray(values), offsets[:-1][filled])
    return result


def _order_within_queries(column: ScoreArray, offsets: IntArray) -> IntArray:
    """Return the (n_rows,) row numbers that sort every query ascending, NaN last."""
    sizes = np.diff(offsets)
    return np.lexsort((column, np.repeat(np.arange(len(sizes)), sizes)))


def _min_max_column(column: ScoreArray, offsets: IntArray) -> ScoreArray:
    sizes = np.diff(offsets)
    low = np.repeat(reduce_queries(np.fmin, column, offsets, empty=np.nan), sizes)
    high = np.repeat(reduce_queries(np.fmax, column, offsets, empty=np.nan), sizes)
    varied = high > low
    unit = np.where(np.isnan(column), np.nan, 0.5)
    unit[varied] = (column[varied] - low[varied]) / (high[varied] - low[varied])
    return unit


def _standardise(unit: ScoreArray, order: IntArray, offsets: IntArray) -> ScoreArray:
    """Return the z-scores of a min-max column; starting from [0, 1] no variance can over- or underflow."""
    sizes = np.diff(offsets)
    ascending = unit[order]
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


def _spread(rank: ScoreArray, opinions: IntArray) -> ScoreArray:
    """Return the (n_rows,) standard deviation over the bases that have an opinion, 0 below two."""
    count = np.maximum(opinions, 1)
    ones = [(1.0, column) for column in rank.T]
    mean = weighted_sum(ones, len(rank)) / count
    squares = weighted_sum([(1.0, (column - mean) ** 2) for column in rank.T], len(rank))
    return np.sqrt(squares / count)
