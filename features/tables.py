"""Reads interaction and entity tables (Parquet, CSV, JSON Lines) into canonical polars frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from features.contract import (
    RESERVED,
    SPLITS,
    Check,
    contiguous_check,
    entity_checks,
    interaction_checks,
    raise_first_failure,
)
from features.errors import DataError
from features.table_files import read_table, sha256_of_file

__all__ = [
    "Columns",
    "as_ids",
    "read_entities",
    "read_interactions",
    "read_table",
    "scan_entities",
    "scan_interactions",
    "sha256_of_file",
]

_TIME_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_ZONED_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%.f%#z"


@dataclass(frozen=True)
class Columns:
    """The user's names of the interaction columns; None where there is no such column."""

    query: str
    item: str
    label: str | None = None
    time: str | None = None
    weight: str | None = None
    split: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """Canonical column name to the user's, of the columns that exist."""
        return {name: column for name, column in asdict(self).items() if column is not None}


def scan_interactions(
    files: Mapping[str | None, Sequence[Path]],
    columns: Columns,
    *,
    extra: Sequence[str] = (),
    presorted: bool = False,
) -> tuple[pl.DataFrame, list[Check]]:
    """Read what can be read, in file order, and list what cannot.

    A file that cannot be read, or one with a column that cannot be converted, is left out of the frame
    and gives a broken check for each problem. The values are judged by `contract.interaction_checks`.
    Parameters and columns are those of `read_interactions`.
    """
    extra = list(dict.fromkeys(extra))
    _require_consistent_request(files, columns, extra)
    frames: list[pl.DataFrame] = []
    kinds: dict[str, str] = {}
    checks: list[Check] = []
    wanted = [*columns.named.values(), *extra]
    for split, path in ((split, path) for split, paths in files.items() for path in paths):
        try:
            raw = read_table(path, wanted, text_columns=(columns.query, columns.item))
            _require_same_kinds(raw, columns, kinds, str(path))
            frame, errors = _convert_interactions(raw, columns, extra, split, str(path))
        except DataError as error:
            errors = [error]
        if errors:
            checks += [Check.broken("interactions readable", error) for error in errors]
        else:
            frames.append(frame)
    if not frames:
        return pl.DataFrame(schema=_empty_schema(columns, extra, files)), checks
    interactions = pl.concat(frames, how="vertical_relaxed")
    if presorted:
        checks.append(contiguous_check(interactions, columns.query))
    if all(check.passed for check in checks):
        checks.insert(
            0, Check("interactions readable", True, f"{len(interactions)} rows of {len(frames)} files")
        )
    return interactions, checks


def read_interactions(
    files: Mapping[str | None, Sequence[Path]],
    columns: Columns,
    *,
    extra: Sequence[str] = (),
    presorted: bool = False,
    duplicates: Literal["error", "last"] = "error",
) -> pl.DataFrame:
    """Read the interactions, sorted by query, time and item so that file order tells nothing.

    Parameters
    ----------
    files
        Split name (`train`, `valid`, `test`), or None where files do not tell it, to its files.
    columns
        The user's names of the columns.
    extra
        Further columns to keep unchanged, such as ready-made features of judged rows.
    presorted
        The files claim that rows of a query stand together; a query that starts again is refused.
    duplicates
        `last` keeps the latest row of a (query, item) pair instead of refusing the second.

    Returns
    -------
    pl.DataFrame
        `query`, `item` (String), `label` (Float32, 1 without a label column), `time` (Int64: microseconds
        since 1970 UTC for dates, numbers as given, Float64 where they have fractions), `weight` (Float32),
        `split` (String), the extra columns, `row` (Int64, from 1, in its file) and `file` (String). `time`,
        `weight` and `split` are absent where nothing gives them.

    Raises
    ------
    DataError
        At the first breach of the contract, with file, column and row where known.
    """
    if duplicates == "last" and columns.time is None:
        raise DataError("the latest row of a pair needs a time column, got none", fix="name the time column")
    interactions, checks = scan_interactions(files, columns, extra=extra, presorted=presorted)
    raise_first_failure(checks)
    raise_first_failure(interaction_checks(interactions, columns.named, duplicates))
    if duplicates == "last":
        order = [c for c in ("time", "label", "split", "file", "row") if c in interactions.columns]
        interactions = interactions.sort(order).unique(["query", "item"], keep="last")
    return interactions.sort([c for c in ("query", "time", "item") if c in interactions.columns])


