"""The mean of what meta-learners say: of different kinds, or taught by different samplers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from ensembles.lambdamart import LambdaMART
from ensembles.linear_stack import LinearStack
from ensembles.meta import MetaLearner, place_unknown_last, read_state, scores_of, write_state
from ensembles.score_frame import ScoreFrame
from features.frame import IntArray
from features.per_query import ScoreArray, weighted_sum, z_scores


def mean_of_z(scores: Sequence[ScoreArray], offsets: IntArray) -> ScoreArray:
    """Return the (n_rows,) means of the per-query z-scores of some (n_rows,) finite scores."""
    z = z_scores(np.column_stack(scores), offsets)
    return weighted_sum([(1.0 / len(scores), column) for column in z.T], len(z))


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
        return self.mean_of(frame, [member.score(frame) for member in self.members])

    def mean_of(self, frame: ScoreFrame, said: Sequence[ScoreArray]) -> ScoreArray:
        """Return (n_rows,) scores from the (n_rows,) scores of the members."""
        return _known_mean(frame, said, self.bases_used())

    def bases_used(self) -> tuple[str, ...]:
        """Return all bases of `fit`."""
        return self.linear_.bases_used()

    def save(self, folder: Path) -> None:
        """Write `meta.json` and a folder for each member."""
        write_state(folder, self.name, {"k": self.k, "seed": self.seed, "threads": self.threads})
        _save_members(folder, [member.name for member in self.members], self.members)

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
    members
        The fitted meta-learners.
    """

    name: ClassVar[str] = "hedge"
    settings_only: ClassVar[bool] = True

    def __init__(self, *members: MetaLearner) -> None:
        self.members = members

    def fit(self, oof: ScoreFrame) -> Self:
        """Fit all members on the same queries."""
        self.members = tuple(member.fit(oof) for member in self.members)
        return self

    def score(self, frame: ScoreFrame) -> ScoreArray:
        """Return (n_rows,) means of z-scores."""
        return self.mean_of(frame, [member.score(frame) for member in self.members])

    def mean_of(self, frame: ScoreFrame, said: Sequence[ScoreArray]) -> ScoreArray:
        """Return (n_rows,) scores from the (n_rows,) scores of the members."""
        return _known_mean(frame, said, self.bases_used())

    def bases_used(self) -> tuple[str, ...]:
        """Return what any member reads."""
        return tuple(dict.fromkeys(base for member in self.members for base in member.bases_used()))

    def save(self, folder: Path) -> None:
        """Write `meta.json` and a numbered folder for each member."""
        names = [str(number) for number in range(len(self.members))]
        write_state(folder, self.name, {"members": names})
        _save_members(folder, names, self.members)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from ensembles import load_meta

        return cls(*(load_meta(folder / name) for name in read_state(folder, cls.name)["members"]))


class Blend(Hedge):
    """The mean of the per-query z-scores of rungs that the queries which choose cannot tell apart.

    Which of them is the best there is luck, and their mean is about as good whichever it is.
    """

    name: ClassVar[str] = "blend"


def _known_mean(frame: ScoreFrame, said: Sequence[ScoreArray], bases: tuple[str, ...]) -> ScoreArray:
    total = mean_of_z(said, frame.offsets)
    total[np.isnan(scores_of(frame, bases)).all(axis=1)] = np.nan
    return place_unknown_last(total, frame.offsets)


def _save_members(folder: Path, names: Sequence[str], members: Sequence[MetaLearner]) -> None:
    for name, member in zip(names, members, strict=True):
        (folder / name).mkdir()
        member.save(folder / name)
