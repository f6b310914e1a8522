"""Item-item models as retrievers: liked @ W, with W from behaviour or from the likeness of content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from scipy import sparse

from features.frame import BoolArray, FloatArray, IntArray
from features.history import History
from features.retrievers.base import (
    csr_from,
    csr_parts,
    load_model,
    padded,
    save_model,
    widened,
    without_opinion,
)


@dataclass(frozen=True)
class ItemItemRetriever:
    """Scores items by liked @ W.

    Attributes
    ----------
    weights
        (n_items, n_items) sparse W, source item to target item.
    known
        (n_items,) bool: the model knows the item. Others get no opinion, and so does a user none of
        whose items it knows.
    """

    kind: ClassVar[str] = "item_item"
    name: str
    block: str
    weights: sparse.csr_array
    known: BoolArray

    def scores(self, history: History, users: IntArray) -> FloatArray:
        """Return the sums of the weights from the liked items."""
        liked = history.liked[users]
        scores: FloatArray = (liked @ self.weights).toarray().astype(np.float32, copy=False)
        return without_opinion(scores, liked, self.known)

    def resized(self, n_items: int) -> Self:
        """Return the model with no weight from or to the new items."""
        weights = widened(self.weights, n_items, n_items)
        return replace(self, weights=weights, known=padded(self.known, n_items))

    def save(self, folder: Path) -> None:
        """Write the sparse weights."""
        save_model(folder, self, {**csr_parts(self.weights), "known": self.known})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the sparse weights."""
        meta, arrays = load_model(folder)
        weights = csr_from(arrays, len(arrays["known"]))
        return cls(meta["name"], meta["block"], weights, arrays["known"])
