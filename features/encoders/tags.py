"""Tags and categories as weighted bags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import polars as pl

from features.encoders.base import Encoded
from features.encoders.columns import (
    TEXT_TYPES,
    as_text,
    check_columns,
    check_number,
    pick_columns,
    wrong_type,
)
from features.encoders.source import Place
from features.encoders.storage import parameters_of, read_json, write_json
from features.encoders.terms import TermSpace
from features.errors import ConfigError


@dataclass(eq=False)
class TagsEncoder:
    """Tags weighted by inverse document frequency, of unit length.

    Up to `dim` tags stand for themselves, so that vectors stay readable and only equal tags match; more
    are reduced by a singular value decomposition, which bounds the width and lets tags that occur together
    match. A column is a list of strings, or a string that `separator` splits. Case and surrounding space
    do not matter, a tag counts once a row, and the same tag in two columns is two tags. Unknown tags are
    ignored; a row without a known one is absent.

    Parameters
    ----------
    columns
        Names of the columns; None takes every column of the fitted table.
    separator
        Splits string columns; None takes the whole string as one category.
    dim
        Largest width.
    max_tags
        Largest number of tags, of those in the most rows.
    min_count
        A tag must occur in so many rows; None adapts it to the size of the table.
    """

    kind: ClassVar[str] = "tags"
    version: ClassVar[int] = 1

    columns: Sequence[str] | None = None
    separator: str | None = "|"
    dim: int = 64
    max_tags: int = 512
    min_count: int | None = None
    columns_: tuple[str, ...] = field(init=False, repr=False)
    terms_: TermSpace = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.columns = check_columns(self.kind, self.columns)
        check_number(self.kind, "dim", self.dim, 1)
        check_number(self.kind, "max_tags", self.max_tags, 1)
        check_number(self.kind, "min_count", self.min_count, 1)
        if self.separator is not None and (not isinstance(self.separator, str) or not self.separator):
            raise ConfigError(
                f"{self.kind}: separator: got {self.separator!r}, expected a text or null",
                fix="set the character that stands between two tags",
            )

    @property
    def width(self) -> int:
        """Number of components of a vector."""
        return self.terms_.width

    def fit(self, table: pl.DataFrame, source: Place) -> Self:
        """Learn tags and weights from the rows that have any; raises DataError for other types."""
        series = pick_columns(table, self.columns)
        self.columns_ = tuple(s.name for s in series)
        documents = sorted(tags for tags in self._tags(series) if tags)
        self.terms_ = TermSpace.fit(
            documents, dim=self.dim, max_terms=self.max_tags, min_documents=self.min_count
        )
        return self

    def encode(self, table: pl.DataFrame, source: Place) -> Encoded:
        """Encode rows, seen or unseen."""
        return self.terms_.encode(self._tags(pick_columns(table, self.columns_)))

    def _tags(self, series: Sequence[pl.Series]) -> list[list[str]]:
        """Return the sorted tags of each row, prefixed by their column where there are several."""
        tags: list[set[str]] = [set() for _ in range(len(series[0]))]
        for column in series:
            prefix = f"{column.name}: " if len(series) > 1 else ""
            for row, cell in zip(tags, self._cells(column), strict=True):
                names = (tag.strip().casefold() for tag in cell or () if tag is not None)
                row.update(prefix + name for name in names if name)
        return [sorted(row) for row in tags]

    def _cells(self, column: pl.Series) -> Sequence[Sequence[str | None] | None]:
        dtype = column.dtype
        if isinstance(dtype, (pl.List, pl.Array)):
            if not isinstance(dtype.inner, TEXT_TYPES):
                raise wrong_type(column, "lists of strings", "choose another encoder, or store tags as text")
            return column.cast(pl.List(pl.String)).to_list()
        text = as_text(column, "lists of strings, or strings")
        if self.separator is None:
            return [None if value is None else [value] for value in text]
        return text.str.split(self.separator).to_list()

    def save(self, folder: Path) -> None:
        """Write parameters, tags and arrays."""
        write_json(folder, "state", {"parameters": parameters_of(self), "columns": self.columns_})
        self.terms_.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder, "state")
        encoder = cls(**state["parameters"])
        encoder.columns_ = tuple(state["columns"])
        encoder.terms_ = TermSpace.load(folder)
        return encoder
