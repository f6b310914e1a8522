"""Vectors that come ready-made, for example from a pretrained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.encoders.base import Encoded
from features.encoders.columns import check_columns, check_number, pick_columns, wrong_type
from features.encoders.projection import Projection, encode_present, fit_projection
from features.encoders.source import Place
from features.encoders.storage import parameters_of, read_json, write_json
from features.errors import ConfigError, DataError

FIX_TYPE = "choose another encoder, or store vectors as lists of numbers"


@dataclass(eq=False)
class VectorsEncoder:
    """Scales ready-made vectors per component and optionally keeps their principal components.

    The column holds lists or arrays of numbers, or several columns hold one component each. A null vector
    (or an empty list, or a row of nulls) is missing; a vector with a hole is an error. Values are cast to
    float32 first.

    Parameters
    ----------
    columns
        Name of the vector column or names of the component columns; None takes the whole fitted table.
    standardize
        Centre and scale each component, clipped at 50 standard deviations.
    dim
        Number of principal components to keep; None keeps the vectors as they are.
    """

    kind: ClassVar[str] = "vectors"
    version: ClassVar[int] = 1

    columns: Sequence[str] | None = None
    standardize: bool = True
    dim: int | None = None
    columns_: tuple[str, ...] = field(init=False, repr=False)
    projection_: Projection | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.columns = check_columns(self.kind, self.columns)
        check_number(self.kind, "dim", self.dim, 1)
        if not isinstance(self.standardize, bool):
            raise ConfigError(
                f"{self.kind}: standardize: got {self.standardize!r}, expected true or false",
                fix="write standardize: true",
            )

    @property
    def width(self) -> int:
        """Number of components of a vector."""
        return self.projection_.width if self.projection_ else 1

    def fit(self, table: pl.DataFrame, source: Place) -> Self:
        """Learn scales and components; raises DataError for broken or unequally long vectors."""
        series = pick_columns(table, self.columns)
        self.columns_ = tuple(s.name for s in series)
        rows, _ = _rows(series)
        self.projection_ = fit_projection(rows, standardize=self.standardize, dim=self.dim)
        return self

    def encode(self, table: pl.DataFrame, source: Place) -> Encoded:
        """Encode rows, seen or unseen; raises DataError if they have another length than in `fit`."""
        series = pick_columns(table, self.columns_)
        rows, present = _rows(series)
        if self.projection_ and present.any() and rows.shape[1] != self.projection_.n_inputs:
            raise DataError(
                f"got vectors of length {rows.shape[1]}, expected {self.projection_.n_inputs} as in training",
                fix="make the vectors with the model of the training data, or train again",
                column=series[0].name,
                row=int(present.argmax()) + 1,
            )
        return encode_present(self.projection_, rows, present)

    def save(self, folder: Path) -> None:
        """Write parameters and arrays."""
        write_json(folder, "state", {"parameters": parameters_of(self), "columns": self.columns_})
        if self.projection_:
            self.projection_.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder, "state")
        encoder = cls(**state["parameters"])
        encoder.columns_ = tuple(state["columns"])
        encoder.projection_ = Projection.load(folder) if (folder / "center.npy").exists() else None
        return encoder


def _rows(series: Sequence[pl.Series]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return (present.sum(), length) float32 rows and the (n,) present mask."""
    nested = [s for s in series if isinstance(s.dtype, (pl.List, pl.Array))]
    if not nested and not (len(series) == 1 and series[0].dtype == pl.Null):
        return _scalar_rows(series)
    if len(series) > 1:
        raise DataError(
            f"got {len(series)} columns with lists among them, expected one list column",
            fix="make a modality of each column",
            column=nested[0].name,
        )
    return _list_rows(series[0])


def _list_rows(series: pl.Series) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    inner = getattr(series.dtype, "inner", pl.Null())
    if not (inner.is_numeric() or inner == pl.Null):
        raise wrong_type(series, "lists of numbers", FIX_TYPE)
    lists = series.cast(pl.List(pl.Float32))
    lengths = lists.list.len().fill_null(0).to_numpy()
    present = lengths > 0
    if not present.any():
        return np.zeros((0, 0), dtype=np.float32), present
    length = int(lengths[present.argmax()])
    other = np.flatnonzero(present & (lengths != length))
    if other.size:
        raise DataError(
            f"got a vector of length {lengths[other[0]]}, expected {length} as elsewhere",
            fix="give every row a vector of the same model, or null",
            column=series.name,
            row=int(other[0]) + 1,
        )
    values = lists.filter(pl.Series(present)).list.explode().fill_null(np.nan).to_numpy()
    rows = values.reshape(-1, length)
    _check_finite(rows, present, [series.name] * length)
    return rows, present


def _scalar_rows(series: Sequence[pl.Series]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    for column in series:
        if not (column.dtype.is_numeric() or column.dtype == pl.Null):
            raise wrong_type(column, "numbers, or lists of numbers", FIX_TYPE)
    missing = np.column_stack([s.is_null().to_numpy() for s in series])
    present = np.asarray(~missing.all(axis=1))
    values = [s.cast(pl.Float32).fill_null(np.nan).to_numpy()[present] for s in series]
    rows = np.column_stack(values)
    _check_finite(rows, present, [s.name for s in series])
    return rows, present


def _check_finite(rows: NDArray[np.float32], present: NDArray[np.bool_], names: Sequence[str]) -> None:
    broken = np.argwhere(~np.isfinite(rows))
    if broken.size:
        row, component = broken[0]
        raise DataError(
            f"got null, NaN or infinity (in float32) as component {component + 1}, expected a number",
            fix="make the whole vector null where it is unknown",
            column=names[component],
            row=int(np.flatnonzero(present)[row]) + 1,
        )
