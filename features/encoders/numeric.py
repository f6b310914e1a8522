"""Numbers, flags and dates on a common scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import polars as pl

from features.encoders.base import Encoded
from features.encoders.columns import check_columns, pick_columns, wrong_type
from features.encoders.projection import Matrix, Projection, encode_present
from features.encoders.source import Place
from features.encoders.storage import parameters_of, read_json, write_json
from features.errors import DataError

MICROSECONDS_PER_DAY = 86_400e6
NORMAL_QUARTILES = 1.349
"""Distance of the quartiles of a normal distribution of standard deviation 1."""


@dataclass(eq=False)
class NumericEncoder:
    """A component a column: (value - median) / (interquartile range / 1.349), clipped at +-50; a constant.

    The last component is the root of the number of columns that have values. Vectors are compared by their
    cosine, for which a single number would be a sign, and what is the median in all columns nothing; beside a
    constant the nearer two rows of ordinary values are, the greater is their cosine.

    Median and quartiles keep a few huge values from flattening all others; a column whose quartiles are
    equal is divided by its standard deviation. Booleans count 0 and 1; dates, datetimes and durations are
    days. A null or NaN cell takes the column's median, that is 0; a row is absent only when all its cells
    are missing. A column that was wholly missing in `fit` has no scale and is ignored.

    Parameters
    ----------
    columns
        Names of the columns; None takes every column of the fitted table.
    """

    kind: ClassVar[str] = "numeric"
    # 2: with the constant.
    version: ClassVar[int] = 2

    columns: Sequence[str] | None = None
    columns_: tuple[str, ...] = field(init=False, repr=False)
    projection_: Projection = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.columns = check_columns(self.kind, self.columns)

    @property
    def width(self) -> int:
        """Number of components of a vector: the number of columns, and one."""
        return self.projection_.width + 1

    def fit(self, table: pl.DataFrame, source: Place) -> Self:
        """Learn median and spread; raises DataError for infinite cells and columns of another type."""
        series = pick_columns(table, self.columns)
        self.columns_ = tuple(s.name for s in series)
        scales = [_median_and_spread(_values(s)) for s in series]
        self.projection_ = Projection(*np.array(scales).T)
        return self

    def encode(self, table: pl.DataFrame, source: Place) -> Encoded:
        """Encode rows, seen or unseen; raises DataError as `fit` does."""
        values = np.column_stack([_values(s) for s in pick_columns(table, self.columns_)])
        center = self.projection_.center
        known = ~np.isnan(values) & ~np.isnan(center)
        present = np.asarray(known.any(axis=1))
        filled = np.where(known, values, center)[present]
        learned = Projection(np.nan_to_num(center), self.projection_.scale)
        scaled = encode_present(learned, np.nan_to_num(filled), present)
        constant = present * np.sqrt(np.float32((~np.isnan(center)).sum()))
        return Encoded(np.column_stack([scaled.vectors, constant]), present)

    def save(self, folder: Path) -> None:
        """Write parameters and arrays."""
        write_json(folder, "state", {"parameters": parameters_of(self), "columns": self.columns_})
        self.projection_.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder, "state")
        encoder = cls(**state["parameters"])
        encoder.columns_ = tuple(state["columns"])
        encoder.projection_ = Projection.load(folder)
        return encoder


def _values(series: pl.Series) -> Matrix:
    """Return a column as (n,) float64 with NaN where it is missing."""
    dtype = series.dtype
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        values = series.cast(pl.Float64)
    elif dtype == pl.Date:
        values = series.cast(pl.Int32).cast(pl.Float64)
    elif isinstance(dtype, (pl.Datetime, pl.Duration)):
        values = series.dt.cast_time_unit("us").cast(pl.Int64).cast(pl.Float64) / MICROSECONDS_PER_DAY
    else:
        raise wrong_type(series, "numbers, booleans or dates", "choose another encoder, or parse the column")
    array = values.fill_null(np.nan).to_numpy()
    infinite = np.flatnonzero(np.isinf(array))
    if infinite.size:
        raise DataError(
            f"got {array[infinite[0]]}, expected a finite number",
            fix="leave the cell empty where the value is unknown",
            column=series.name,
            row=int(infinite[0]) + 1,
        )
    return array


def _median_and_spread(values: Matrix) -> tuple[float, float]:
    """Return the center, NaN for a column without values, and the scale, never 0."""
    known = np.sort(values[~np.isnan(values)])
    if not known.size:
        return float("nan"), 1.0
    low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
    spread = (high - low) / NORMAL_QUARTILES or known.std()
    return float(median), float(spread) if np.isfinite(spread) and spread > 0 else 1.0
