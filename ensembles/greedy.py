"""Greedy ensemble selection: a weighted mean of z-scores whose weights are counts of picks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ensembles.comparisons import Comparisons, over_bags
from ensembles.meta import check_trainable, read_state, score_by_weights, write_state
from ensembles.score_frame import ScoreFrame

logger = logging.getLogger(__name__)

# comparisons of a bag: every positive with every candidate of its query
LARGEST_BAG = 500_000


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
    threads
        0 means all; the weights do not depend on it.

    Attributes
    ----------
    weights_
        Base to weight, those above 0 only; they sum to 1.
    """

    name: ClassVar[str] = "greedy"
    settings_only: ClassVar[bool] = True

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
        self.k = k
        self.bags = bags
        self.bag_share = bag_share
        self.rounds = rounds
        self.patience = patience
        self.seed = seed
        self.threads = threads

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

    def score(self, frame: ScoreFrame) -> NDArray[np.float64]:
        """Return (n_rows,) weighted sums of z-scores."""
        return score_by_weights(frame, self.weights_)

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
