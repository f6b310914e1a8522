"""Vectors of items by who likes them, in a space that stays the same from one history to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from features.history import History
from features.space import ModalityVectors

SEED = 0
POWERS = 2


def behaviour_vectors(history: History, dimensions: int = 64) -> ModalityVectors:
    """Return FastRP vectors (Chen et al., CIKM 2019) of the items of a history.

    Every item starts from a random vector of its own code, which two and four steps of the walk item,
    user, item carry to the items that the same people like; what all items share is taken off. The axes of
    factors turn from one fit to the next, those of random vectors do not: what is learned of the vectors of
    one history holds for those of another, and for items appended to the code space. Items that nobody
    likes are absent. Memory grows with the interactions and with items and users times `dimensions`.
    """
    liked = history.liked
    n_likes = np.asarray(liked.sum(axis=1), dtype=np.float32).ravel()
    popularity = history.popularity
    known = popularity > 0
    step = np.random.default_rng(SEED).standard_normal((history.n_items, dimensions))
    # Damped popularity, so that a few items that everybody likes do not make all vectors alike.
    step *= np.sqrt(_inverse(popularity))[:, None]
    total = np.zeros_like(step)
    for _ in range(POWERS):
        of_users = _scaled(np.asarray(liked @ step), n_likes)
        step = _scaled(np.asarray(liked.T @ of_users), popularity)
        step[known] -= step[known].mean(axis=0) if known.any() else 0.0
        total += step / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return ModalityVectors(total.astype(np.float32), known)


def _scaled(rows: NDArray[np.float64], sizes: NDArray[np.float32]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = rows * _inverse(sizes)[:, None]
    return scaled


def _inverse(sizes: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.divide(1.0, sizes, out=np.zeros(len(sizes)), where=sizes > 0)
