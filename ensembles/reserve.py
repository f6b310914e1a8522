"""Places at the end of a list for items that nobody has met yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from ensembles.meta import MetaLearner, read_state, scores_of, write_state
from ensembles.score_frame import ScoreFrame
from features.errors import DataError
from features.frame import BoolArray, IntArray
from features.per_query import ScoreArray, rows_by_size

INNER, NEWCOMERS = "inner", "newcomers"


class Reserve:
    """Another meta-learner, with some of the last of the first k places for items that nobody has met.

    An item without an interaction has no behaviour to speak for it, so that a list ordered by expected hits
    alone never shows it, and it stays without an interaction. The last `slots` of the first `k` places of
    active users are kept for such items; those that already are among the first `k` count. Who has met much
    has met most of what is popular: there, places for new items cost the least and find the most.

    Parameters
    ----------
    inner
        The fitted meta-learner that orders everything.
    newcomers
        The fitted meta-learner that says which of the new items come first.
    modality
        The modality whose absence makes an item new: behaviour.
    told_by
        Modalities of which a new item needs one to get a place, where there are any. It also needs the
        opinion of a base that `newcomers` reads: without either nothing speaks for it.
    slots, k
        Most places that are kept, of the first k.
    activity, active_from
        Column of the context that tells how active a user is, and the least value for which places are
        kept; None for everybody.
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
        activity: str | None = None,
        active_from: float = 0.0,
    ) -> None:
        self.inner = inner
        self.newcomers = newcomers
        self.modality = modality
        self.told_by = tuple(told_by)
        self.slots = slots
        self.k = k
        self.activity = activity
        self.active_from = active_from

    def fit(self, oof: ScoreFrame) -> Self:
        """Fit the inner meta-learner."""
        self.inner = self.inner.fit(oof)
        return self

    def score(self, frame: ScoreFrame) -> ScoreArray:
        """Return (n_rows,) scores: minus the place in the list, from 1."""
        is_new = new_rows(frame, self.modality, self.told_by) & known_to(self.newcomers, frame)
        newcomers = self.newcomers.score(frame.take_rows(is_new))
        places = Places.ordered(frame, is_new, self.inner.score(frame), newcomers)
        active = activity_of(frame, self.activity) >= self.active_from
        return places.with_reserve(np.where(active, self.slots, 0), self.k)

    def bases_used(self) -> tuple[str, ...]:
        """Return what both meta-learners read."""
        return tuple(dict.fromkeys([*self.inner.bases_used(), *self.newcomers.bases_used()]))

    def save(self, folder: Path) -> None:
        """Write `meta.json` and a folder for each of the two meta-learners."""
        state = {"modality": self.modality, "told_by": self.told_by, "slots": self.slots, "k": self.k}
        state |= {"activity": self.activity, "active_from": self.active_from}
        write_state(folder, self.name, state)
        for name, meta in ((INNER, self.inner), (NEWCOMERS, self.newcomers)):
            (folder / name).mkdir()
            meta.save(folder / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from ensembles import load_meta

        state = {key: value for key, value in read_state(folder, cls.name).items() if key != "kind"}
        return cls(load_meta(folder / INNER), load_meta(folder / NEWCOMERS), **state)


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
        (n_rows,) bool along `order`: nobody has met the item.
    """

    offsets: IntArray
    order: IntArray
    new: BoolArray

    @classmethod
    def ordered(
        cls, frame: ScoreFrame, is_new: BoolArray, scores: ScoreArray, newcomers: ScoreArray
    ) -> Places:
        """Order by the (n_rows,) scores, and the new rows, on their places, by scores of their own."""
        order = _best_first(scores, frame.offsets)
        new = is_new[order]
        merit = np.full(len(order), -np.inf)
        merit[is_new] = newcomers
        by_merit = _best_first(merit, frame.offsets)
        order[new] = by_merit[is_new[by_merit]]
        return cls(frame.offsets, order, new)

    def with_reserve(self, slots: IntArray, k: int) -> ScoreArray:
        """Return (n_rows,) minus the place in the list after (n_queries,) slots have been given away.

        Where a list has fewer new items the others keep the places.
        """
        query, start = self._query, self.offsets[:-1][self._query]
        position = np.arange(len(self.order))
        so_far = np.concatenate([[0], np.cumsum(self.new)])
        number = so_far[:-1] - so_far[start]
        reserved = np.flatnonzero(self.new & (number < slots[query]))
        held = np.bincount(query[reserved], minlength=len(slots))[query]
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


def activity_of(frame: ScoreFrame, column: str | None) -> ScoreArray:
    """(n_queries,) activity of the users, 0 without a column; DataError if it is not in the context."""
    if column is None:
        return np.zeros(frame.n_queries)
    if column not in frame.context_names:
        raise DataError(
            f"got the context {', '.join(frame.context_names)}, expected also {column}",
            fix="score with the features that the model was trained with",
        )
    values = np.zeros(frame.n_queries)
    filled = frame.group_sizes > 0
    values[filled] = frame.context[frame.offsets[:-1][filled], frame.context_names.index(column)]
    return values


def _best_first(scores: ScoreArray, offsets: IntArray) -> IntArray:
    """Return the (n_rows,) rows of every query by score; equal ones in an order drawn by their number."""
    order = np.empty(len(scores), dtype=np.int64)
    for rows in rows_by_size(offsets):
        shuffled = rows[:, np.random.default_rng(rows.shape[1]).permutation(rows.shape[1])]
        best = np.argsort(-scores[shuffled], axis=1, kind="stable")
        order[rows] = np.take_along_axis(shuffled, best, axis=1)
    return order
