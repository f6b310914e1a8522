"""What every encoder is: columns of a table in, vectors and a present mask out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.encoders.source import Place

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True)
class Encoded:
    """Vectors of n rows of a table.

    Attributes
    ----------
    vectors
        (n, d) float32, finite; rows that are not present hold zeros and must not be read.
    present
        (n,) bool: the row had something to encode.
    terms
        (n, n_terms) float32 rows of length 1 of which `vectors` are a projection, or None where there is no
        more to a row than its vector. Cosines of these tell near rows from others far better, as what makes
        two texts alike is mostly rare words, which a projection leaves out.
    """

    vectors: NDArray[np.float32]
    present: NDArray[np.bool_]
    terms: sparse.csr_array | None = None


class Encoder(Protocol):
    """Turns the columns of one modality into vectors.

    `fit` learns from a table without labels, `encode` never changes what was learned, and a saved
    encoder encodes bit for bit as the one that was saved. `source` is the folder that relative file
    names are resolved against, or a `Source` that has a cache besides; encoders of in-table values ignore
    it.
    """

    kind: ClassVar[str]
    version: ClassVar[int]

    @property
    def width(self) -> int:
        """Number of components of a vector, known after `fit`."""
        ...

    def fit(self, table: pl.DataFrame, source: Place) -> Self:
        """Learn from the modality's columns; raises DataError where a value is of the wrong type."""
        ...

    def encode(self, table: pl.DataFrame, source: Place) -> Encoded:
        """Encode rows, seen or unseen by `fit`."""
        ...

    def save(self, folder: Path) -> None:
        """Write arrays and JSON, no pickle, into an existing empty folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        ...
