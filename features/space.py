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
    present
        (n,) bool: there is a vector.
    graph
        (n, n) cosines of every item to its nearest known items (see `content_knn`), or None.
    guessed
        (n,) bool: the vector is a guess (see `features.filling`), or None where none is.
    terms
        (n, n_terms) float32 rows of length 1, of which `vectors` are a projection (see `Encoded`), or None.
        Rows without entries have no more than their vector.
    """

    vectors: FloatArray
    present: BoolArray
    graph: sparse.csr_array | None = None
    guessed: BoolArray | None = field(default=None, repr=False)
    terms: sparse.csr_array | None = field(default=None, repr=False)

    @cached_property
    def unit(self) -> FloatArray:
        """(n, d) float32 rows of `vectors` at length 1, for cosines."""
        return unit_rows(self.vectors)

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
        """Return the modality without some (n,) rows."""
        vectors = np.where(gone[:, None], np.float32(0), self.vectors)
        guessed = None if self.guessed is None else self.guessed & ~gone
        left = self.present & ~gone
        terms = None if self.terms is None else _rows_kept(self.terms, left)
        return replace(self, vectors=vectors, present=left, guessed=guessed, terms=terms)


Space = Mapping[str, ModalityVectors]


def place(encoded: Encoded, codes: np.ndarray, size: int) -> ModalityVectors:
    """Put encoded rows at their codes in a space of `size` ids; ids without a row are absent."""
    vectors = np.zeros((size, encoded.vectors.shape[1]), dtype=np.float32)
    present = np.zeros(size, dtype=bool)
    vectors[codes] = np.where(encoded.present[:, None], encoded.vectors, 0.0)
    present[codes] = encoded.present
    return ModalityVectors(vectors, present, terms=_placed(encoded, codes, size))


def _placed(encoded: Encoded, codes: np.ndarray, size: int) -> sparse.csr_array | None:
    if encoded.terms is None:
        return None
    entries = _rows_kept(encoded.terms, encoded.present).tocoo()
    shape = (size, entries.shape[1])
    return sparse.csr_array((entries.data, (codes[entries.row], entries.col)), shape=shape)


def _rows_kept(rows: sparse.csr_array, kept: BoolArray) -> sparse.csr_array:
    counts = np.diff(rows.indptr)
    entries = np.repeat(kept, counts)
    ends = np.concatenate([[0], np.cumsum(np.where(kept, counts, 0))])
    return sparse.csr_array((rows.data[entries], rows.indices[entries], ends), shape=rows.shape)


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
    grown = ModalityVectors(
        vectors,
        present,
        guessed=guessed,
        terms=None if modality.terms is None else _appended(modality.terms, new),
    )
    if modality.graph is None:
        return grown
    n = len(present)
    sources = np.concatenate([known, np.zeros(n - n_old, dtype=bool)])
    targets = present & (np.arange(n) >= n_old)
    added = nearest_items(grown, sources, neighbours, targets).tocoo()
    old = modality.graph.tocoo()
    row, col = np.concatenate([old.row, added.row]), np.concatenate([old.col, added.col])
    graph = sparse.csr_array((np.concatenate([old.data, added.data]), (row, col)), shape=(n, n))
    return replace(grown, graph=graph)


def with_graph(modality: ModalityVectors, known: BoolArray, neighbours: int) -> ModalityVectors:
    """Add the nearest-neighbour graph over the items that are `known`."""
    return replace(modality, graph=nearest_items(modality, known, neighbours, modality.present))


def nearest_items(
    modality: ModalityVectors, known: BoolArray, neighbours: int, targets: BoolArray
) -> sparse.csr_array:
    """Return (n, n) cosines of the targets to their nearest known items, by terms where they have any."""
    present = modality.present
    if modality.terms is None:
        return content_knn(modality.vectors, present, known, neighbours=neighbours, targets=targets)
    told = np.diff(modality.terms.indptr) > 0
    by_terms = content_knn(modality.terms, told, known, neighbours=neighbours, targets=targets)
    others = targets & ~told
    if not others.any():
        return by_terms
    by_vectors = content_knn(modality.vectors, present, known, neighbours=neighbours, targets=others)
    return sparse.csr_array(by_terms + by_vectors)


def _appended(terms: sparse.csr_array, new: Encoded) -> sparse.csr_array:
    nothing = sparse.csr_array((len(new.present), terms.shape[1]), dtype=np.float32)
    added = nothing if new.terms is None else _rows_kept(new.terms, new.present)
    return sparse.csr_array(sparse.vstack([terms, added]))
