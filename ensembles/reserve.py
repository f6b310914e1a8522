"""Places at the end of a list for items that nobody has met yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from ensembles.meta import MetaLearner, read_state, scores_of, write_state
from ensembles.score_frame import ScoreFrame
from features.frame import BoolArray, IntArray
from features.per_query import ScoreArray, rows_by_size

INNER, NEWCOMERS = "inner", "newcomers"
# What speaks for a new item beside the context of its query.
SCORE = "score"


class Reserve:
    """Another meta-learner, with some of the last of the first k places for items that nobody has met.

    An item without an interaction has no behaviour to speak for it, so that a list ordered by expected hits
    alone never shows it, and it stays without an interaction. The last `slots` of the first `k` places are
    kept for such items as `newcomers` scores high enough; those that already are among the first `k` count.
    A user whom no new item suits keeps the list as it is.

    Parameters
    ----------
    inner
        The fitted meta-learner that orders everything.
    newcomers
        The fitted meta-learner that says which of the new items come first, by scores that compare between
        queries.
    modality
        The modality whose absence makes an item new: behaviour.
    told_by
        Modalities of which a new item needs one to get a place, where there are any. It also needs the
        opinion of a base that `newcomers` reads: without either nothing speaks for it.
    slots, k
        Most places that are kept, of the first k.
    weights
        The merit of a new item is its `score` by `newcomers` and the context, each by name, times these.
    least
        The lowest merit for which a place is kept.
    """

    name: ClassVar[str] = "reserve"
    settings_only: ClassVar[bool] = True

    def __init__(
        self,
        inner: MetaLearner,
        newcomers: MetaLearner,
        modality: str,
        slots: int,
        k: int,
        *,
        told_by: Sequence[str] = (),
        weights: Mapping[str, float] | None = None,
        least: float = -np.inf,
    ) -> None:
        self.inner = inner
        self.newcomers = newcomers
        self.modality = modality
        self.told_by = tuple(told_by)
        self.slots = slots
        self.k = k
        self.weights = {SCORE: 1.0} if weights is None else dict(weights)
        self.least = least

    def fit(self, oof: ScoreFrame) -> Self:
        """Fit the inner meta-learner."""
        self.inner = self.inner.fit(oof)
        return self

    def score(self, frame: ScoreFrame) -> ScoreArray:
        """Return (n_rows,) scores: minus the place in the list, from 1."""
        inner = self.inner.score(frame)
        return Places.ordered(frame, inner, self.merit(frame), self.least).with_reserve(self.slots, self.k)

    def merit(self, frame: ScoreFrame) -> ScoreArray:
        """Return the (n_rows,) merit of the new items, NaN at others."""
        is_new = new_rows(frame, self.modality, self.told_by)
        return merit_of(evidence_of(frame, self.newcomers, is_new), self.weights)

    def bases_used(self) -> tuple[str, ...]:
        """Return what both meta-learners read."""
        return tuple(dict.fromkeys([*self.inner.bases_used(), *self.newcomers.bases_used()]))

    def save(self, folder: Path) -> None:
        """Write `meta.json` and a folder for each of the two meta-learners."""
        state = {"modality": self.modality, "told_by": self.told_by, "slots": self.slots, "k": self.k}
        # JSON has no infinity.
        state |= {"weights": self.weights, "least": self.least if np.isfinite(self.least) else None}
        write_state(folder, self.name, state)
        for name, meta in ((INNER, self.inner), (NEWCOMERS, self.newcomers)):
            (folder / name).mkdir()
            meta.save(folder / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from ensembles import load_meta

        state = {key: value for key, value in read_state(folder, cls.name).items() if key != "kind"}
        least = -np.inf if state["least"] is None else state["least"]
        return cls(load_meta(folder / INNER), load_meta(folder / NEWCOMERS), **{**state, "least": least})


@dataclass(frozen=True)
class Places:
    """The order of a frame's rows, within which new items can be given places.

    Attributes
    ----------
    offsets
        (n_queries + 1,) row borders.
    order
        (n_rows,) rows of every query, best first; where new items stand, they stand in their own order.
    new
        (n_rows,) bool along `order`: nobody has met the item, and it may have a place.
    """

    offsets: IntArray
    order: IntArray
    new: BoolArray

    @classmethod
    def ordered(cls, frame: ScoreFrame, scores: ScoreArray, merit: ScoreArray, least: float) -> Places:
        """Order by the (n_rows,) scores, and rows of at least that merit, on their places, by merit.

        (n_rows,) merit is NaN where a row is not new.
        """
        is_new = merit >= least
        order = _best_first(scores, frame.offsets)
        new = is_new[order]
        by_merit = _best_first(np.where(is_new, merit, -np.inf), frame.offsets)
        order[new] = by_merit[is_new[by_merit]]
        return cls(frame.offsets, order, new)

    def with_reserve(self, slots: int, k: int) -> ScoreArray:
        """Return (n_rows,) minus the place in the list after so many slots of a query have been given away.

        Where a list has fewer new items the others keep the places.
        """
        query, start = self._query, self.offsets[:-1][self._query]
        position = np.arange(len(self.order))
        so_far = np.concatenate([[0], np.cumsum(self.new)])
        number = so_far[:-1] - so_far[start]
        reserved = np.flatnonzero(self.new & (number < slots))
        held = np.bincount(query[reserved], minlength=len(self.offsets) - 1)[query]
        # Both sequences grow within a query, so that the smaller of the two gives every item its own place.
        latest = start + np.maximum(k - held, 0) + number
        final = np.empty(len(self.order), dtype=np.int64)
        final[reserved] = np.minimum(position, latest)[reserved]
        others, free = np.ones(len(final), dtype=bool), np.ones(len(final), dtype=bool)
        others[reserved] = free[final[reserved]] = False
        final[others] = np.flatnonzero(free)
        minus_place = np.empty(len(final))
        minus_place[self.order] = start - final - 1.0
        return minus_place

    @cached_property
    def _query(self) -> IntArray:
        """(n_rows,) number of the query of each row."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def new_rows(frame: ScoreFrame, modality: str, told_by: Sequence[str] = ()) -> BoolArray:
    """(n_rows,) bool: the candidate lacks the modality, and has one of `told_by` where there are any."""
    new: BoolArray = ~frame.present[:, frame.modalities.index(modality)]
    if told_by:
        new &= frame.present[:, [frame.modalities.index(name) for name in told_by]].any(axis=1)
    return new


