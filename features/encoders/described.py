"""The frame of every encoder that describes the values of one column and scales the descriptors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.encoders.base import Encoded
from features.encoders.columns import check_columns, check_number, pick_single
from features.encoders.describe import Describer
from features.encoders.projection import Projection, encode_present, fit_projection
from features.encoders.source import Place, Unreadable, source_of
from features.encoders.storage import parameters_of, read_json, write_json


@dataclass(eq=False)
class DescribedEncoder:
    """Describes a column, scales the descriptors and keeps their principal components.

    A kind says what describes its values (`describer`); everything learned from the table is one
    projection. A null value, and a file that cannot be read, is missing.

    Parameters
    ----------
    columns
        Name of the column; None takes the only one of the fitted table.
    dim
        Number of principal components; fewer where the values are few, None keeps the whole descriptor.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    expected: ClassVar[str]
    blocks: ClassVar[tuple[int, ...] | None] = None
    former: ClassVar[Mapping[str, object]] = {}
    """Values of parameters that encoders did not have when they were saved by an older program."""

    columns: Sequence[str] | None = None
    dim: int | None = None
    columns_: tuple[str, ...] = field(init=False, repr=False)
    projection_: Projection | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.columns = check_columns(self.kind, self.columns)
        check_number(self.kind, "dim", self.dim, 1)

    def describer(self) -> Describer[Any]:
        """Return what describes a value."""
        raise NotImplementedError

    def learned(self, rows: NDArray[np.float32]) -> Projection | None:
        """Return the projection of (n, n_inputs) descriptors."""
        return fit_projection(rows, standardize=True, dim=self.dim, blocks=self.blocks)

    def extras(self) -> Mapping[str, object]:
        """Return what `save` writes besides parameters, columns and arrays."""
        return {}

    @property
    def width(self) -> int:
        """Number of components of a vector."""
        return self.projection_.width if self.projection_ else 1

    def fit(self, table: pl.DataFrame, source: Place) -> Self:
        """Learn scales and components from the readable values; raises DataError for columns not of text."""
        column = pick_single(table, self.columns, self.expected)
        self.columns_ = (column.name,)
        rows, _ = self.describer().rows(column, source_of(source))
        self.projection_ = self.learned(rows)
        return self

    def encode(self, table: pl.DataFrame, source: Place) -> Encoded:
        """Encode each distinct value once."""
        column = pick_single(table, self.columns_, self.expected)
        return encode_present(self.projection_, *self.describer().rows(column, source_of(source)))

    def unreadable(self, table: pl.DataFrame, source: Place) -> list[Unreadable]:
        """List (row, path, reason) of the files that count as missing; needs no `fit`."""
        column = pick_single(table, self.columns, self.expected)
        return self.describer().unreadable(column, source_of(source))

    def save(self, folder: Path) -> None:
        """Write parameters and arrays."""
        state = {"parameters": parameters_of(self), "columns": self.columns_}
        write_json(folder, "state", {**state, **self.extras()})
        if self.projection_:
            self.projection_.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder, "state")
        encoder = cls(**{**cls.former, **state["parameters"]})
        encoder.columns_ = tuple(state["columns"])
        encoder.projection_ = Projection.load(folder) if (folder / "center.npy").exists() else None
        return encoder
