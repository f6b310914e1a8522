"""User-based neighbourhoods: what the users like who like the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from scipy import sparse

from features.frame import BoolArray, FloatArray, IntArray
from features.history import History
from features.item_models import damped
from features.retrievers.base import (
    BEHAVIOUR,
    csr_from,
    csr_parts,
    load_model,
    padded,
    save_model,
    widened,
    without_opinion,
)

# Similarities of one chunk of users to all fitted ones hold at most this many cells.
CHUNK_CELLS = 4_000_000


@dataclass(frozen=True)
class UserKnnRetriever:
    """Scores items by the likes of the nearest fitted users, weighted by the cosine to them.

    Attributes
    ----------
    fitted
        (n_fitted_users, n_items) float32 ones at liked items.
    item_weights
        (n_items,) float32: how much an item counts in the cosine; 0 for an unknown item.
    neighbours
        How many users are taken; those as similar as the last one are taken too, so that the order of
        the users does not matter.
    """

    kind: ClassVar[str] = "user_knn"
    name: str
    block: str
    fitted: sparse.csr_array
    item_weights: FloatArray
    neighbours: int

    @property
    def known(self) -> BoolArray:
        """(n_items,) bool: a fitted user liked the item."""
        known: BoolArray = self.item_weights > 0
        return known

    @cached_property
    def _columns(self) -> sparse.csr_array:
        return _unit_rows(self.fitted, self.item_weights).T.tocsr()

    def scores(self, history: History, users: IntArray) -> FloatArray:
        """Return the sums of the similarities to the neighbours who like the item."""
        liked = history.liked[users]
        unit = _unit_rows(liked, self.item_weights)
        scores = np.empty((len(users), len(self.item_weights)), dtype=np.float32)
        rows = max(1, CHUNK_CELLS // max(1, self.fitted.shape[0]))
        for start in range(0, len(users), rows):
            chunk = slice(start, start + rows)
            similar = _most_similar((unit[chunk] @ self._columns).tocsr(), self.neighbours)
            scores[chunk] = (similar @ self.fitted).toarray()
        return without_opinion(scores, liked, self.known)

    def resized(self, n_items: int) -> Self:
        """Return the model in which nobody likes the new items."""
        fitted = widened(self.fitted, n_items)
        return replace(self, fitted=fitted, item_weights=padded(self.item_weights, n_items))

    def save(self, folder: Path) -> None:
        """Write the likes of the fitted users."""
        arrays = {**csr_parts(self.fitted), "item_weights": self.item_weights}
        save_model(folder, self, arrays, neighbours=self.neighbours)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the likes of the fitted users."""
        meta, arrays = load_model(folder)
        item_weights = arrays["item_weights"]
        fitted = csr_from(arrays, len(item_weights))
        return cls(meta["name"], meta["block"], fitted, item_weights, meta["neighbours"])


def fit_user_knn(history: History, *, neighbours: int = 200, damping: float = 0.5) -> UserKnnRetriever:
    """Keep the users who like something; an item counts degree^-damping in their cosine.

    The user-based neighbourhood model of Herlocker et al. (1999), with damped popularity.
    """
    liked = history.liked
    fitted = liked[np.flatnonzero(np.diff(liked.indptr))]
    weights = damped(history.popularity, damping).astype(np.float32)
    return UserKnnRetriever("user_knn", BEHAVIOUR, fitted, weights, neighbours)


def _unit_rows(liked: sparse.csr_array, item_weights: FloatArray) -> sparse.csr_array:
    """(n_users, n_items) float64 weights of the liked items, rows at length 1."""
    weighted = sparse.csr_array(
        (item_weights[liked.indices].astype(np.float64), liked.indices, liked.indptr), shape=liked.shape
    )
    weighted.eliminate_zeros()
    length = np.sqrt(weighted.multiply(weighted).sum(axis=1))
    weighted.data /= np.repeat(length, np.diff(weighted.indptr))
    return weighted


def _most_similar(similarities: sparse.csr_array, neighbours: int) -> sparse.csr_array:
    """Keep in every row the `neighbours` largest and what is equal to the last of them."""
    # Sums in float64 that differ by rounding only are equal in float32.
    values = similarities.data.astype(np.float32)
    kept = np.ones(len(values), dtype=bool)
    for start, stop in zip(similarities.indptr[:-1], similarities.indptr[1:], strict=True):
        if stop - start > neighbours:
            row = values[start:stop]
            last = stop - start - neighbours
            kept[start:stop] = row >= np.partition(row, last)[last]
    indptr = np.concatenate([[0], np.cumsum(kept)])[similarities.indptr]
    shape = similarities.shape
    chosen = sparse.csr_array((values[kept], similarities.indices[kept], indptr), shape=shape)
    chosen.sort_indices()
    return chosen
