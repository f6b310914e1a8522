"""Tuned fusion: few weights, set like any other setting to what ranks the choosing queries best."""

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

STEPS = (0.4, 0.2, 0.1)
# comparisons of a bag: every positive with every candidate of its query
LARGEST_BAG = 1_000_000


class TunedFusion(BaggedSum):
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
    least_gain
        Relative gain in NDCG@k below which a move is not made.

    Attributes
    ----------
    weights_
        Base to weight, those that are not 0 only; their absolute values sum to 1.
    """

    name: ClassVar[str] = "tuned_fusion"
    own_parameters: ClassVar[tuple[str, ...]] = ("least_gain",)

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
        super().__init__(k, bags=bags, bag_share=bag_share, seed=seed, threads=threads)
        self.least_gain = least_gain

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
