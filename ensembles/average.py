"""The mean of what two meta-learners say: of different kinds, or taught by different samplers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from ensembles.lambdamart import LambdaMART
from ensembles.linear_stack import LinearStack
from ensembles.meta import MetaLearner, place_unknown_last, read_state, scores_of, write_state
from ensembles.samplers import NATURAL
from ensembles.score_frame import ScoreFrame
from features.frame import IntArray
from features.per_query import ScoreArray, weighted_sum, z_scores

SAMPLED = "sampled"


def mean_of_z(one: ScoreArray, other: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return the (n_rows,) means of the per-query z-scores of two (n_rows,) finite scores."""
    z = z_scores(np.column_stack([one, other]), offsets)
    return weighted_sum([(0.5, column) for column in z.T], len(z))


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
        return _known_mean(frame, linear, trees, self.bases_used())

    def bases_used(self) -> tuple[str, ...]:
        """Return all bases of `fit`."""
        return self.linear_.bases_used()

    def save(self, folder: Path) -> None:
        """Write `meta.json` and a folder for each member."""
        write_state(folder, self.name, {"k": self.k, "seed": self.seed, "threads": self.threads})
        _save_members(folder, {member.name: member for member in self.members})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_state(folder, cls.name)
        meta = cls(state["k"], seed=state["seed"], threads=state["threads"])
        meta.linear_ = LinearStack.load(folder / LinearStack.name)
        meta.trees_ = LambdaMART.load(folder / LambdaMART.name)
        return meta


class Hedge:
    """The mean of the per-query z-scores of a meta-learner and of one that learned from a sampler's draw.

    What a sampler gains and what it costs are both halved, and so is the harm of having chosen it by luck.

    Parameters
    ----------
    natural, sampled
        The two fitted meta-learners.
    """

    name: ClassVar[str] = "hedge"
    settings_only: ClassVar[bool] = True

    def __init__(self, natural: MetaLearner, sampled: MetaLearner) -> None:
        self.natural = natural
        self.sampled = sampled

    def fit(self, oof: ScoreFrame) -> Self:
        """Fit both on the same queries."""
        self.natural, self.sampled = self.natural.fit(oof), self.sampled.fit(oof)
        return self

    def score(self, frame: ScoreFrame) -> ScoreArray:
        """Return (n_rows,) means of z-scores."""
        return _known_mean(frame, self.natural.score(frame), self.sampled.score(frame), self.bases_used())

    def bases_used(self) -> tuple[str, ...]:
        """Return what both read."""
        return tuple(dict.fromkeys([*self.natural.bases_used(), *self.sampled.bases_used()]))

    def save(self, folder: Path) -> None:
        """Write `meta.json` and a folder for each of both."""
        write_state(folder, self.name, {})
        _save_members(folder, {NATURAL: self.natural, SAMPLED: self.sampled})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from ensembles import load_meta

        read_state(folder, cls.name)
        return cls(load_meta(folder / NATURAL), load_meta(folder / SAMPLED))


def _known_mean(frame: ScoreFrame, one: ScoreArray, other: ScoreArray, bases: tuple[str, ...]) -> ScoreArray:
    total = mean_of_z(one, other, frame.offsets)
    total[np.isnan(scores_of(frame, bases)).all(axis=1)] = np.nan
    return place_unknown_last(total, frame.offsets)


def _save_members(folder: Path, members: Mapping[str, MetaLearner]) -> None:
    for name, member in members.items():
        (folder / name).mkdir()
        member.save(folder / name)
