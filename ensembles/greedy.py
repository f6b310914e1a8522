"""Greedy ensemble selection: a weighted mean of z-scores whose weights are counts of picks."""

from __future__ import annotations

import logging
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ensembles.bagged_sum import BaggedSum
from ensembles.comparisons import Comparisons, over_bags
from ensembles.meta import check_trainable
from ensembles.score_frame import ScoreFrame

logger = logging.getLogger(__name__)

# comparisons of a bag: every positive with every candidate of its query
LARGEST_BAG = 500_000


class GreedySelection(BaggedSum):
    """Bagged greedy ensemble selection with replacement (Caruana et al., ICML 2004) for NDCG@k.

    In every bag of queries the base is added, again and again, that raises the mean NDCG@k of the summed
    per-query z-scores most; the best prefix of picks counts, and the shares of picks are averaged over the
    bags. A missing opinion adds 0, the mean of the query.

    Parameters
    ----------
    rounds, patience
        Most picks a bag, and picks without a gain after which it stops.

    Attributes
    ----------
    weights_
        Base to weight, those above 0 only; they sum to 1.
    """

    name: ClassVar[str] = "greedy"
    own_parameters: ClassVar[tuple[str, ...]] = ("rounds", "patience")

    def __init__(
        self,
        k: int = 10,
        *,
        bags: int = 10,
        bag_share: float = 0.5,
        rounds: int = 25,
        patience: int = 4,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        super().__init__(k, bags=bags, bag_share=bag_share, seed=seed, threads=threads)
        self.rounds = rounds
        self.patience = patience

    def fit(self, oof: ScoreFrame) -> Self:
        """Select in every bag and average the shares of picks."""
        check_trainable(oof)
        bags = over_bags(self, oof, self._select, LARGEST_BAG)
        shares = np.mean([picks / picks.sum() for picks in bags], axis=0)
        self.weights_ = {base: float(w) for base, w in zip(oof.bases, shares, strict=True) if w > 0}
        logger.info("greedy selection: %s", {base: round(w, 3) for base, w in self.weights_.items()})
        return self

    def _select(self, bag: Comparisons) -> NDArray[np.float64]:
        """Return the (n_bases,) number of picks of the best prefix."""
        total = bag.jitter.copy()
        picks = np.zeros(len(bag.z))
        best_value, best_picks, n_stale = -np.inf, picks, 0
        for _ in range(self.rounds):
            values = bag.after_each(total)
            pick = int(np.argmax(values))
            picks[pick] += 1
            total += bag.z[pick]
            if values[pick] > best_value:
                best_value, best_picks, n_stale = values[pick], picks.copy(), 0
            else:
                n_stale += 1
            if n_stale == self.patience:
                break
        return best_picks
