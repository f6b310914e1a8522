"""Histories and spaces whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from features.history import History
from features.space import ModalityVectors


def history_of(
    rows: Sequence[tuple[int, int, float, int]], n_users: int, n_items: int, positive_from: float = 1.0
) -> History:
    """Return a history from (user, item, label, time) rows."""
    users, items, labels, times = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return History(
        users=users.astype(np.int64),
        items=items.astype(np.int64),
        labels=labels.astype(np.float32),
        times=times.astype(np.int64),
        n_users=n_users,
        n_items=n_items,
        positive_from=positive_from,
    )


def liked_of(rows: ArrayLike) -> sparse.csr_array:
    """Return a matrix of liked items from dense rows of 0 and 1."""
    return sparse.csr_array(np.asarray(rows, dtype=np.float32))


def vectors_of(*rows: Sequence[float] | None) -> ModalityVectors:
    """Return a modality from one vector an id, None where it is absent."""
    width = max(len(row) for row in rows if row is not None)
    filled = [np.zeros(width) if row is None else row for row in rows]
    return ModalityVectors(np.array(filled, dtype=np.float32), np.array([row is not None for row in rows]))


def block_history(n_users: int, n_blocks: int, per_block: int, *, n_cold: int = 0, seed: int = 0) -> History:
    """Every user likes 3/4 of the items of one block, and one item of another block; the last are cold."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        block = user % n_blocks
        own = rng.permutation(per_block)[: 3 * per_block // 4] + block * per_block
        other = (block + 1) % n_blocks * per_block + rng.integers(per_block)
        rows += [(user, item, 1.0, time) for time, item in enumerate([*own, other])]
    return history_of(rows, n_users, n_blocks * per_block + n_cold)


@dataclass(frozen=True)
class TableRetriever:
    """Gives user u the row of a table; a user is told by the one item of the same code in the history."""

    kind: ClassVar[str] = "table"
    name: str
    table: np.ndarray
    block: str = "behaviour"

    def scores(self, history: History, users: np.ndarray) -> np.ndarray:
        liked = history.liked[users]
        assert np.array_equal(np.diff(liked.indptr), np.ones(liked.shape[0]))
        return self.table[liked.indices].astype(np.float32)


def self_history(n_users: int, n_items: int) -> History:
    """Return the history in which user u liked item u, as the table retriever needs."""
    return history_of([(user, user, 1.0, user) for user in range(n_users)], n_users, n_items)
