"""Encoded modalities of a set of ids, keyed by code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from features.encoders.base import Encoded
from features.frame import BoolArray, FloatArray
from features.item_models import content_knn, unit_rows


@dataclass(frozen=True)
class ModalityVectors:
    """Vectors of one modality over a code space.

    Attributes
    ----------
    vectors
        (n, d) float32 as encoded; rows without the modality are zeros.
    unit
        (n, d) float32 the same rows at length 1, for cosines.
    present
        (n,) bool: there is a vector.
    graph
        (n, n) cosines of every item to its nearest known items (see `content_knn`), or None.
    fitted_centre
        (d,) float32 centre from before ids were appended, or None where none were.
    guessed
        (n,) bool: the vector is a guess (see `features.filling`), or None where none is.
    """

    vectors: FloatArray
    present: BoolArray
    graph: sparse.csr_array | None = None
    fitted_centre: FloatArray | None = field(default=None, repr=False)
    guessed: BoolArray | None = field(default=None, repr=False)
    unit: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", unit_rows(self.vectors))

    @property
    def filled(self) -> BoolArray:
        """(n,) bool: the vector is a guess."""
        return np.zeros(len(self.present), dtype=bool) if self.guessed is None else self.guessed

    @property
    def own(self) -> BoolArray:
        """(n,) bool: the modality is there, and not only a guess of its vector."""
        return self.present if self.guessed is None else self.present & ~self.guessed

    def guessing(self, vectors: FloatArray, guessed: BoolArray) -> ModalityVectors:
        """Return the modality with these (n, d) vectors at the `guessed` (n,) rows, and its own elsewhere."""
        own = np.where(self.own[:, None], self.vectors, np.float32(0))
        filled = np.where(guessed[:, None], vectors, own).astype(np.float32)
        return replace(self, vectors=filled, present=self.own | guessed, guessed=guessed)

    def without(self, gone: BoolArray) -> ModalityVectors:
        """Return the modality without some (n,) rows; its centre, which was learned before, stays."""
        vectors = np.where(gone[:, None], np.float32(0), self.vectors)
        guessed = None if self.guessed is None else self.guessed & ~gone
        left = self.present & ~gone
        return replace(self, vectors=vectors, present=left, guessed=guessed, fitted_centre=self.centre)

    @cached_property
    def centre(self) -> FloatArray:
        """(d,) float32 mean of the rows of `unit` that are no guesses, appended ids left out."""
        if self.fitted_centre is not None:
            return self.fitted_centre
        total = self.unit[self.own].sum(axis=0, dtype=np.float64)
        mean: FloatArray = (total / max(int(self.own.sum()), 1)).astype(np.float32)
        return mean

    @property
    def centred(self) -> FloatArray:
        """(n, d) float32 directions from the centre, at length 1; rows without the modality are zeros."""
        return unit_rows(np.where(self.present[:, None], self.unit - self.centre, np.float32(0)))


Space = Mapping[str, ModalityVectors]


def place(encoded: Encoded, codes: np.ndarray, size: int) -> ModalityVectors:
    """Put encoded rows at their codes in a space of `size` ids; ids without a row are absent."""
    vectors = np.zeros((size, encoded.vectors.shape[1]), dtype=np.float32)
    present = np.zeros(size, dtype=bool)
    vectors[codes] = np.where(encoded.present[:, None], encoded.vectors, 0.0)
    present[codes] = encoded.present
    return ModalityVectors(vectors, present)


def extended(
    modality: ModalityVectors,
    new: Encoded,
    known: BoolArray,
    neighbours: int,
    guessed: BoolArray | None = None,
) -> ModalityVectors:
    """Append newly encoded ids; with a graph, new items find neighbours among the old `known` ones.

    `guessed` tells the (n_new,) appended rows whose vector is a guess.
    """
    n_old = len(modality.present)
    vectors = np.concatenate([modality.vectors, np.where(new.present[:, None], new.vectors, 0)])
    present = np.concatenate([modality.present, new.present])
    if modality.guessed is not None or guessed is not None:
        added_guesses = np.zeros(len(new.present), dtype=bool) if guessed is None else guessed
        guessed = np.concatenate([modality.filled, added_guesses])
    if modality.graph is None:
        return ModalityVectors(vectors, present, fitted_centre=modality.centre, guessed=guessed)
    n = len(present)
    sources = np.concatenate([known, np.zeros(n - n_old, dtype=bool)])
    targets = present & (np.arange(n) >= n_old)
    added = content_knn(vectors, present, sources, neighbours=neighbours, targets=targets).tocoo()
    old = modality.graph.tocoo()
    row, col = np.concatenate([old.row, added.row]), np.concatenate([old.col, added.col])
    graph = sparse.csr_array((np.concatenate([old.data, added.data]), (row, col)), shape=(n, n))
    return ModalityVectors(vectors, present, graph, modality.centre, guessed)


def with_graph(modality: ModalityVectors, known: BoolArray, neighbours: int) -> ModalityVectors:
    """Add the nearest-neighbour graph over the items that are `known`."""
    graph = content_knn(modality.vectors, modality.present, known, neighbours=neighbours)
    return replace(modality, graph=graph)
