"""Ranking metrics: pure functions that return one value a query.

Rows of a query are contiguous and `offsets` holds the borders. An item is relevant when its label is
above 0. A query without a relevant item has no value and gets NaN; `mean_of` leaves it out and counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import DataError
from features.per_query import rows_by_size

Values = NDArray[np.float64]
Numbers = NDArray[np.floating[Any]] | NDArray[np.integer[Any]]
IntArray = NDArray[np.int64]
Metric = Callable[..., Values]


class Mean(NamedTuple):
    """Average over the queries that have a value, and how many have one."""

    mean: float
    n_counted: int
    n_left_out: int


def mean_of(values: Values) -> Mean:
    """Average per-query values; queries with NaN are left out and counted, and no value at all gives NaN."""
    counted = values[~np.isnan(values)]
    mean = float(counted.mean()) if len(counted) else float("nan")
    return Mean(mean, len(counted), len(values) - len(counted))


def rank_order(scores: Numbers, offsets: IntArray, seed: int = 0) -> IntArray:
    """Return the (n_rows,) row numbers, query by query, from the highest score to the lowest.

    Equal scores are put in a random order drawn from `seed`, so that the order of the rows earns nothing;
    NaN scores come last.
    """
    negated = -np.asarray(scores, dtype=np.float64)
    lottery = np.random.default_rng(seed).random(len(scores))
    order = np.empty(len(scores), dtype=np.int64)
    for rows in rows_by_size(offsets):
        shuffled = np.take_along_axis(rows, np.argsort(lottery[rows], axis=1), axis=1)
        ranks = np.argsort(negated[shuffled], axis=1, kind="stable")
        order[rows] = np.take_along_axis(shuffled, ranks, axis=1)
    return order


def ndcg(
    scores: Values,
    labels: Numbers,
    offsets: IntArray,
    k: int | None = None,
    seed: int = 0,
    total_relevant: IntArray | None = None,
) -> Values:
    """Return (n_queries,) normalised discounted cumulative gain of the first k.

    The gain of a label l is 2^l - 1 and the discount of rank r is log2(r + 1) (Burges et al., ICML 2005).
    The ideal list is made of the query's own rows, or of min(total_relevant, k) hits where
    `total_relevant` (n_queries,) says how many relevant items there are, retrieved or not.

    Raises
    ------
    DataError
        If `total_relevant` comes with graded labels or is less than the relevant rows of a query.
    """
    ranked = _rank(scores, labels, offsets, k, seed, total_relevant)
    gained = ranked.sum_by_query(_discounted_gain(ranked.labels, ranked.ranks))
    if total_relevant is None:
        best = _best_first(labels, offsets)[ranked.kept]
        ideal = ranked.sum_by_query(_discounted_gain(best, ranked.ranks))
    else:
        longest = int(ranked.totals.max(initial=0))
        hits = ranked.totals if k is None else np.minimum(ranked.totals, k)
        ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(longest) + 2.0))])[hits]
    return ranked.per_relevant(gained, ideal)


def average_precision(
    scores: Values,
    labels: Numbers,
    offsets: IntArray,
    k: int | None = None,
    seed: int = 0,
    total_relevant: IntArray | None = None,
) -> Values:
    """Return (n_queries,) the sum of the precisions at the hits in the first k, by the relevant items.

    As trec_eval's map_cut: the divisor is the number of relevant items even where that is more than k.
    """
    ranked = _rank(scores, labels, offsets, k, seed, total_relevant)
    so_far = np.concatenate([[0], np.cumsum(ranked.hits)])
    precision_here = (so_far[1:] - so_far[ranked.first_of_query]) / ranked.ranks
    return ranked.per_relevant(ranked.sum_by_query(precision_here * ranked.hits), ranked.totals)


def reciprocal_rank(
    scores: Values,
    labels: Numbers,
    offsets: IntArray,
    k: int | None = None,
    seed: int = 0,
    total_relevant: IntArray | None = None,
) -> Values:
    """Return (n_queries,) one over the rank of the first hit, 0 where the first k hold none."""
    ranked = _rank(scores, labels, offsets, k, seed, total_relevant)
    best = np.zeros(ranked.n_queries)
    np.maximum.at(best, ranked.queries[ranked.hits], 1 / ranked.ranks[ranked.hits])
    return ranked.per_relevant(best)


def recall(
    scores: Values,
    labels: Numbers,
    offsets: IntArray,
    k: int | None = None,
    seed: int = 0,
    total_relevant: IntArray | None = None,
) -> Values:
    """Return (n_queries,) the share of the relevant items that are in the first k."""
    ranked = _rank(scores, labels, offsets, k, seed, total_relevant)
    return ranked.per_relevant(ranked.n_hits, ranked.totals)


def precision(
    scores: Values,
    labels: Numbers,
    offsets: IntArray,
    k: int | None = None,
    seed: int = 0,
    total_relevant: IntArray | None = None,
) -> Values:
    """Return (n_queries,) hits in the first k divided by k, or by the length of the list if k is None."""
    ranked = _rank(scores, labels, offsets, k, seed, total_relevant)
    length = np.maximum(np.diff(offsets), 1) if k is None else np.full(ranked.n_queries, k)
    return ranked.per_relevant(ranked.n_hits, length)


def hit_rate(
    scores: Values,
    labels: Numbers,
    offsets: IntArray,
    k: int | None = None,
    seed: int = 0,
    total_relevant: IntArray | None = None,
) -> Values:
    """Return (n_queries,) 1 where the first k hold a relevant item, else 0."""
    ranked = _rank(scores, labels, offsets, k, seed, total_relevant)
    return ranked.per_relevant((ranked.n_hits > 0).astype(np.float64))


METRICS: Mapping[str, Metric] = {
    "ndcg": ndcg,
    "average_precision": average_precision,
    "reciprocal_rank": reciprocal_rank,
    "recall": recall,
    "precision": precision,
    "hit_rate": hit_rate,
}


@dataclass(frozen=True)
class _Ranked:
    """The first k rows of every query, best first; arrays are (n_kept,) unless said otherwise.

    `kept` is (n_rows,) whether a place in the ranked rows is among the first k, `first_of_query` the place
    in these arrays where a row's query begins, and `totals` (n_queries,) the number of relevant items.
    """

    labels: Values
    hits: NDArray[np.bool_]
    ranks: IntArray
    queries: IntArray
    first_of_query: IntArray
    kept: NDArray[np.bool_]
    totals: IntArray

    @property
    def n_queries(self) -> int:
        return len(self.totals)

    @property
    def n_hits(self) -> Values:
        return self.sum_by_query(self.hits.astype(np.float64))

    def sum_by_query(self, values: Values) -> Values:
        return np.asarray(np.bincount(self.queries, values, minlength=self.n_queries), dtype=np.float64)

    def per_relevant(self, values: Values, divisor: Values | IntArray | None = None) -> Values:
        """Divide, and give NaN to the queries without a relevant item."""
        by = np.ones(self.n_queries) if divisor is None else divisor
        out = np.full(self.n_queries, np.nan)
        return np.asarray(np.divide(values, by, out=out, where=self.totals > 0))


def _rank(
    scores: Numbers,
    labels: Numbers,
    offsets: IntArray,
    k: int | None,
    seed: int,
    total_relevant: IntArray | None,
) -> _Ranked:
    if k is not None and k < 1:
        raise ValueError(f"k: got {k}, expected 1 or more, or None for the whole list")
    if len(scores) != len(labels) or offsets[-1] != len(labels):
        raise ValueError(f"got {len(scores)} scores and {len(labels)} labels for {offsets[-1]} rows")
    sizes = np.diff(offsets)
    queries = np.repeat(np.arange(len(sizes)), sizes)
    found = np.bincount(queries[labels > 0], minlength=len(sizes)).astype(np.int64)
    if total_relevant is not None:
        _check_total(total_relevant, found, labels)
    all_ranks = np.arange(len(labels)) - np.repeat(offsets[:-1], sizes) + 1
    kept = np.ones(len(labels), dtype=bool) if k is None else all_ranks <= k
    ordered = labels[rank_order(scores, offsets, seed)[kept]].astype(np.float64)
    ranks = all_ranks[kept]
    return _Ranked(
        labels=ordered,
        hits=ordered > 0,
        ranks=ranks,
        queries=queries[kept],
        first_of_query=np.arange(len(ranks)) - ranks + 1,
        kept=kept,
        totals=found if total_relevant is None else total_relevant,
    )


def _best_first(labels: Numbers, offsets: IntArray) -> Values:
    """Return the (n_rows,) labels of every query from the highest to the lowest."""
    best = np.empty(len(labels))
    for rows in rows_by_size(offsets):
        best[rows] = np.sort(labels[rows].astype(np.float64), axis=1)[:, ::-1]
    return best


def _check_total(total_relevant: IntArray, found: IntArray, labels: Numbers) -> None:
    if len(total_relevant) != len(found):
        raise ValueError(f"total_relevant: got {len(total_relevant)} values for {len(found)} queries")
    if np.any((labels != 0) & (labels != 1)):
        raise DataError(
            "total_relevant came with graded labels, expected 0 and 1",
            fix="leave total_relevant out, or make the labels binary",
        )
    short = np.flatnonzero(total_relevant < found)
    if len(short):
        q = int(short[0])
        raise DataError(
            f"query number {q} has {found[q]} relevant rows but total_relevant says {total_relevant[q]}",
            fix="count the relevant items of the truth, retrieved or not",
        )


def _discounted_gain(labels: Values, ranks: IntArray) -> Values:
    return np.asarray((np.exp2(labels) - 1) / np.log2(ranks + 1.0))
