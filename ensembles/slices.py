"""Parts of the positives by what is known of them, and the worst served of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembles.score_frame import ACTIVITY, ScoreFrame
from features.frame import BoolArray, IntArray
from features.retrievers import BEHAVIOUR
from rankers.metrics import rank_order

Values = NDArray[np.float64]

FEWEST = 30
NEVER_MET = "items never met"


@dataclass(frozen=True)
class WorstSlice:
    """The slice with the lowest mean.

    Attributes
    ----------
    name, mean
        Which one, and its mean NDCG@k.
    n
        Queries that have a positive of the slice.
    """

    name: str
    mean: float
    n: int


@dataclass(frozen=True)
class RankedPositives:
    """Where the positives of a frame stand under some scores.

    Attributes
    ----------
    rows, owner
        (n_positives,) row and query of each, query by query from the best place to the worst.
    place
        (n_positives,) candidates above it.
    """

    frame: ScoreFrame
    rows: IntArray
    owner: IntArray
    place: IntArray

    @classmethod
    def of(cls, frame: ScoreFrame, scores: Values, among: BoolArray | None = None) -> RankedPositives:
        """Rank the candidates by (n_rows,) scores; ties are broken at random, the same way every time.

        With (n_rows,) bool `among` the others are left out, as if they were no candidates.
        """
        order = rank_order(scores, frame.offsets)
        counts = np.ones(len(order), dtype=bool) if among is None else among[order]
        owner = np.repeat(np.arange(frame.n_queries), frame.group_sizes)
        place = _running(counts, owner)
        positive = counts & (frame.labels[order] > 0)
        return cls(frame, order[positive], owner[positive], place[positive])

    def ndcg(self, part: BoolArray, k: int) -> Values:
        """Return (n_queries,) NDCG@k of some positives, as if the others were no candidates.

        Parameters
        ----------
        part
            (n_rows,) bool: the positives that count.

        Returns
        -------
        numpy.ndarray
            NaN where a query has none of them.
        """
        counted = part[self.rows]
        others_above = _running(~counted, self.owner)
        rank = (self.place - others_above)[counted]
        owner = self.owner[counted]
        gain = np.exp2(self.frame.labels[self.rows[counted]].astype(np.float64)) - 1.0
        gained = np.where(rank < k, gain / np.log2(rank + 2.0), 0.0)
        best_first = np.lexsort((-gain, owner))
        nth = _running(np.ones(len(owner), dtype=bool), owner)
        ideal = np.where(nth < k, gain[best_first] / np.log2(nth + 2.0), 0.0)
        n = self.frame.n_queries
        total = np.bincount(owner, ideal, minlength=n)
        values: Values = np.bincount(owner, gained, minlength=n) / np.where(total > 0, total, np.nan)
        return values


def positive_slices(frame: ScoreFrame) -> dict[str, BoolArray]:
    """Return the (n_rows,) positives of every slice with at least FEWEST queries, by name.

    Slices are the availability patterns, items met and never met, and the thirds of the queries by the
    user's activity, as far as the frame knows these.
    """
    positive = frame.labels > 0
    found = {f"pattern {name}": rows for name, rows in _patterns(frame).items()}
    if BEHAVIOUR in frame.modalities:
        met = frame.present[:, frame.modalities.index(BEHAVIOUR)]
        found |= {NEVER_MET: ~met, "items met": met}
    if ACTIVITY in frame.context_names:
        found |= _activity_thirds(frame)
    owner = np.repeat(np.arange(frame.n_queries), frame.group_sizes)
    counted = {name: positive & rows for name, rows in found.items()}
    return {name: rows for name, rows in counted.items() if len(np.unique(owner[rows])) >= FEWEST}


def worst_slice(
    frame: ScoreFrame, scores: Values, slices: Mapping[str, BoolArray], k: int
) -> WorstSlice | None:
    """Return the slice with the lowest mean NDCG@k under (n_rows,) scores; None without slices."""
    ranked = RankedPositives.of(frame, scores)
    values = {name: ranked.ndcg(rows, k) for name, rows in slices.items()}
    means = {name: float(np.nanmean(each)) for name, each in values.items()}
    if not means:
        return None
    name = min(means, key=lambda each: means[each])
    return WorstSlice(name, means[name], int((~np.isnan(values[name])).sum()))


def _patterns(frame: ScoreFrame) -> dict[str, BoolArray]:
    kinds, code = np.unique(frame.present, axis=0, return_inverse=True)
    names = [
        "+".join(name for name, has in zip(frame.modalities, kind, strict=True) if has) or "none"
        for kind in kinds
    ]
    return {name: code == number for number, name in enumerate(names)} if len(kinds) > 1 else {}


def _activity_thirds(frame: ScoreFrame) -> dict[str, BoolArray]:
    activity = frame.context[:, frame.context_names.index(ACTIVITY)]
    low, high = np.quantile(activity[frame.offsets[:-1][frame.group_sizes > 0]], [1 / 3, 2 / 3])
    if low == high:
        return {}
    return {
        "quiet users": activity <= low,
        "users between": (activity > low) & (activity <= high),
        "busy users": activity > high,
    }


def _running(flags: BoolArray, owner: IntArray) -> IntArray:
    """Return (n,) how many flags are set before each entry within its query."""
    before: IntArray = np.cumsum(flags) - flags
    return before - before[np.searchsorted(owner, owner)]
