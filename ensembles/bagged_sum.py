"""What meta-learners share that find a weight for each base on bags of queries."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from ensembles.meta import read_state, score_by_weights, write_state
from ensembles.score_frame import ScoreFrame
from features.per_query import ScoreArray


class BaggedSum:
    """A weighted sum of per-query z-scores whose weights are a mean over bags of queries.

    Parameters
    ----------
    bags, bag_share
        Number of bags and the share of queries that each draws without replacement.
    threads
        0 means all; the weights do not depend on it.

    Attributes
    ----------
    own_parameters
        Names of the parameters that those who inherit add.
    weights_
        Base to weight, those that are not 0 only.
    """

    name: ClassVar[str]
    settings_only: ClassVar[bool] = True
    own_parameters: ClassVar[tuple[str, ...]]
    weights_: dict[str, float]

    def __init__(self, k: int, *, bags: int, bag_share: float, seed: int, threads: int = 0) -> None:
        self.k = k
        self.bags = bags
        self.bag_share = bag_share
        self.seed = seed
        self.threads = threads

    def score(self, frame: ScoreFrame) -> ScoreArray:
        """Return (n_rows,) weighted sums of z-scores; a missing opinion adds 0, the mean of the query."""
        return score_by_weights(frame, self.weights_)

    def bases_used(self) -> tuple[str, ...]:
        """Return the bases with a weight."""
        return tuple(self.weights_)

    def save(self, folder: Path) -> None:
        """Write `meta.json`."""
        names = ("k", "bags", "bag_share", *self.own_parameters, "seed")
        params = {name: getattr(self, name) for name in names}
        write_state(folder, self.name, {"params": params, "weights": self.weights_})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_state(folder, cls.name)
        meta = cls(**state["params"])
        meta.weights_ = state["weights"]
        return meta
