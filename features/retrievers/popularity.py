"""Popularity: ever, of late, and around the time at which a user was last seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from features.errors import ConfigError
from features.frame import BoolArray, FloatArray, IntArray
from features.history import History
from features.retrievers.base import (
    BEHAVIOUR,
    csr_from,
    csr_parts,
    load_model,
    padded,
    require_times,
    save_model,
    widened,
)

# A bucket and its two neighbours.
TRIANGLE = (0.5, 1.0, 0.5)


@dataclass(frozen=True)
class PopularityRetriever:
    """Scores every item by a count of its likes, the same for everybody."""

    kind: ClassVar[str] = "popularity"
    name: str
    block: str
    counts: FloatArray

    @property
    def known(self) -> BoolArray:
        """(n_items,) bool: every item has a count."""
        return np.ones(len(self.counts), dtype=bool)

    def scores(self, history: History, users: IntArray) -> FloatArray:
        """Return the counts for every user."""
        return np.tile(self.counts, (len(users), 1))

    def resized(self, n_items: int) -> Self:
        """Return counts of 0 for the new items."""
        return replace(self, counts=padded(self.counts, n_items))

    def save(self, folder: Path) -> None:
        """Write the counts."""
        save_model(folder, self, {"counts": self.counts})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the counts."""
        meta, arrays = load_model(folder)
        return cls(meta["name"], meta["block"], arrays["counts"])


@dataclass(frozen=True)
class LocalPopularityRetriever:
    """Scores items by their likes around the time of the user's last interaction.

    Attributes
    ----------
    counts
        (n_buckets, n_items) sparse float32 likes in and around each bucket of time.
    borders
        (n_buckets - 1,) float64 times at which the later buckets begin.
    recent
        (n_items,) float32 counts for users without a history.
    """

    kind: ClassVar[str] = "local_popularity"
    name: str
    block: str
    counts: sparse.csr_array
    borders: NDArray[np.float64]
    recent: FloatArray

    @property
    def known(self) -> BoolArray:
        """(n_items,) bool: every item has a count."""
        return np.ones(len(self.recent), dtype=bool)

    def scores(self, history: History, users: IntArray) -> FloatArray:
        """Return the counts around the last time of every user."""
        require_times(history, self.name)
        last = history.last_times[users]
        bucket = np.searchsorted(self.borders, last, side="right")
        seen = np.isfinite(last)
        scores = np.tile(self.recent, (len(users), 1))
        scores[seen] = self.counts[bucket[seen]].toarray()
        return scores

    def resized(self, n_items: int) -> Self:
        """Return counts of 0 for the new items."""
        return replace(self, counts=widened(self.counts, n_items), recent=padded(self.recent, n_items))

    def save(self, folder: Path) -> None:
        """Write the counts and the borders of the buckets."""
        arrays = {**csr_parts(self.counts), "borders": self.borders, "recent": self.recent}
        save_model(folder, self, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the counts and the borders of the buckets."""
        meta, arrays = load_model(folder)
        counts = csr_from(arrays, len(arrays["recent"]))
        return cls(meta["name"], meta["block"], counts, arrays["borders"], arrays["recent"])


def fit_popularity(history: History) -> PopularityRetriever:
    """Count the users who liked each item."""
    return PopularityRetriever("popularity", BEHAVIOUR, history.popularity)


def fit_recent_popularity(history: History, *, half_life: float = 0.05) -> PopularityRetriever:
    """Count the users who liked each item, the older likes for less.

    A like counts half as much every `half_life` of the time that the history spans before its end. Where
    there are no times but splits, those of the newest split are the recent ones.
    """
    if history.times is None and history.stages is not None:
        history = replace(history, times=history.stages)
    _, items, times = last_likes(history, "recent_popularity")
    counts = _recent_counts(items, times, history.n_items, half_life)
    return PopularityRetriever("recent_popularity", BEHAVIOUR, counts)


def fit_local_popularity(
    history: History, *, buckets: int = 50, half_life: float = 0.05
) -> LocalPopularityRetriever:
    """Count the likes of each item in `buckets` of time that hold about as many likes each.

    Those of the neighbouring buckets count half. `half_life` is that of `recent_popularity`, which users
    without a history get.
    """
    _, items, times = last_likes(history, "local_popularity")
    inner = np.linspace(0, 1, buckets + 1)[1:-1]
    borders = np.unique(np.quantile(times, inner, method="higher")) if len(times) else np.zeros(0)
    bucket = np.searchsorted(borders, times, side="right")
    ones = np.ones(len(items), dtype=np.float32)
    own = sparse.csr_array((ones, (bucket, items)), shape=(len(borders) + 1, history.n_items))
    near = sparse.diags_array(TRIANGLE, offsets=(-1, 0, 1), shape=(len(borders) + 1,) * 2, dtype=np.float32)
    recent = _recent_counts(items, times, history.n_items, half_life)
    counts = (near.tocsr() @ own).tocsr()
    return LocalPopularityRetriever("local_popularity", BEHAVIOUR, counts, borders.astype(np.float64), recent)


def last_likes(history: History, kind: str) -> tuple[IntArray, IntArray, IntArray]:
    """Return users, items and times of the liked pairs, each once at its last time, by user and item.

    Raises
    ------
    ConfigError
        If the history has no times, which the kind of retriever needs.
    """
    if history.times is None:
        raise ConfigError(
            f"retriever {kind!r} needs the times of the interactions, which the data does not have",
            fix="name data.columns.time, or leave the retriever out",
        )
    liked = np.flatnonzero(history.is_positive)
    users, items, times = history.users[liked], history.items[liked], history.times[liked]
    order = np.lexsort((times, items, users))
    users, items, times = users[order], items[order], times[order]
    last = np.append((np.diff(users) != 0) | (np.diff(items) != 0), True)[: len(users)]
    return users[last], items[last], times[last]


def _recent_counts(items: IntArray, times: IntArray, n_items: int, half_life: float) -> FloatArray:
    age = times.max(initial=0) - times if len(times) else times
    span = max(int(age.max(initial=0)), 1)
    weights = np.exp2(-age / (half_life * span))
    return np.bincount(items, weights, minlength=n_items).astype(np.float32)
