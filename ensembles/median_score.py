"""The median of the scores of a few bases on one scale: what queries can be compared by."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from ensembles.meta import (
    base_quality,
    check_trainable,
    place_unknown_last,
    read_state,
    scores_of,
    write_state,
)
from ensembles.score_frame import ScoreFrame
from features.per_query import ScoreArray


class MedianScore:
    """The median over the best bases of their scores, in standard deviations about their mean out of fold.

    Ranks and z-scores tell which candidate of a query is the best, scores also whether it is any good: what
    learned from many queries scores an item higher for a user whom it suits than for one whom it does not.
    The median is over the bases that have an opinion. It is of a few bases since where few queries tell which
    one is best, one is best by luck; and it is no mean since where vectors are missing that never were
    before, a base can score everything many standard deviations higher.

    Parameters
    ----------
    k, best
        The `best` bases with the highest NDCG@k out of fold are read.

    Attributes
    ----------
    bases_
        The bases that are read, the best first.
    centre_, scale_
        (len(bases_),) mean and standard deviation of the scores of each.
    """

    name: ClassVar[str] = "median_score"
    settings_only: ClassVar[bool] = True

    def __init__(self, k: int = 10, *, best: int = 5, seed: int = 0) -> None:
        self.k = k
        self.best = best
        self.seed = seed

    def fit(self, oof: ScoreFrame) -> Self:
        """Choose the bases and measure their scores; equal ones keep the order of the frame."""
        check_trainable(oof)
        quality = base_quality(oof, self.k, self.seed)
        self.bases_ = tuple(sorted(quality, key=lambda base: -quality[base])[: self.best])
        scores = scores_of(oof, self.bases_)
        known = [column[np.isfinite(column)] for column in scores.T]
        self.centre_ = np.array([column.mean() if len(column) else 0.0 for column in known])
        spread = np.array([column.std() if len(column) else 0.0 for column in known])
        self.scale_ = np.where(spread > 0, spread, 1.0)
        return self

    def score(self, frame: ScoreFrame) -> ScoreArray:
        """Return (n_rows,) median standardised scores."""
        scaled = (scores_of(frame, self.bases_) - self.centre_) / self.scale_
        opinions = np.isfinite(scaled)
        count = opinions.sum(axis=1)
        # What is no number comes last.
        ordered = np.sort(np.where(opinions, scaled, np.nan), axis=1)
        rows = np.arange(len(ordered))
        below, above = np.maximum(count - 1, 0) // 2, count // 2
        median = (ordered[rows, below] + ordered[rows, above]) / 2
        return place_unknown_last(median, frame.offsets)

    def bases_used(self) -> tuple[str, ...]:
        """Return the bases that are read."""
        return self.bases_

    def save(self, folder: Path) -> None:
        """Write `meta.json`."""
        params = {"k": self.k, "best": self.best, "seed": self.seed}
        learned = {"bases": self.bases_, "centre": self.centre_.tolist(), "scale": self.scale_.tolist()}
        write_state(folder, self.name, {"params": params, **learned})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_state(folder, cls.name)
        meta = cls(**state["params"])
        meta.bases_ = tuple(state["bases"])
        meta.centre_, meta.scale_ = np.array(state["centre"]), np.array(state["scale"])
        return meta
