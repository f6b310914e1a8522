"""Picking the columns of a modality out of a table, and reading text from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

from features.errors import ConfigError, DataError

TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum, pl.Null)


def pick_columns(table: pl.DataFrame, columns: Sequence[str] | None) -> list[pl.Series]:
    """Return the named columns of a table, or all of them for None.

    Raises
    ------
    DataError
        If the table lacks a column, or has none.
    """
    names = table.columns if columns is None else list(columns)
    if not names:
        raise DataError(
            "got a table without columns, expected at least one", fix="name the modality's columns"
        )
    for name in names:
        if name not in table.columns:
            raise DataError(
                f"got columns {table.columns}, expected {name!r} among them",
                fix="add the column, or name another one for this modality",
                column=name,
            )
    return [table[name] for name in names]


def pick_single(table: pl.DataFrame, columns: Sequence[str] | None, expected: str) -> pl.Series:
    """Return the only column; `expected` says in an error what it should hold."""
    series = pick_columns(table, columns)
    if len(series) != 1:
        names = [s.name for s in series]
        raise DataError(
            f"got {len(names)} columns {names}, expected one of {expected}",
            fix="make a modality of each column",
            column=names[1],
        )
    return series[0]


def wrong_type(series: pl.Series, expected: str, fix: str) -> DataError:
    """Return the error for a column of a type that the encoder cannot read."""
    return DataError(f"got type {series.dtype}, expected {expected}", fix=fix, column=series.name)


def as_text(series: pl.Series, expected: str = "text") -> pl.Series:
    """Return a text or category column as stripped strings; blank cells become null.

    Raises
    ------
    DataError
        If the column holds anything else.
    """
    if not isinstance(series.dtype, TEXT_TYPES):
        raise wrong_type(series, expected, "choose another encoder, or store the column as text")
    text = series.cast(pl.String).str.strip_chars()
    return text.set(text.str.len_bytes() == 0, None)


def check_columns(kind: str, columns: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the parameter `columns` as a tuple, or None for every column of the fitted table.

    Raises
    ------
    ConfigError
        If it is not a list of names.
    """
    if columns is None:
        return None
    if isinstance(columns, str) or not columns or not all(isinstance(name, str) for name in columns):
        raise ConfigError(
            f"{kind}: columns: got {columns!r}, expected a list of column names",
            fix="write columns: [first, second]",
        )
    return tuple(columns)


def check_number(kind: str, name: str, value: float | None, lowest: float) -> None:
    """Check that a parameter is a number of at least `lowest`, whole where `lowest` is; None passes.

    Raises
    ------
    ConfigError
        If it is not.
    """
    if value is None:
        return
    accepted = int if isinstance(lowest, int) else (int, float)
    if not isinstance(value, accepted) or isinstance(value, bool) or not lowest <= value < math.inf:
        what = "a whole number" if isinstance(lowest, int) else "a number"
        raise ConfigError(
            f"{kind}: {name}: got {value!r}, expected {what} of at least {lowest}",
            fix=f"set {name} within its range",
        )


def check_flag(kind: str, name: str, value: object) -> None:
    """Check that a parameter is true or false; raises ConfigError if it is not."""
    if not isinstance(value, bool):
        raise ConfigError(
            f"{kind}: {name}: got {value!r}, expected true or false", fix=f"write {name}: true or false"
        )


def check_choice(kind: str, name: str, value: object, choices: Sequence[str]) -> None:
    """Check that a parameter is one of some words; raises ConfigError if it is not."""
    if value not in choices:
        raise ConfigError(
            f"{kind}: {name}: got {value!r}, expected one of {', '.join(choices)}",
            fix=f"set {name} to one of them",
        )
