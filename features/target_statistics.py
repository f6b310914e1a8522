"""How categories are liked, in the history before a cut: in-fold by the way histories are made.

The labels to be learned are never part of the history that a feature is made of, so that no target of a
row can come back in its own statistic. Shares are smoothed towards the share of everything, as if PRIOR more
had been seen there (Micci-Barreca, 2001).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from features.frame import FloatArray, IntArray
from features.history import History
from features.space import ModalityVectors

PRIOR = 10.0


def item_statistics(category: ModalityVectors, history: History) -> Mapping[str, FloatArray]:
    """Return name to (n_items,) float32 facts of the category of each item, NaN where it has none.

    `likes` is the log of one and the mean likes of an item of the category, the smoothed mean of all in it;
    `liked_share` the smoothed share of likes among the interactions with the category.
    """
    codes, member = category.vectors.argmax(axis=1), _members(category)
    size = member.sum(axis=0)
    likes, met = member.T @ history.popularity, member.T @ history.met_by
    overall = history.popularity[category.present].mean() if category.present.any() else 0.0
    mean = (likes + PRIOR * overall) / (size + PRIOR)
    share = (likes + PRIOR * _ratio(likes.sum(), met.sum())) / (met + PRIOR)
    return {
        "likes": _of(category, np.log1p(mean)[codes]),
        "liked_share": _of(category, share[codes]),
    }


class PeerRates:
    """The share of the users of a category who like an item: what is known of a user without a history."""

    def __init__(self, category: ModalityVectors, history: History) -> None:
        member = _members(category)
        self._codes = np.where(category.present, category.vectors.argmax(axis=1), -1)
        self._likes = sparse.csr_matrix(sparse.csr_array(member.T) @ history.liked)
        active = np.diff(history.liked.indptr) > 0
        self._size = member.T @ active.astype(np.float64)
        self._overall = history.popularity / max(int(active.sum()), 1)

    def of(self, users: IntArray, items: IntArray) -> FloatArray:
        """(n_rows,) float32 smoothed share, NaN for a user without a category."""
        codes = self._codes[users]
        known = codes >= 0
        rates = np.full(len(users), np.nan, dtype=np.float32)
        if not known.any():
            return rates
        likes = np.asarray(self._likes[codes[known], items[known]], dtype=np.float64).ravel()
        prior = PRIOR * self._overall[items[known]]
        rates[known] = (likes + prior) / (self._size[codes[known]] + PRIOR)
        return rates


def _members(category: ModalityVectors) -> np.ndarray:
    """(n, n_categories) float64 ones at the category of each row."""
    return np.where(category.present[:, None], category.vectors, 0).astype(np.float64)


def _of(category: ModalityVectors, values: np.ndarray) -> FloatArray:
    return np.where(category.present, values, np.nan).astype(np.float32)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