def scan_entities(path: Path, id_column: str, columns: Sequence[str]) -> pl.DataFrame:
    """Read items or users in file order without judging their ids; see `read_entities`."""
    clash = sorted({"id", "row"} & set(columns))
    if clash:
        raise DataError(
            "this name is taken, expected another for a modality column",
            fix="rename the column in the table",
            file=str(path),
            column=clash[0],
        )
    raw = read_table(path, [id_column, *columns], text_columns=(id_column,))
    ids = as_ids(raw[id_column], str(path)).alias("id")
    return raw.select(ids, *dict.fromkeys(columns), _row_numbers(raw))


def read_entities(path: Path, id_column: str, columns: Sequence[str]) -> pl.DataFrame:
    """Read items or users, sorted by id: `id` (String), the named columns, `row` (Int64, from 1).

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column or has no rows, or if an id is missing or repeated.
    """
    entities = scan_entities(path, id_column, columns)
    raise_first_failure(entity_checks(entities, str(path), id_column))
    return entities.sort("id")


def _row_numbers(raw: pl.DataFrame) -> pl.Series:
    return pl.int_range(1, len(raw) + 1, dtype=pl.Int64, eager=True).alias("row")


def _require_consistent_request(
    files: Mapping[str | None, Sequence[Path]], columns: Columns, extra: Sequence[str]
) -> None:
    n_files = sum(len(paths) for paths in files.values())
    if not n_files:
        raise DataError("got no interaction file, expected at least 1", fix="name one")
    unknown = sorted(key for key in files if key is not None and key not in SPLITS)
    if unknown:
        raise DataError(f"got the split {unknown[0]!r}, expected {' or '.join(SPLITS)}", fix="rename it")
    by_file = any(paths for key, paths in files.items() if key is not None)
    if by_file and (files.get(None) or columns.split is not None):
        raise DataError(
            "the split is told by some files and also otherwise, expected one way",
            fix="name every file under train, valid or test, or use a split column alone",
        )
    taken = sorted((RESERVED | {columns.label, columns.split}) & set(extra), key=str)
    if taken:
        raise DataError(
            f"got {taken[0]!r} as a feature, expected a column that is no label and has another name than "
            f"{', '.join(sorted(RESERVED))}",
            fix="rename the column or leave it out",
            column=taken[0],
        )


def _convert_interactions(
    raw: pl.DataFrame, columns: Columns, extra: Sequence[str], split: str | None, file: str
) -> tuple[pl.DataFrame, list[DataError]]:
    """Return the canonical frame of one file and what could not be converted."""
    series: list[pl.Series] = []
    errors: list[DataError] = []
    for name, column in columns.named.items():
        try:
            series.append(_CONVERSIONS[name](raw[column], file).alias(name))
        except DataError as error:
            errors.append(error)
    frame = pl.DataFrame(series)
    if errors:
        return frame, errors
    if columns.label is None:
        frame = frame.with_columns(pl.lit(1.0, dtype=pl.Float32).alias("label"))
    if split is not None:
        frame = frame.with_columns(pl.lit(split).alias("split"))
    frame = frame.with_columns(*(raw[name] for name in extra), _row_numbers(raw), pl.lit(file).alias("file"))
    # The order of the columns must not depend on what the files happen to tell.
    order = [name for name in (*_CONVERSIONS, *extra, "row", "file") if name in frame.columns]
    return frame.select(order), errors


def _wrong_type(column: pl.Series, file: str, expected: str, fix: str) -> DataError:
    return DataError(
        f"got values of type {column.dtype}, expected {expected}", fix=fix, file=file, column=column.name
    )


