"""Models that project a user's likes and the items into one space, and take their dot product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from features.frame import BoolArray, FloatArray, IntArray
from features.history import History
from features.retrievers.base import load_model, padded, save_model, without_opinion
from features.retrievers.products import exact_products, on_grid


@dataclass(frozen=True)
class ProjectionRetriever:
    """Scores items by (liked @ source) @ target.T / n^likes_power, n being the known items a user likes.

    Attributes
    ----------
    source, target
        (n_items, n_factors) float32.
    known
        (n_items,) bool: the model knows the item. Others get no opinion, and so does a user none of
        whose items it knows.
    likes_power
        0 for a sum over the likes, 1 for a mean.
    """

    kind: ClassVar[str] = "projection"
    name: str
    block: str
    source: FloatArray
    target: FloatArray
    known: BoolArray
    likes_power: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", on_grid(self.target))

    def scores(self, history: History, users: IntArray) -> FloatArray:
        """Return the dot products of projected users and items."""
        liked = history.liked[users]
        n_known = liked @ self.known.astype(np.float64)
        projected = (liked @ self.source) / np.maximum(n_known, 1.0)[:, None] ** self.likes_power
        scores = np.empty((len(users), len(self.known)), dtype=np.float32)
        for columns, products in exact_products(projected, self.target):
            scores[:, columns] = products
        return without_opinion(scores, liked, self.known)

    def resized(self, n_items: int) -> Self:
        """Return the model with zeros for the new items."""
        source, target, known = (padded(array, n_items) for array in (self.source, self.target, self.known))
        return replace(self, source=source, target=target, known=known)

    def save(self, folder: Path) -> None:
        """Write the projections."""
        arrays = {"source": self.source, "target": self.target, "known": self.known}
        save_model(folder, self, arrays, likes_power=self.likes_power)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the projections."""
        meta, arrays = load_model(folder)
        projections = arrays["source"], arrays["target"], arrays["known"]
        return cls(meta["name"], meta["block"], *projections, meta["likes_power"])
