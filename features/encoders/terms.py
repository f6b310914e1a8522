"""Rows as bags of terms: weighted by tf-idf, projected to their leading directions, of unit length."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import NDArray

from features.encoders.base import Encoded
from features.encoders.projection import Matrix, absent, leading_directions
from features.encoders.storage import read_array, read_json, write_array, write_json

if TYPE_CHECKING:
    from scipy.sparse import csr_array, csr_matrix

SHORTEST = 1e-6
"""A projected row below this length (of 1 before the projection) is rounding noise."""


@dataclass(frozen=True)
class TermSpace:
    """Terms, their weights and the directions they are projected on.

    Attributes
    ----------
    terms
        Known terms in alphabetical order.
    idf
        (n_terms,) float64 inverse document frequency.
    directions
        (n_terms, width) float64 that hold float32 values, or None where the terms are few enough to stand
        for themselves.
    """

    terms: tuple[str, ...]
    idf: Matrix
    directions: Matrix | None

    @property
    def width(self) -> int:
        """Number of components of a vector."""
        return max(1, len(self.terms) if self.directions is None else self.directions.shape[1])

    @classmethod
    def fit(
        cls, documents: Iterable[Iterable[str]], *, dim: int, max_terms: int, min_documents: int | None
    ) -> Self:
        """Learn from the terms of every document.

        Parameters
        ----------
        documents
            The terms of each document, repeated as often as they occur.
        dim
            Terms are projected if there are more of them than this.
        max_terms
            Only the terms in the most documents are kept; alphabetical order decides ties.
        min_documents
            Terms in fewer documents are dropped; None chooses `fewest_documents`.
        """
        vocabulary: dict[str, int] = {}
        counts = _count(documents, vocabulary, grow=True)
        found = np.array(list(vocabulary), dtype=object)
        frequency = np.bincount(counts.indices, minlength=len(found))
        lowest = fewest_documents(counts.shape[0]) if min_documents is None else min_documents
        by_frequency = np.lexsort((found, -frequency)) if len(found) else np.zeros(0, dtype=np.int64)
        kept = [i for i in by_frequency if frequency[i] >= lowest][:max_terms]
        kept.sort(key=found.__getitem__)
        idf = np.array([1 + math.log((1 + counts.shape[0]) / (1 + int(frequency[i]))) for i in kept])
        space = cls(tuple(found[kept]), idf, None)
        if len(kept) <= dim:
            return space
        columns = counts[:, kept]
        columns.sort_indices()
        directions = leading_directions(space._weighted(columns), dim).T.astype(np.float32)
        return cls(space.terms, idf, directions.astype(np.float64))

    def encode(self, documents: Iterable[Iterable[str]]) -> Encoded:
        """Return vectors of unit length; a document without a known term is absent."""
        vocabulary = {term: column for column, term in enumerate(self.terms)}
        counts = _count(documents, vocabulary, grow=False)
        if not self.terms:
            return absent(counts.shape[0])
        weighted = self._weighted(counts)
        if self.directions is None:
            projected = weighted.toarray()
        else:
            projected = cast(Matrix, weighted @ self.directions)
        lengths = np.sqrt(np.square(projected).sum(axis=1))
        present = lengths > SHORTEST
        unit = projected / np.where(present, lengths, 1.0)[:, None]
        unit[~present] = 0.0
        return Encoded(unit.astype(np.float32), present, None if self.directions is None else _rows(weighted))

    def _weighted(self, counts: csr_matrix[np.float64]) -> csr_matrix[np.float64]:
        """Return (1 + log count) * idf in rows of unit length (Manning et al., 2008, section 6.4)."""
        # Logarithms come from a table and sparse rows are summed one by one, so that a row's bits do not
        # depend on where it stands.
        distinct, position = np.unique(counts.data, return_inverse=True)
        damped = np.array([1 + math.log(count) for count in distinct])[position]
        weighted = counts.copy()
        weighted.data = damped * self.idf[counts.indices]
        squared = weighted.copy()
        squared.data = np.square(weighted.data)
        sums = cast(Matrix, squared @ np.ones(counts.shape[1]))
        weighted.data /= np.repeat(np.sqrt(sums), np.diff(counts.indptr))
        return weighted

    def save(self, folder: Path) -> None:
        """Write the vocabulary as JSON and the arrays."""
        write_json(folder, "vocabulary", self.terms)
        write_array(folder, "idf", self.idf)
        if self.directions is not None:
            write_array(folder, "directions", self.directions.astype(np.float32))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        projected = (folder / "directions.npy").exists()
        directions = read_array(folder, "directions").astype(np.float64) if projected else None
        return cls(tuple(read_json(folder, "vocabulary")), read_array(folder, "idf"), directions)


def fewest_documents(n_documents: int) -> int:
    """Return in how many of n documents a term must occur: 1 below 100, 2 below 10,000, then 3.

    A term of one document makes no two documents similar, but small tables have few others.
    """
    return 1 if n_documents < 100 else 2 if n_documents < 10_000 else 3


def unique_documents(values: Sequence[str]) -> tuple[list[str], NDArray[np.intp]]:
    """Return the distinct values in alphabetical order, and the position of each row's value in them."""
    distinct = sorted(set(values))
    position = {value: i for i, value in enumerate(distinct)}
    return distinct, np.array([position[value] for value in values], dtype=np.intp)


def take(encoded: Encoded, rows: NDArray[np.intp]) -> Encoded:
    """Return the encoded rows at these positions."""
    terms = None if encoded.terms is None else encoded.terms[rows]
    return Encoded(encoded.vectors[rows], encoded.present[rows], terms)


def _rows(weighted: csr_matrix[np.float64]) -> csr_array:
    from scipy.sparse import csr_array

    return csr_array(weighted.astype(np.float32))


def _count(
    documents: Iterable[Iterable[str]], vocabulary: dict[str, int], *, grow: bool
) -> csr_matrix[np.float64]:
    """Count the known terms of each document; `grow` adds the unknown ones to the vocabulary."""
    from scipy.sparse import csr_matrix

    columns, ends = array("q"), array("q", [0])
    for document in documents:
        for term in document:
            column = vocabulary.setdefault(term, len(vocabulary)) if grow else vocabulary.get(term)
            if column is not None:
                columns.append(column)
        ends.append(len(columns))
    shape = (len(ends) - 1, len(vocabulary))
    ones = np.ones(len(columns))
    counts = csr_matrix(
        (ones, np.array(columns, dtype=np.int64), np.array(ends, dtype=np.int64)), shape=shape
    )
    counts.sum_duplicates()
    return counts