def as_ids(column: pl.Series, file: str) -> pl.Series:
    """Return ids as String; raises DataError for types that write one id in several ways."""
    dtype = column.dtype
    if dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return column.cast(pl.String)
    # 1.0 and 1 are the same number but not the same text, so a float id would match nothing.
    raise _wrong_type(column, file, "strings or integers", "write the ids as strings or whole numbers")


def _as_numbers(column: pl.Series, file: str) -> pl.Series:
    if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
        return column.cast(pl.Float32)
    if column.dtype != pl.String:
        raise _wrong_type(column, file, "numbers", "write numbers")
    numbers = column.str.strip_chars().cast(pl.Float32, strict=False)
    _require_parsed(column, numbers, file, "a number")
    return numbers


def _as_time(column: pl.Series, file: str) -> pl.Series:
    """Return Int64 microseconds since 1970 UTC of dates; numbers stay as they are."""
    dtype = column.dtype
    if dtype.is_integer() or dtype == pl.Null:
        return column.cast(pl.Int64)
    if dtype.is_float():
        numbers = column.cast(pl.Float64)
        whole = (numbers.is_finite() & (numbers == numbers.round())).all()
        return numbers.cast(pl.Int64) if whole else numbers
    if dtype in (pl.Date, pl.Datetime):
        return column.cast(pl.Datetime("us", getattr(dtype, "time_zone", None))).cast(pl.Int64)
    if dtype != pl.String:
        raise _wrong_type(column, file, "dates or numbers", "write dates like 2024-05-31 18:00:00")
    text = column.str.strip_chars().str.replace(" ", "T", literal=True).to_frame("text")
    plain = [pl.col("text").str.to_datetime(f, time_unit="us", strict=False) for f in _TIME_FORMATS]
    zoned = pl.col("text").str.to_datetime(_ZONED_TIME_FORMAT, time_unit="us", time_zone="UTC", strict=False)
    times = text.select(pl.coalesce(*plain, zoned.dt.replace_time_zone(None))).to_series()
    _require_parsed(column, times, file, "a date like 2024-05-31 18:00:00")
    return times.cast(pl.Int64)


def _require_parsed(column: pl.Series, parsed: pl.Series, file: str, expected: str) -> None:
    lost = (parsed.is_null() & column.is_not_null()).arg_true()
    if len(lost):
        first = int(lost[0])
        raise DataError(
            f"got {column[first]!r}, expected {expected}",
            fix="mend the value or drop the row",
            file=file,
            column=column.name,
            row=first + 1,
        )


_CONVERSIONS: dict[str, Callable[[pl.Series, str], pl.Series]] = {
    "query": as_ids,
    "item": as_ids,
    "label": _as_numbers,
    "time": _as_time,
    "weight": _as_numbers,
    "split": as_ids,
}


def _require_same_kinds(raw: pl.DataFrame, columns: Columns, kinds: dict[str, str], file: str) -> None:
    """Refuse a time or extra column of another kind than in the files before, which `kinds` remembers."""
    for name, dtype in raw.schema.items():
        if (name in columns.named.values() and name != columns.time) or dtype == pl.Null:
            continue
        kind = "number" if dtype.is_numeric() else str(dtype)
        if name == columns.time and kind != "number":
            kind = "date"
        before = kinds.setdefault(name, kind)
        if kind != before:
            raise DataError(
                f"got {kind} here and {before} in another file, expected one type",
                fix="write the column alike in all files",
                file=file,
                column=name,
            )


def _empty_schema(
    columns: Columns, extra: Sequence[str], files: Mapping[str | None, Sequence[Path]]
) -> dict[str, pl.DataType]:
    schema: dict[str, pl.DataType] = {"query": pl.String(), "item": pl.String(), "label": pl.Float32()}
    if columns.time is not None:
        schema["time"] = pl.Int64()
    if columns.weight is not None:
        schema["weight"] = pl.Float32()
    if columns.split is not None or any(key is not None for key in files):
        schema["split"] = pl.String()
    return schema | dict.fromkeys(extra, pl.Null()) | {"row": pl.Int64(), "file": pl.String()}
