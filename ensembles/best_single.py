"""The first rung: the best base alone, which is always a legal answer."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ensembles.meta import (
    base_quality,
    check_trainable,
    place_unknown_last,
    read_state,
    scores_of,
    write_state,
)
from ensembles.meta_features import list_ranks
from ensembles.score_frame import ScoreFrame


class BestSingle:
    """Ranks by the base with the best mean NDCG@k out of fold.

    Where it has no opinion on a candidate, the next-best base that has one places it, by its rank in the
    list (see `ensembles.meta_features.list_ranks`). The fallbacks end with the first base that, with those
    before it, had an opinion on every out-of-fold candidate.

    Attributes
    ----------
    bases_
        The best base and its fallbacks in order.
    quality_
        Mean NDCG@k of every base, a missing opinion ranked last.
    """

    name: ClassVar[str] = "best_single"
    settings_only: ClassVar[bool] = True

    def __init__(self, k: int = 10, *, seed: int = 0) -> None:
        self.k = k
        self.seed = seed

    def fit(self, oof: ScoreFrame) -> Self:
        """Measure every base and order them; equal bases keep the order of the frame."""
        check_trainable(oof)
        self.quality_ = base_quality(oof, self.k, self.seed)
        ordered = np.argsort(-np.array(list(self.quality_.values())), kind="stable")
        covered = np.logical_or.accumulate(~np.isnan(oof.scores[:, ordered]), axis=1).all(axis=0)
        n_needed = int(np.argmax(covered)) + 1 if covered.any() else len(ordered)
        self.bases_ = tuple(oof.bases[i] for i in ordered[:n_needed])
        return self

    def score(self, frame: ScoreFrame) -> NDArray[np.float64]:
        """Return (n_rows,) scores: minus the rank in the list."""
        ranks = list_ranks(scores_of(frame, self.bases_), frame.offsets)
        chosen = np.full(len(frame.labels), np.nan)
        for column in ranks.T:
            chosen = np.where(np.isnan(chosen), column, chosen)
        return place_unknown_last(-chosen, frame.offsets)

    def bases_used(self) -> tuple[str, ...]:
        """Return the best base and its fallbacks."""
        return self.bases_

    def save(self, folder: Path) -> None:
        """Write `meta.json`."""
        state = {"k": self.k, "seed": self.seed, "bases": self.bases_, "quality": self.quality_}
        write_state(folder, self.name, state)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_state(folder, cls.name)
        meta = cls(state["k"], seed=state["seed"])
        meta.bases_ = tuple(state["bases"])
        meta.quality_ = state["quality"]
        return meta
