"""Reads one table file (Parquet, CSV, JSON Lines) and says where it is broken."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from features.errors import DataError

BLOCK_BYTES = 16 << 20  # a row longer than a block cannot be read
SEPARATORS = (";", "\t", "|")
MOST_LISTED = 20


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 hex digest of the whole content; raises DataError where the file is missing."""
    _require_file(path)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_table(path: Path, columns: Sequence[str], text_columns: Sequence[str] = ()) -> pl.DataFrame:
    """Read the named columns of a table, in this order, in the order of the file.

    Parameters
    ----------
    path
        A .parquet, .pq, .csv, .csv.gz, .jsonl or .ndjson file.
    columns
        The columns to read.
    text_columns
        Columns that CSV must not read as numbers, so that the id 007 stays apart from 7.

    Raises
    ------
    DataError
        If the file is missing, broken, empty, of an unknown kind, or lacks a column.
    """
    _require_file(path)
    readers = [read for ending, read in _READERS.items() if path.name.lower().endswith(ending)]
    if not readers:
        raise DataError(
            f"got the extension {path.suffix!r}, expected one of {', '.join(_READERS)}",
            fix="convert the file or rename it",
            file=str(path),
        )
    has_content = path.stat().st_size > 0
    table = readers[0](path, list(dict.fromkeys(columns)), text_columns) if has_content else pl.DataFrame()
    if not len(table):
        raise DataError("the table has no rows, expected at least 1", fix="fill the table", file=str(path))
    return table


def _require_file(path: Path) -> None:
    if not path.is_file():
        problem = "this is a folder, expected a file" if path.is_dir() else "there is no such file"
        raise DataError(problem, fix="correct the path", file=str(path))


def require_columns(names: Sequence[str], wanted: Sequence[str], file: str) -> None:
    """Raise DataError if a wanted column is missing, with the nearest name, or if a name occurs twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            "the name occurs twice, expected each once", fix="rename one", file=file, column=twice[0]
        )
    missing = [name for name in wanted if name not in names]
    if missing:
        others = f", nor {_listed(list(map(repr, missing[1:])))}" if missing[1:] else ""
        raise DataError(
            f"no such column{others}, the file has {_listed(names)}",
            fix=_fix_of_missing(missing[0], names),
            file=file,
            column=missing[0],
        )


def _fix_of_missing(missing: str, names: Sequence[str]) -> str:
    """Return what to do about a column that is not there, by what it may have been called instead."""
    for separator in SEPARATORS:
        if len(names) == 1 and missing in names[0].split(separator):
            return f"separate the columns by commas, not by {separator!r}"
    by_case = {name.strip().casefold(): name for name in names}
    near = get_close_matches(missing.casefold(), by_case, n=1)
    if not near:
        return "add the column, or rename one of these"
    there = by_case[near[0]]
    return f"did you mean {there!r}? then rename it to {missing!r}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def _read_parquet(path: Path, columns: Sequence[str], text_columns: Sequence[str]) -> pl.DataFrame:
    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as source:
            require_columns(source.schema_arrow.names, columns, str(path))
            return _to_polars(source.read(columns=columns))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"this is not a whole Parquet file ({first_line(error)})",
            fix="write the file again, it may be cut off",
            file=str(path),
        ) from error


def _read_csv(path: Path, columns: Sequence[str], text_columns: Sequence[str]) -> pl.DataFrame:
    try:
        table = pyarrow.csv.read_csv(
            path,
            # Only the single-threaded reader knows the number of a broken row.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in text_columns}
            ),
        )
    except (pa.ArrowException, OSError) as error:
        place = re.search(r"Row #(\d+): ", str(error))
        raise DataError(
            f"this is not a CSV table ({first_line(error)})",
            fix="mend its quotes and commas" if place else "write the file again",
            file=str(path),
            row=int(place[1]) - 1 if place else None,
        ) from error
    require_columns(table.column_names, columns, str(path))
    table = table.select(columns)
    for field in table.schema:
        if pa.types.is_binary(field.type):
            raise DataError(
                "got bytes that are not UTF-8", fix="save as UTF-8", file=str(path), column=field.name
            )
    # CSV cannot tell an empty text from a missing one; missing is the state that travels on.
    return _to_polars(table).with_columns(pl.col(pl.String).replace("", None))


def _read_json_lines(path: Path, columns: Sequence[str], text_columns: Sequence[str]) -> pl.DataFrame:
    try:
        table = pyarrow.json.read_json(path, read_options=pyarrow.json.ReadOptions(block_size=BLOCK_BYTES))
    except (pa.ArrowException, OSError) as error:
        column = re.search(r"Column\(/([^/)]+)", str(error))
        name = column[1] if column else None
        row = _first_odd_line(path, name)
        raise DataError(
            f"this is not JSON Lines of equal columns ({first_line(error)})",
            fix="write one JSON object a line, a column with values of one type",
            file=str(path),
            column=name,
            row=row,
        ) from error
    require_columns(table.column_names, columns, str(path))
    return _to_polars(table.select(columns))


def _to_polars(table: pa.Table) -> pl.DataFrame:
    return cast(pl.DataFrame, pl.from_arrow(table))


def _first_odd_line(path: Path, column: str | None) -> int | None:
    """Return the number of the first line that is no object or changes the type of `column`."""
    kind: type | None = None
    row = 0
    with path.open("rb") as lines:
        for line in filter(bytes.strip, lines):
            row += 1
            try:
                record = json.loads(line)
            except ValueError:
                return row
            if not isinstance(record, dict):
                return row
            value = record.get(column) if column is not None else None
            found = float if type(value) is int else type(value)
            if value is not None and found is not (kind := kind or found):
                return row
    return None


_READERS: dict[str, Callable[[Path, Sequence[str], Sequence[str]], pl.DataFrame]] = {
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}
ENDINGS = tuple(_READERS)


def first_line(error: BaseException) -> str:
    """Return the reader's reason without its own count of rows, which starts elsewhere than ours."""
    reason = re.sub(r"Row #\d+: | in row \d+", "", str(error) or type(error).__name__)
    return reason.splitlines()[0][:200]
