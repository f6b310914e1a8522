"""Ids as codes, and the interactions before a cut as sparse matrices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from features.frame import BoolArray, FloatArray, IntArray

UNKNOWN = -1
DRAW_SEED = 0


@dataclass(frozen=True)
class IdIndex:
    """A fixed list of string ids and their codes (positions)."""

    ids: NDArray[np.str_]

    @classmethod
    def of(cls, ids: Iterable[str]) -> IdIndex:
        """Index the distinct ids in sorted order, so that the order of a file means nothing."""
        return cls(np.unique(np.asarray(list(ids), dtype=np.str_)))

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {str(name): code for code, name in enumerate(self.ids)}

    def codes(self, ids: Iterable[str]) -> IntArray:
        """Return int64 codes, UNKNOWN (-1) for an id that is not in the index."""
        position = self._position
        return np.fromiter((position.get(name, UNKNOWN) for name in ids), dtype=np.int64)

    def extend(self, ids: Iterable[str]) -> IdIndex:
        """Return an index that keeps every code and appends the ids it does not know yet, sorted."""
        new = sorted({name for name in ids if name not in self._position})
        return IdIndex(np.concatenate([self.ids, np.asarray(new, dtype=np.str_)])) if new else self


@dataclass(frozen=True)
class History:
    """Interactions that a model may know, all of them before its cut.

    Attributes
    ----------
    users, items
        (n,) int64 codes.
    labels
        (n,) float32; at least `positive_from` means liked, below it disliked.
    times
        (n,) int64 in the unit of the table, or None where the data has no times.
    n_users, n_items
        Sizes of the code spaces.
    stages
        (n,) int64 0 for the train split, 1 for valid, or None: an order where there are no times.
    """

    users: IntArray
    items: IntArray
    labels: FloatArray
    times: IntArray | None
    n_users: int
    n_items: int
    positive_from: float
    stages: IntArray | None = None

    def take(self, keep: BoolArray) -> History:
        """Return the history of the interactions where `keep` is true."""
        times = None if self.times is None else self.times[keep]
        stages = None if self.stages is None else self.stages[keep]
        users, items, labels = self.users[keep], self.items[keep], self.labels[keep]
        return replace(self, users=users, items=items, labels=labels, times=times, stages=stages)

    def resized(self, n_users: int, n_items: int) -> History:
        """Return the same history in larger code spaces."""
        return replace(self, n_users=n_users, n_items=n_items)

    @property
    def is_positive(self) -> BoolArray:
        """(n,) bool: the interaction is liked."""
        return self.labels >= self.positive_from

    @cached_property
    def liked(self) -> sparse.csr_array:
        """(n_users, n_items) float32 ones at liked items."""
        return self._binary(self.is_positive)

    @cached_property
    def disliked(self) -> sparse.csr_array:
        """(n_users, n_items) float32 ones at items the user met and did not like."""
        return self._binary(~self.is_positive)

    @cached_property
    def seen(self) -> sparse.csr_array:
        """(n_users, n_items) float32 ones at every item the user met."""
        return self._binary(np.ones(len(self.users), dtype=bool))

    def recent(self, k: int) -> sparse.csr_array:
        """(n_users, n_items) float32 ones at the last k liked items of each user; needs times.

        An item liked several times counts once, at its last time; ties go by item code.
        """
        order, position = self._newest_first
        rows = order[position < k]
        return self._matrix(rows, np.ones(len(rows), dtype=np.float32))

    def recency(self, half_life: float) -> sparse.csr_array:
        """(n_users, n_items) float32 weights of the liked items, halved every `half_life` items back."""
        order, position = self._newest_first
        return self._matrix(order, np.exp2(-position / half_life).astype(np.float32))

    @cached_property
    def places(self) -> sparse.csr_array:
        """(n_users, n_items) float32 places of the liked items in time, the newest of a user being 1."""
        order, position = self._newest_first
        return self._matrix(order, (position + 1).astype(np.float32))

    def newest(self, length: int) -> IntArray:
        """(n_users, length) int64 last liked items of each user, the newest first, filled up with UNKNOWN.

        Without times a user of more items has the same ones whoever asks, drawn at random: by its code an
        item may tell more than it should.
        """
        if self.times is None:
            pairs = self.liked.tocoo()
            lot = np.random.default_rng(DRAW_SEED).random(self.n_items)
            order = np.lexsort((lot[pairs.col], pairs.row))
            users, items = (codes[order].astype(np.int64) for codes in (pairs.row, pairs.col))
        else:
            order, _ = self._newest_first
            users, items = self.users[order], self.items[order]
        place = np.arange(len(users)) - np.searchsorted(users, np.arange(self.n_users))[users]
        newest = np.full((self.n_users, length), UNKNOWN)
        kept = place < length
        newest[users[kept], place[kept]] = items[kept]
        return newest

    @cached_property
    def last_times(self) -> NDArray[np.float64]:
        """(n_users,) time of the last interaction of each user, NaN where there is none; needs times."""
        if self.times is None:
            raise ValueError("last times need times")
        last = np.full(self.n_users, -np.inf)
        np.maximum.at(last, self.users, self.times)
        return np.where(np.isfinite(last), last, np.nan)

    @cached_property
    def _newest_first(self) -> tuple[IntArray, IntArray]:
        """Rows of the liked items by user, the newest first, each item once; and their place from 0."""
        if self.times is None:
            raise ValueError("recent items need times")
        liked = np.flatnonzero(self.is_positive)
        order = liked[np.lexsort((self.items[liked], -self.times[liked], self.users[liked]))]
        _, last_time = np.unique(self.users[order] * self.n_items + self.items[order], return_index=True)
        order = order[np.sort(last_time)]
        starts = np.searchsorted(self.users[order], np.arange(self.n_users))
        return order, np.arange(len(order)) - starts[self.users[order]]

    @cached_property
    def popularity(self) -> FloatArray:
        """(n_items,) float32 number of users who liked the item."""
        return np.asarray(self.liked.sum(axis=0), dtype=np.float32).ravel()

    @cached_property
    def met_by(self) -> FloatArray:
        """(n_items,) float32 number of users who met the item, liked or not."""
        return np.asarray(self.seen.sum(axis=0), dtype=np.float32).ravel()

    @cached_property
    def activity(self) -> FloatArray:
        """(n_users,) float32 number of items the user met."""
        return np.asarray(self.seen.sum(axis=1), dtype=np.float32).ravel()

    def _binary(self, keep: BoolArray) -> sparse.csr_array:
        matrix = self._matrix(np.flatnonzero(keep), np.ones(int(keep.sum()), dtype=np.float32))
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        return matrix

    def _matrix(self, rows: IntArray, values: FloatArray) -> sparse.csr_array:
        shape = (self.n_users, self.n_items)
        matrix = sparse.csr_array((values, (self.users[rows], self.items[rows])), shape=shape)
        matrix.sort_indices()
        return matrix
