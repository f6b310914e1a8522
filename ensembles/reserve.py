"""Places at the end of a list for items that nobody has met yet."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from ensembles.meta import MetaLearner, read_state, write_state
from ensembles.score_frame import ScoreFrame
from features.frame import IntArray
from features.per_query import ScoreArray, rows_by_size

INNER_FOLDER = "inner"


class Reserve:
    """Another meta-learner, whose best new items take the last of the first k places.

    An item without an interaction has no behaviour to speak for it, so that a list ordered by expected hits
    alone never shows it, and it stays without an interaction. The last `slots` of the first `k` places are
    kept for such items, in the order in which the inner meta-learner has them; those that it placed there
    already count. Where a list has fewer new items the others keep the places.

    Parameters
    ----------
    inner
        The fitted meta-learner that orders everything.
    modality
        The modality whose absence makes an item new: behaviour.
    """

    name: ClassVar[str] = "reserve"
    settings_only: ClassVar[bool] = True

    def __init__(self, inner: MetaLearner, modality: str, slots: int, k: int) -> None:
        self.inner = inner
        self.modality = modality
        self.slots = slots
        self.k = k

    def fit(self, oof: ScoreFrame) -> Self:
        """Fit the inner meta-learner."""
        self.inner = self.inner.fit(oof)
        return self

    def score(self, frame: ScoreFrame) -> ScoreArray:
        """Return (n_rows,) scores: minus the place in the list, from 1."""
        return with_reserve(self.inner.score(frame), frame, self.modality, self.slots, self.k)

    def bases_used(self) -> tuple[str, ...]:
        """Return what the inner meta-learner reads."""
        return self.inner.bases_used()

    def save(self, folder: Path) -> None:
        """Write `meta.json` and the folder of the inner meta-learner."""
        state = {"modality": self.modality, "slots": self.slots, "k": self.k}
        write_state(folder, self.name, state)
        (folder / INNER_FOLDER).mkdir()
        self.inner.save(folder / INNER_FOLDER)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        from ensembles import load_meta

        state = read_state(folder, cls.name)
        return cls(load_meta(folder / INNER_FOLDER), state["modality"], state["slots"], state["k"])


def with_reserve(scores: ScoreArray, frame: ScoreFrame, modality: str, slots: int, k: int) -> ScoreArray:
    """Return (n_rows,) minus the place in the list after the reserve has been given its places."""
    query = np.repeat(np.arange(frame.n_queries), frame.group_sizes)
    start = frame.offsets[:-1][query]
    order = _best_first(scores, frame.offsets)
    position = np.arange(len(order))
    new = ~frame.present[order, frame.modalities.index(modality)]
    so_far = np.concatenate([[0], np.cumsum(new)])
    number = so_far[:-1] - so_far[start]
    reserved = np.flatnonzero(new & (number < slots))
    held = np.bincount(query[reserved], minlength=frame.n_queries)[query]
    # Both sequences grow within a query, so that the smaller of the two gives every item its own place.
    latest = start + np.maximum(k - held, 0) + number
    final = np.empty(len(order), dtype=np.int64)
    final[reserved] = np.minimum(position, latest)[reserved]
    others, free = np.ones(len(order), dtype=bool), np.ones(len(order), dtype=bool)
    others[reserved] = free[final[reserved]] = False
    final[others] = np.flatnonzero(free)
    minus_place = np.empty(len(order))
    minus_place[order] = start - final - 1.0
    return minus_place


def _best_first(scores: ScoreArray, offsets: IntArray) -> IntArray:
    """Return the (n_rows,) rows of every query by score; equal ones in an order drawn by their number."""
    order = np.empty(len(scores), dtype=np.int64)
    for rows in rows_by_size(offsets):
        shuffled = rows[:, np.random.default_rng(rows.shape[1]).permutation(rows.shape[1])]
        best = np.argsort(-scores[shuffled], axis=1, kind="stable")
        order[rows] = np.take_along_axis(shuffled, best, axis=1)
    return order
