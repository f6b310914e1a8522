"""Positives against the candidates of their query: all that NDCG@k of a weighted sum needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembles.meta import query_weights
from ensembles.score_frame import ScoreFrame
from features.frame import IntArray, rows_of_queries
from features.per_query import ScoreArray

# orders candidates with equal sums at random and is far below any difference of z-scores that matters
JITTER = 1e-9


@dataclass(frozen=True)
class Comparisons:
    """Every positive of a bag against every candidate of its query: all that NDCG@k needs.

    Attributes
    ----------
    starts
        (n_positives,) first comparison of each positive.
    differences
        (n_bases, n_comparisons) z-score of the candidate minus that of the positive.
    jitter
        (n_comparisons,) the same of a tiny random score.
    gains
        (n_positives,) gain of the positive as a share of its query's ideal and of the bag's weight.
    discounts
        (longest query + 1,) discount by the number of candidates above; 0 from k on.
    """

    starts: IntArray
    differences: ScoreArray
    jitter: NDArray[np.float64]
    gains: NDArray[np.float64]
    discounts: NDArray[np.float64]

    def mean_ndcg(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (n_bases,) mean NDCG@k after adding each base to the (n_comparisons,) sums so far."""
        return np.array([self.ndcg(total + difference) for difference in self.differences])

    def ndcg(self, total: NDArray[np.float64]) -> float:
        """Return the mean NDCG@k of the (n_comparisons,) summed differences."""
        above = np.add.reduceat(total > 0, self.starts, dtype=np.int64)
        return float((self.gains * self.discounts[above]).sum())


def compare(bag: ScoreFrame, k: int, generator: np.random.Generator) -> Comparisons:
    """Return the comparisons of a frame whose scores are standardised and free of NaN."""
    positives = np.flatnonzero(bag.labels > 0)
    owner = np.repeat(np.arange(bag.n_queries), bag.group_sizes)[positives]
    sizes = bag.group_sizes[owner]
    candidates, positive = rows_of_queries(bag.offsets, owner), np.repeat(positives, sizes)
    discounts = np.zeros(int(bag.group_sizes.max()) + 1)
    discounts[:k] = 1.0 / np.log2(np.arange(min(k, len(discounts))) + 2.0)
    jitter = generator.uniform(0.0, JITTER, len(bag.labels))
    return Comparisons(
        starts=np.cumsum(sizes) - sizes,
        differences=np.stack([column[candidates] - column[positive] for column in bag.scores.T]),
        jitter=jitter[candidates] - jitter[positive],
        gains=_relative_gains(bag, positives, owner, discounts),
        discounts=discounts,
    )


def _relative_gains(
    bag: ScoreFrame, positives: IntArray, owner: IntArray, discounts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return each positive's gain over its query's ideal DCG, times the query's share of all weight."""
    gain = np.exp2(bag.labels[positives].astype(np.float64)) - 1.0
    ideal_order = np.lexsort((-gain, owner))
    first_of_query = np.searchsorted(owner, owner)
    place = np.arange(len(owner)) - first_of_query
    ideal = np.bincount(owner, weights=gain[ideal_order] * discounts[place], minlength=bag.n_queries)
    weights = query_weights(bag)
    total = weights[np.unique(owner)].sum()
    share: NDArray[np.float64] = gain / ideal[owner] * weights[owner] / (total if total > 0 else 1.0)
    return share


def draw_bag(oof: ScoreFrame, share: float, largest: int, generator: np.random.Generator) -> IntArray:
    """Return a share of the queries with a positive, of at most `largest` comparisons together."""
    n_positives = np.diff(np.concatenate([[0], np.cumsum(oof.labels > 0)])[oof.offsets])
    queries = generator.permutation(np.flatnonzero(n_positives > 0))
    queries = queries[: max(1, round(share * len(queries)))]
    n_comparisons = np.cumsum((n_positives * oof.group_sizes)[queries])
    return queries[: max(1, int(np.searchsorted(n_comparisons, largest, side="right")))]
