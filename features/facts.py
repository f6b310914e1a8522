"""What is known of an item or a user by itself: popularity, recency and age, activity, breadth, coverage."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from features.frame import FloatArray
from features.history import History
from features.space import Space


class Facts:
    """Per-item and per-user columns of one history; every one is a function of what is before the cut."""

    def __init__(self, history: History, items: Space) -> None:
        self.history, self.spaces = history, items

    @cached_property
    def of_items(self) -> Mapping[str, FloatArray]:
        """Name to (n_items,) float32; times are shares of the span of the history, NaN for an unseen item."""
        facts = {"log_popularity": np.log1p(self.history.popularity)}
        if self.history.times is None:
            return facts
        times, items = self.history.times.astype(np.float64), self.history.items
        first, last = np.full(self.history.n_items, np.inf), np.full(self.history.n_items, -np.inf)
        np.minimum.at(first, items, times)
        np.maximum.at(last, items, times)
        end, span = times.max(), max(float(np.ptp(times)), 1.0)
        seen = np.isfinite(first)
        with np.errstate(invalid="ignore"):
            facts["age"] = np.where(seen, (end - first) / span, np.nan).astype(np.float32)
            facts["idle"] = np.where(seen, (end - last) / span, np.nan).astype(np.float32)
        return facts

    @cached_property
    def of_users(self) -> Mapping[str, FloatArray]:
        """Name to (n_users,) float32: activity; per modality the coverage and the breadth of the likes.

        Coverage is the share of the liked items that have the modality. Breadth is 1 - |mean of their unit
        vectors|: 0 where all are alike (the mean resultant length of directional statistics).
        """
        liked = self.history.liked
        count = np.maximum(np.asarray(liked.sum(axis=1)).ravel(), 1.0)
        facts = {"log_activity": np.log1p(self.history.activity)}
        for name, modality in self.spaces.items():
            present = liked @ modality.present.astype(np.float32)
            length = np.linalg.norm(liked @ modality.unit, axis=1)
            breadth = np.where(present > 0, 1.0 - length / np.maximum(present, 1.0), np.nan)
            facts[f"{name}.coverage"] = (present / count).astype(np.float32)
            facts[f"{name}.breadth"] = breadth.astype(np.float32)
        return facts
