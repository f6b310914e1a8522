"""Positives against the candidates of their query: all that NDCG@k of a weighted sum needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ensembles.meta import query_weights
from ensembles.score_frame import ScoreFrame
from features.frame import IntArray
from features.per_query import ScoreArray, rows_by_size

# orders candidates with equal sums at random and is far below any difference of z-scores that matters
JITTER = 1e-9


@dataclass(frozen=True)
class Comparisons:
    """Every positive of a bag against the candidates of its query: all that NDCG@k needs.

    Attributes
    ----------
    z
        (n_bases, n_rows) float64 z-scores.
    jitter
        (n_rows,) a tiny random score, which sums start from.
    order
        (n_rows,) where in the frame each row is: within a query the candidates that most bases like come
        first, so that it soon shows that a positive is beyond the cutoff.
    offsets
        (n_queries + 1,) row borders of the queries.
    positives, borders
        (n_positives,) rows, query by query, and (n_queries + 1,) where each query's begin.
    gains
        (n_positives,) gain of the positive as a share of its query's ideal.
    weights
        (n_queries,) share of each query in the bag's weight, 0 where it has no positive.
    discounts
        (k,) discount by the number of candidates above.
    """

    z: ScoreArray
    jitter: NDArray[np.float64]
    order: IntArray
    offsets: IntArray
    positives: IntArray
    borders: IntArray
    gains: NDArray[np.float64]
    weights: NDArray[np.float64]
    discounts: NDArray[np.float64]

    def after_each(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (n_bases,) mean NDCG@k after adding each base to the (n_rows,) sums so far."""
        return np.array([self.after(total, 1.0, base) for base in range(len(self.z))])

    def after(self, total: NDArray[np.float64], step: float, base: int) -> float:
        """Return the mean NDCG@k after adding a multiple of a base to the (n_rows,) sums so far."""
        return float(self._ndcg(total, step, self.z[base]) @ self.weights)

    def per_query(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (n_queries,) NDCG@k of (n_rows,) sums in the frame's order, 0 without a positive."""
        ordered = total[self.order]
        return self._ndcg(ordered, 0.0, ordered)

    def _ndcg(
        self, total: NDArray[np.float64], step: float, added: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        # Numba takes a second to import.
        from ensembles.ndcg_loop import ndcg_after

        about = (self.offsets, self.positives, self.borders, self.gains, self.discounts)
        values: NDArray[np.float64] = ndcg_after(total, step, added, *about)
        return values


class Bagged(Protocol):
    """What is fitted to bags of queries: it says how many, of which share of the queries, and for which k."""

    k: int
    bags: int
    bag_share: float
    seed: int
    threads: int


def over_bags(
    meta: Bagged, oof: ScoreFrame, work: Callable[[Comparisons], NDArray[np.float64]], largest: int
) -> list[NDArray[np.float64]]:
    """Return what some work on z-scores gives for each bag of queries; a missing opinion is 0, the mean.

    Bags are worked on side by side and drawn one after the other, so that threads change nothing.

    Parameters
    ----------
    largest
        Most comparisons in a bag.
    """
    n = len(oof.labels)
    standardised = replace(
        oof,
        scores=np.nan_to_num(oof.views.z),
        modalities=(),
        present=np.zeros((n, 0), dtype=bool),
        context_names=(),
        context=np.zeros((n, 0), dtype=np.float32),
    )
    generator = np.random.default_rng(meta.seed)

    def drawn() -> tuple[IntArray, NDArray[np.float64]]:
        queries = draw_bag(oof, meta.bag_share, largest, generator)
        return queries, draw_jitter(int(oof.group_sizes[queries].sum()), generator)

    def worked(bag: tuple[IntArray, NDArray[np.float64]]) -> NDArray[np.float64]:
        queries, jitter = bag
        return work(compare(standardised.take_queries(queries), meta.k, jitter))

    with ThreadPoolExecutor(meta.threads or os.cpu_count()) as pool:
        return list(pool.map(worked, [drawn() for _ in range(meta.bags)]))


def compare(bag: ScoreFrame, k: int, jitter: NDArray[np.float64]) -> Comparisons:
    """Return the comparisons of a frame whose scores are standardised and free of NaN.

    Parameters
    ----------
    jitter
        (n_rows,) in the frame's order.
    """
    order = _liked_first(bag)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    positives = np.flatnonzero(bag.labels > 0)
    owner = np.repeat(np.arange(bag.n_queries), bag.group_sizes)[positives]
    discounts = 1.0 / np.log2(np.arange(k) + 2.0)
    weights = np.where(np.bincount(owner, minlength=bag.n_queries) > 0, query_weights(bag), 0.0)
    return Comparisons(
        z=np.ascontiguousarray(bag.scores[order].T),
        jitter=jitter[order],
        order=order,
        offsets=bag.offsets,
        positives=place[positives],
        borders=np.searchsorted(owner, np.arange(bag.n_queries + 1)),
        gains=_relative_gains(bag, positives, owner, discounts),
        weights=weights / max(float(weights.sum()), 1e-300),
        discounts=discounts,
    )


def _liked_first(bag: ScoreFrame) -> IntArray:
    """Return the (n_rows,) rows, query by query, from the highest sum of scores to the lowest."""
    total = bag.scores.sum(axis=1)
    order = np.empty(len(total), dtype=np.int64)
    for rows in rows_by_size(bag.offsets):
        order[rows] = np.take_along_axis(rows, np.argsort(-total[rows], axis=1), axis=1)
    return order


def _relative_gains(
    bag: ScoreFrame, positives: IntArray, owner: IntArray, discounts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return each positive's gain over its query's ideal DCG."""
    gain = np.exp2(bag.labels[positives].astype(np.float64)) - 1.0
    ideal_order = np.lexsort((-gain, owner))
    first_of_query = np.searchsorted(owner, owner)
    place = np.arange(len(owner)) - first_of_query
    discount = np.append(discounts, 0.0)[np.minimum(place, len(discounts))]
    ideal = np.bincount(owner, weights=gain[ideal_order] * discount, minlength=bag.n_queries)
    share: NDArray[np.float64] = gain / ideal[owner]
    return share


def draw_jitter(n_rows: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a tiny random score for each of n rows."""
    return generator.uniform(0.0, JITTER, n_rows)


def draw_bag(oof: ScoreFrame, share: float, largest: int, generator: np.random.Generator) -> IntArray:
    """Return a share of the queries with a positive, of at most `largest` comparisons together."""
    n_positives = np.diff(np.concatenate([[0], np.cumsum(oof.labels > 0)])[oof.offsets])
    queries = generator.permutation(np.flatnonzero(n_positives > 0))
    queries = queries[: max(1, round(share * len(queries)))]
    n_comparisons = np.cumsum((n_positives * oof.group_sizes)[queries])
    return queries[: max(1, int(np.searchsorted(n_comparisons, largest, side="right")))]
