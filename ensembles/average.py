"""The mean of two learned stacks of different kinds."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from ensembles.lambdamart import LambdaMART
from ensembles.linear_stack import LinearStack
from ensembles.meta import place_unknown_last, read_state, scores_of, write_state
from ensembles.score_frame import ScoreFrame
from features.per_query import ScoreArray, weighted_sum, z_scores


class AverageStack:
    """The mean of the per-query z-scores of linear stacking and LambdaMART.

    A linear and a tree model err differently; the winners of the RecSys Challenge 2024 ended with such a
    mean.

    Attributes
    ----------
    linear_, trees_
        The two fitted members.
    """

    name: ClassVar[str] = "average"
    settings_only: ClassVar[bool] = False

    def __init__(self, k: int = 10, *, seed: int = 0, threads: int = 0) -> None:
        self.k = k
        self.seed = seed
        self.threads = threads

    @classmethod
    def of(cls, linear: LinearStack, trees: LambdaMART) -> Self:
        """Return the mean of two members that are fitted already."""
        meta = cls(trees.k, seed=trees.seed, threads=trees.threads)
        meta.linear_, meta.trees_ = linear, trees
        return meta

    @property
    def members(self) -> tuple[LinearStack, LambdaMART]:
        """Both members, fitted."""
        return self.linear_, self.trees_

    def fit(self, oof: ScoreFrame) -> Self:
        """Fit both members on the same queries."""
        self.linear_ = LinearStack(seed=self.seed).fit(oof)
        self.trees_ = LambdaMART(self.k, seed=self.seed, threads=self.threads).fit(oof)
        return self

    def score(self, frame: ScoreFrame) -> ScoreArray:
        """Return (n_rows,) means of z-scores."""
        return self.mean_of(frame, self.linear_.score(frame), self.trees_.score(frame))

    def mean_of(self, frame: ScoreFrame, linear: ScoreArray, trees: ScoreArray) -> ScoreArray:
        """Return (n_rows,) scores from the (n_rows,) scores of both members."""
        z = z_scores(np.column_stack([linear, trees]), frame.offsets)
        total = weighted_sum([(0.5, column) for column in z.T], len(z))
        total[np.isnan(scores_of(frame, self.bases_used())).all(axis=1)] = np.nan
        return place_unknown_last(total, frame.offsets)

    def bases_used(self) -> tuple[str, ...]:
        """Return all bases of `fit`."""
        return self.linear_.bases_used()

    def save(self, folder: Path) -> None:
        """Write `meta.json` and a folder for each member."""
        write_state(folder, self.name, {"k": self.k, "seed": self.seed, "threads": self.threads})
        for member in self.members:
            (folder / member.name).mkdir()
            member.save(folder / member.name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_state(folder, cls.name)
        meta = cls(state["k"], seed=state["seed"], threads=state["threads"])
        meta.linear_ = LinearStack.load(folder / LinearStack.name)
        meta.trees_ = LambdaMART.load(folder / LambdaMART.name)
        return meta