def known_to(meta: MetaLearner, frame: ScoreFrame) -> BoolArray:
    """(n_rows,) bool: a base that the meta-learner reads has an opinion on the candidate."""
    known: BoolArray = np.logical_or.reduce(np.isfinite(scores_of(frame, meta.bases_used())), axis=1)
    return known


def evidence_of(frame: ScoreFrame, newcomers: MetaLearner, is_new: BoolArray) -> dict[str, ScoreArray]:
    """Return what speaks for each row by name; the (n_rows,) score is NaN where the item is not new."""
    context = dict(zip(frame.context_names, frame.context.T.astype(np.float64), strict=True))
    return {SCORE: score_of_new(frame, newcomers, is_new), **context}


def merit_of(evidence: Mapping[str, ScoreArray], weights: Mapping[str, float]) -> ScoreArray:
    """Return the (n_rows,) weighted sum of the evidence, NaN where the item is not new."""
    merit = np.where(np.isnan(evidence[SCORE]), np.nan, 0.0)
    for name, weight in weights.items():
        merit += weight * evidence[name]
    return merit


def score_of_new(frame: ScoreFrame, newcomers: MetaLearner, is_new: BoolArray) -> ScoreArray:
    """(n_rows,) scores of the new rows of which `newcomers` knows something, NaN elsewhere."""
    known = is_new & known_to(newcomers, frame)
    score = np.full(len(known), np.nan)
    score[known] = newcomers.score(frame.take_rows(known))
    return score


def _best_first(scores: ScoreArray, offsets: IntArray) -> IntArray:
    """Return the (n_rows,) rows of every query by score; equal ones in an order drawn by their number."""
    order = np.empty(len(scores), dtype=np.int64)
    for rows in rows_by_size(offsets):
        shuffled = rows[:, np.random.default_rng(rows.shape[1]).permutation(rows.shape[1])]
        best = np.argsort(-scores[shuffled], axis=1, kind="stable")
        order[rows] = np.take_along_axis(shuffled, best, axis=1)
    return order
