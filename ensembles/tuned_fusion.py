"""Tuned fusion: few weights, set like any other setting to what ranks the choosing queries best."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ensembles.comparisons import Comparisons, over_bags
from ensembles.meta import check_trainable, read_state, score_by_weights, write_state
from ensembles.score_frame import ScoreFrame
from features.per_query import ScoreArray

logger = logging.getLogger(__name__)

STEPS = (0.4, 0.2, 0.1)
# comparisons of a bag: every positive with every candidate of its query
LARGEST_BAG = 1_000_000


class TunedFusion:
    """A weighted sum of per-query z-scores, its weights found by coordinate ascent on NDCG@k.

    Coordinate ascent on the metric itself (Metzler and Croft, Information Retrieval 10, 2007), started from
    the best single base: one weight after the other moves by a step, up or down, as long as the mean NDCG@k
    grows; then the step is halved. The weights are the mean over bags of queries, each with a start of its
    own. A weight may be negative: a base can say what a better one overrates. A missing opinion adds 0, the
    mean of the query.

    There is one weight a base and nothing else, so that some hundred queries settle it. Ranks on held-out
    queries may follow other laws than those of hidden training interactions, and what is fitted to few
    parameters on the queries that choose can follow them.

    Parameters
    ----------
    bags, bag_share
        Number of bags and the share of queries that each draws without replacement.
    least_gain
        Relative gain in NDCG@k below which a move is not made.
    threads
        0 means all; the weights do not depend on it.

    Attributes
    ----------
    weights_
        Base to weight, those that are not 0 only; their absolute values sum to 1.
    """

    name: ClassVar[str] = "tuned_fusion"
    settings_only: ClassVar[bool] = True

    def __init__(
        self,
        k: int = 10,
        *,
        bags: int = 5,
        bag_share: float = 0.7,
        least_gain: float = 0.0005,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        self.k = k
        self.bags = bags
        self.bag_share = bag_share
        self.least_gain = least_gain
        self.seed = seed
        self.threads = threads

    def fit(self, oof: ScoreFrame) -> Self:
        """Climb in every bag and average the weights."""
        check_trainable(oof)
        bags = over_bags(self, oof, self._climb, LARGEST_BAG)
        total = np.sum([weights / np.abs(weights).sum() for weights in bags], axis=0)
        total /= np.abs(total).sum()
        self.weights_ = {base: float(w) for base, w in zip(oof.bases, total, strict=True) if w != 0}
        logger.info("tuned fusion: %s", {base: round(w, 3) for base, w in self.weights_.items()})
        return self

    def _climb(self, bag: Comparisons) -> NDArray[np.float64]:
        """Return the (n_bases,) weights at which no step in any direction gains."""
        weights = np.zeros(len(bag.z))
        start = int(np.argmax(bag.after_each(bag.jitter)))
        weights[start] = 1.0
        total = bag.jitter + bag.z[start]
        value = bag.after(total, 0.0, start)
        for step in STEPS:
            moved = True
            while moved:
                moved = False
                for base, z in enumerate(bag.z):
                    for move in (step, -step):
                        moved_value = bag.after(total, move, base)
                        if moved_value > value * (1.0 + self.least_gain):
                            weights[base] += move
                            total += move * z
                            value, moved = moved_value, True
        return weights

    def score(self, frame: ScoreFrame) -> ScoreArray:
        """Return (n_rows,) weighted sums of z-scores."""
        return score_by_weights(frame, self.weights_)

    def bases_used(self) -> tuple[str, ...]:
        """Return the bases with a weight."""
        return tuple(self.weights_)

    def save(self, folder: Path) -> None:
        """Write `meta.json`."""
        params = {
            "k": self.k,
            "bags": self.bags,
            "bag_share": self.bag_share,
            "least_gain": self.least_gain,
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
