"""One category a row, as a position of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import polars as pl

from features.encoders.base import Encoded
from features.encoders.columns import (
    TEXT_TYPES,
    as_text,
    check_columns,
    check_number,
    pick_single,
    wrong_type,
)
from features.encoders.source import Place
from features.encoders.storage import parameters_of, read_json, write_json

EXPECTED = "categories: text, whole numbers or booleans"


@dataclass(eq=False)
class CategoryEncoder:
    """One position a category, in alphabetical order, and one for all the rarer ones together.

    Case and surrounding space do not matter. A category that `fit` did not know is one of the rarer ones
    where there are such, else absent. How a category is liked is not learned here, where no labels are:
    `features.target_statistics` tells it from the history before each cut.

    Parameters
    ----------
    columns
        Name of the column; None takes the only one of the fitted table.
    most
        Largest number of categories with a position of their own, of those in the most rows.
    min_count
        A category must occur in so many rows for a position of its own.
    """

    kind: ClassVar[str] = "category"
    version: ClassVar[int] = 1

    columns: Sequence[str] | None = None
    most: int = 100
    min_count: int = 1
    columns_: tuple[str, ...] = field(init=False, repr=False)
    categories_: tuple[str, ...] = field(init=False, repr=False)
    has_rare_: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.columns = check_columns(self.kind, self.columns)
        check_number(self.kind, "most", self.most, 1)
        check_number(self.kind, "min_count", self.min_count, 1)

    @property
    def width(self) -> int:
        """Number of positions."""
        return max(1, len(self.categories_) + self.has_rare_)

    def fit(self, table: pl.DataFrame, source: Place) -> Self:
        """Learn the categories of the most rows; raises DataError for columns of another type."""
        column = pick_single(table, self.columns, EXPECTED)
        self.columns_ = (column.name,)
        counts = _values(column).drop_nulls().value_counts().rows()
        ordered = sorted(counts, key=lambda found: (-found[1], found[0]))
        kept = [value for value, count in ordered if count >= self.min_count][: self.most]
        self.categories_, self.has_rare_ = tuple(sorted(kept)), len(kept) < len(ordered)
        return self

    def encode(self, table: pl.DataFrame, source: Place) -> Encoded:
        """Encode rows, seen or unseen."""
        values = _values(pick_single(table, self.columns_, EXPECTED))
        position = {value: place for place, value in enumerate(self.categories_)}
        rare = len(self.categories_) if self.has_rare_ else -1
        places = np.array([-1 if v is None else position.get(v, rare) for v in values], dtype=np.int64)
        vectors = np.zeros((len(places), self.width), dtype=np.float32)
        present = places >= 0
        vectors[present, places[present]] = 1.0
        return Encoded(vectors, present)

    def save(self, folder: Path) -> None:
        """Write parameters and categories."""
        state = {"categories": self.categories_, "columns": self.columns_, "has_rare": self.has_rare_}
        write_json(folder, "state", {"parameters": parameters_of(self), **state})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder, "state")
        encoder = cls(**state["parameters"])
        encoder.columns_, encoder.categories_ = tuple(state["columns"]), tuple(state["categories"])
        encoder.has_rare_ = state["has_rare"]
        return encoder


def _values(column: pl.Series) -> pl.Series:
    """Return the categories as text, in lower case."""
    dtype = column.dtype
    if dtype.is_integer() or dtype == pl.Boolean:
        return column.cast(pl.String)
    if not isinstance(dtype, TEXT_TYPES):
        raise wrong_type(column, EXPECTED, "choose another encoder, or store the column as text")
    return as_text(column).str.to_lowercase()
