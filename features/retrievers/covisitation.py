"""Covisitation: what users like shortly after an item."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from scipy import sparse

from features.frame import BoolArray, FloatArray, IntArray
from features.history import History
from features.item_models import keep_strongest
from features.retrievers.base import (
    BEHAVIOUR,
    csr_from,
    csr_parts,
    load_model,
    padded,
    require_times,
    save_model,
    widened,
    without_opinion,
)
from features.retrievers.popularity import last_likes

# Odd, so that different items draw different lots; Knuth's multiplicative hash.
LOT = 2_654_435_761


@dataclass(frozen=True)
class CovisitationRetriever:
    """Scores items by what followed the user's last items in the histories of others.

    Attributes
    ----------
    weights
        (n_items, n_items) sparse, from an item to those liked after it.
    known
        (n_items,) bool: the item was liked. Others are passed over.
    last
        How many of the last known items of a user count, the n-th from the end for 1 / n.
    """

    kind: ClassVar[str] = "covisitation"
    name: str
    block: str
    weights: sparse.csr_array
    known: BoolArray
    last: int

    def scores(self, history: History, users: IntArray) -> FloatArray:
        """Return the weights from the last liked items, summed."""
        require_times(history, self.name)
        places = history.places[users]
        scores: FloatArray = (self._last(places) @ self.weights).toarray().astype(np.float32, copy=False)
        return without_opinion(scores, places, self.known)

    def _last(self, places: sparse.csr_array) -> sparse.csr_array:
        """(n_users, n_items) float32 weights of the last known items."""
        place = np.where(self.known[places.indices], places.data, np.inf)
        row = np.repeat(np.arange(places.shape[0]), np.diff(places.indptr))
        order = np.lexsort((place, row))
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order)) - places.indptr[row]
        counts = np.isfinite(place) & (rank < self.last)
        values = np.where(counts, 1.0 / (rank + 1), 0.0).astype(np.float32)
        weighted = sparse.csr_array((values, places.indices, places.indptr), shape=places.shape)
        weighted.eliminate_zeros()
        return weighted

    def resized(self, n_items: int) -> Self:
        """Return the model with no weight from or to the new items."""
        weights = widened(self.weights, n_items, n_items)
        return replace(self, weights=weights, known=padded(self.known, n_items))

    def save(self, folder: Path) -> None:
        """Write the sparse weights."""
        save_model(folder, self, {**csr_parts(self.weights), "known": self.known}, last=self.last)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the sparse weights."""
        meta, arrays = load_model(folder)
        weights = csr_from(arrays, len(arrays["known"]))
        return cls(meta["name"], meta["block"], weights, arrays["known"], meta["last"])


def fit_covisitation(
    history: History, *, window: int = 5, last: int = 10, beta: float = 0.5, neighbours: int = 200
) -> CovisitationRetriever:
    """Count how often an item was liked up to `window` places after another, a place further for 1 / places.

    The counts are divided by the likes of the later item to the power `beta`, and the strongest
    `neighbours` of it are kept. Which of two likes at the same time was first is drawn by lot.
    """
    users, items, times = last_likes(history, "covisitation")
    order = np.lexsort((items * LOT % 2**32, times, users))
    users, items = users[order], items[order]
    shape = (history.n_items, history.n_items)
    weights = sparse.csr_array(shape, dtype=np.float64)
    for distance in range(1, window + 1):
        pairs = np.flatnonzero(users[:-distance] == users[distance:])
        values = np.full(len(pairs), 1.0 / distance)
        weights = weights + sparse.csr_array((values, (items[pairs], items[pairs + distance])), shape=shape)
    degree = np.maximum(history.popularity.astype(np.float64), 1.0)
    weights = (weights @ sparse.diags_array(degree**-beta)).tocsr()
    kept = keep_strongest(weights, neighbours)
    return CovisitationRetriever("covisitation", BEHAVIOUR, kept, history.popularity > 0, last)
