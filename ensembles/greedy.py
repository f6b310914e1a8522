"""Greedy ensemble selection: a weighted mean of z-scores whose weights are counts of picks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ensembles.meta import (
    check_trainable,
    place_unknown_last,
    query_weights,
    read_state,
    scores_of,
    write_state,
)
from ensembles.meta_features import weighted_sum
from ensembles.score_frame import ScoreFrame
from features.frame import IntArray, rows_of_queries
from features.per_query import ScoreArray, z_scores

logger = logging.getLogger(__name__)

# a bag holds (positives x candidates of their query) x bases differences of 8 bytes
LARGEST_BAG = 500_000
# orders candidates with equal sums at random and is far below any difference of z-scores that matters
JITTER = 1e-9


class GreedySelection:
    """Bagged greedy ensemble selection with replacement (Caruana et al., ICML 2004) for NDCG@k.

    In every bag of queries the base is added, again and again, that raises the mean NDCG@k of the summed
    per-query z-scores most; the best prefix of picks counts, and the shares of picks are averaged over the
    bags. A missing opinion adds 0, the mean of the query.

    Parameters
    ----------
    bags, bag_share
        Number of bags and the share of queries that each draws without replacement.
    rounds, patience
        Most picks a bag, and picks without a gain after which it stops.

    Attributes
    ----------
    weights_
        Base to weight, those above 0 only; they sum to 1.
    """

    name: ClassVar[str] = "greedy"

    def __init__(
        self,
        k: int = 10,
        *,
        bags: int = 20,
        bag_share: float = 0.5,
        rounds: int = 25,
        patience: int = 4,
        seed: int = 0,
    ) -> None:
        self.k = k
        self.bags = bags
        self.bag_share = bag_share
        self.rounds = rounds
        self.patience = patience
        self.seed = seed

    def fit(self, oof: ScoreFrame) -> Self:
        """Select in every bag and average the shares of picks."""
        check_trainable(oof)
        generator = np.random.default_rng(self.seed)
        z = np.nan_to_num(z_scores(oof.scores, oof.offsets))
        standardised = replace(oof, scores=z)
        shares = np.zeros(len(oof.bases))
        for _ in range(self.bags):
            queries = _draw_bag(oof, self.bag_share, generator)
            picks = self._select(_compare(standardised.take_queries(queries), self.k, generator))
            shares += picks / (picks.sum() * self.bags)
        self.weights_ = {base: float(w) for base, w in zip(oof.bases, shares, strict=True) if w > 0}
        logger.info("greedy selection: %s", {base: round(w, 3) for base, w in self.weights_.items()})
        return self

    def _select(self, bag: _Comparisons) -> NDArray[np.float64]:
        """Return the (n_bases,) number of picks of the best prefix."""
        total = bag.jitter.copy()
        picks = np.zeros(len(bag.differences))
        best_value, best_picks, n_stale = -np.inf, picks, 0
        for _ in range(self.rounds):
            values = bag.mean_ndcg(total)
            pick = int(np.argmax(values))
            picks[pick] += 1
            total += bag.differences[pick]
            if values[pick] > best_value:
                best_value, best_picks, n_stale = values[pick], picks.copy(), 0
            else:
                n_stale += 1
            if n_stale == self.patience:
                break
        return best_picks

    def score(self, frame: ScoreFrame) -> NDArray[np.float64]:
        """Return (n_rows,) weighted sums of z-scores."""
        z = z_scores(scores_of(frame, self.bases_used()), frame.offsets)
        total = weighted_sum(zip(self.weights_.values(), z.T, strict=True), len(z))
        total[np.isnan(z).all(axis=1)] = np.nan
        return place_unknown_last(total, frame.offsets)

    def bases_used(self) -> tuple[str, ...]:
        """Return the bases that were picked."""
        return tuple(self.weights_)

    def save(self, folder: Path) -> None:
        """Write `meta.json`."""
        params = {
            "k": self.k,
            "bags": self.bags,
            "bag_share": self.bag_share,
            "rounds": self.rounds,
            "patience": self.patience,
            "seed": self.seed,
        }
        write_state(folder, self.name, {"params": params, "weights": self.weights_})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_state(folder, cls.name)
        meta = cls(**state["params"])
        meta.weights_ = state["weights"]
        return meta


@dataclass(frozen=True)
class _Comparisons:
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
        values = np.empty(len(self.differences))
        for base, difference in enumerate(self.differences):
            above = np.add.reduceat(total + difference > 0, self.starts, dtype=np.int64)
            values[base] = (self.gains * self.discounts[above]).sum()
        return values


def _compare(bag: ScoreFrame, k: int, generator: np.random.Generator) -> _Comparisons:
    positives = np.flatnonzero(bag.labels > 0)
    owner = np.repeat(np.arange(bag.n_queries), bag.group_sizes)[positives]
    sizes = bag.group_sizes[owner]
    candidates, positive = rows_of_queries(bag.offsets, owner), np.repeat(positives, sizes)
    discounts = np.zeros(int(bag.group_sizes.max()) + 1)
    discounts[:k] = 1.0 / np.log2(np.arange(min(k, len(discounts))) + 2.0)
    jitter = generator.uniform(0.0, JITTER, len(bag.labels))
    return _Comparisons(
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


def _draw_bag(oof: ScoreFrame, share: float, generator: np.random.Generator) -> IntArray:
    """Return the queries of a bag: those with a positive, a share of them, as many as fit in memory."""
    n_positives = np.diff(np.concatenate([[0], np.cumsum(oof.labels > 0)])[oof.offsets])
    queries = generator.permutation(np.flatnonzero(n_positives > 0))
    queries = queries[: max(1, round(share * len(queries)))]
    n_comparisons = np.cumsum((n_positives * oof.group_sizes)[queries])
    return queries[: max(1, int(np.searchsorted(n_comparisons, LARGEST_BAG, side="right")))]
