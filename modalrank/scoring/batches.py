"""Reads a table file of any size a batch at a time, and hands on what is no row of a table."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from features.errors import DataError
from features.table_files import first_line
from modalrank.scoring.sources import SourceFile

BATCH_ROWS = 50_000
BLOCK_BYTES = 8 << 20  # a row longer than a block cannot be read
BUFFER_BYTES = 1 << 20


class BadRow(NamedTuple):
    """A row that is not scored: where it is, why, and what it said."""

    file: str
    row: int
    column: str | None
    reason: str
    got: str
    input: str


@dataclass(frozen=True)
class Wanted:
    """The columns to read.

    Attributes
    ----------
    ids
        `query` and `item`, or one of them, to the user's name of the column.
    features
        Ready-made features.
    """

    ids: Mapping[str, str]
    features: Sequence[str] = ()

    @property
    def columns(self) -> list[str]:
        """The user's names of all columns."""
        return [*self.ids.values(), *self.features]


@dataclass(frozen=True)
class Batch:
    """Some rows of a file.

    Attributes
    ----------
    rows
        The wanted columns under the user's names and `row` (Int64, from 1, as the file counts); columns of
        text files are String, whatever they say.
    bad
        What stood between them and is no row.
    """

    rows: pl.DataFrame
    bad: Sequence[BadRow]


def column_names(source: SourceFile) -> list[str]:
    """Return the names of the columns of a file; of JSON Lines those of its first object.

    Raises
    ------
    DataError
        If the file cannot be read or is empty.
    """
    if source.size == 0:
        raise DataError("the table has no rows, expected at least 1", fix="fill the table", file=source.name)
    return _kind(source).names(source)


def read_batches(source: SourceFile, wanted: Wanted) -> Iterator[Batch]:
    """Yield the rows of a file that has the columns, in its order; memory does not grow with the file.

    Raises
    ------
    DataError
        If the file is broken as a whole.
    """
    yield from _kind(source).read(source, wanted)


class _Parquet:
    @staticmethod
    def names(source: SourceFile) -> list[str]:
        with _broken_parquet(source), pyarrow.parquet.ParquetFile(source.path) as file:
            return list(file.schema_arrow.names)

    @staticmethod
    def read(source: SourceFile, wanted: Wanted) -> Iterator[Batch]:
        row = 0
        with (
            _broken_parquet(source),
            pyarrow.parquet.ParquetFile(
                source.path, page_checksum_verification=True, buffer_size=BUFFER_BYTES, pre_buffer=False
            ) as file,
        ):
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted.columns):
                rows = cast(pl.DataFrame, pl.from_arrow(batch)).select(wanted.columns)
                yield Batch(_numbered(rows, np.arange(row + 1, row + 1 + len(rows))), ())
                row += len(rows)


def _csv_reading() -> pyarrow.csv.ReadOptions:
    """Read in one thread: several do not know the number of a broken row."""
    return pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)


class _Csv:
    @staticmethod
    def names(source: SourceFile) -> list[str]:
        with (
            _broken("CSV", source),
            pyarrow.csv.open_csv(source.path, _csv_reading(), _csv_rows(lambda _: "skip")) as reader,
        ):
            return list(reader.schema.names)

    @staticmethod
    def read(source: SourceFile, wanted: Wanted) -> Iterator[Batch]:
        skipped: list[BadRow] = []

        def skip(row: Any) -> str:  # noqa: ANN401 - pyarrow is untyped
            problem = f"{row.actual_columns} values, expected {row.expected_columns}"
            skipped.append(BadRow(source.name, row.number - 1, None, "broken row", problem, row.text))
            return "skip"

        told = row = 0
        with (
            _broken("CSV", source),
            pyarrow.csv.open_csv(
                source.path,
                _csv_reading(),
                _csv_rows(skip),
                pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(wanted.columns, pa.string()), include_columns=wanted.columns
                ),
            ) as reader,
        ):
            for batch in reader:
                rows = cast(pl.DataFrame, pl.from_arrow(batch))
                numbers = _around(np.arange(row + 1, row + 1 + len(rows)), [bad.row for bad in skipped])
                row += len(rows)
                # CSV cannot tell an empty text from a missing one; missing is the state that travels on.
                rows = rows.with_columns(pl.col(pl.String).replace("", None))
                yield Batch(_numbered(rows, numbers), skipped[told:])
                told = len(skipped)
        if skipped[told:]:
            yield Batch(
                _numbered(pl.DataFrame(schema=dict.fromkeys(wanted.columns, pl.String)), []), skipped[told:]
            )


class _JsonLines:
    @staticmethod
    def names(source: SourceFile) -> list[str]:
        with _broken("JSON Lines", source), _lines(source) as lines:
            for line in filter(bytes.strip, lines):
                record = _parsed(line)
                if isinstance(record, dict):
                    return list(record)
        raise DataError(
            "this is not JSON Lines: no line is an object",
            fix="write one JSON object a line",
            file=source.name,
        )

    @staticmethod
    def read(source: SourceFile, wanted: Wanted) -> Iterator[Batch]:
        before = 0
        with _broken("JSON Lines", source), _lines(source) as lines:
            given = filter(bytes.strip, lines)
            while block := list(islice(given, BATCH_ROWS)):
                rows: list[list[str | None]] = []
                numbers, bad = [], []
                for row, line in enumerate(block, before + 1):
                    record = _parsed(line)
                    if isinstance(record, dict):
                        rows.append([_as_text(record.get(name)) for name in wanted.columns])
                        numbers.append(row)
                        continue
                    text = line.decode("utf-8", "replace").rstrip("\n")
                    bad.append(BadRow(source.name, row, None, "broken row", "no JSON object", text))
                before += len(block)
                frame = pl.DataFrame(rows, schema=dict.fromkeys(wanted.columns, pl.String), orient="row")
                yield Batch(_numbered(frame, numbers), bad)


_KINDS: dict[str, type[_Parquet] | type[_Csv] | type[_JsonLines]] = {
    ".parquet": _Parquet,
    ".pq": _Parquet,
    ".csv": _Csv,
    ".csv.gz": _Csv,
    ".jsonl": _JsonLines,
    ".ndjson": _JsonLines,
}


def _kind(source: SourceFile) -> type[_Parquet] | type[_Csv] | type[_JsonLines]:
    for ending, kind in _KINDS.items():
        if source.key.lower().endswith(ending):
            return kind
    raise DataError(
        f"got the extension {source.path.suffix!r}, expected one of {', '.join(_KINDS)}",
        fix="convert the file or rename it",
        file=source.name,
    )


def _csv_rows(handler: Callable[[Any], str]) -> Any:  # noqa: ANN401 - pyarrow is untyped
    return pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=handler)


class _broken:
    """Say which file it is that a reader cannot make out."""

    def __init__(self, kind: str, source: SourceFile, fix: str = "write the file again") -> None:
        self.kind, self.source, self.fix = kind, source, fix

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | gzip.BadGzipFile | EOFError):
            fix = "save it as UTF-8" if "UTF8" in str(error) else self.fix
            raise DataError(
                f"this is not a whole {self.kind} table ({first_line(error)})", fix=fix, file=self.source.name
            ) from error


def _broken_parquet(source: SourceFile) -> _broken:
    return _broken("Parquet", source, "write the file again, it may be cut off")


def _lines(source: SourceFile) -> Any:  # noqa: ANN401 - two kinds of files
    return gzip.open(source.path, "rb") if source.key.endswith(".gz") else source.path.open("rb")


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _as_text(value: object) -> str | None:
    """Return a JSON value as the text that a CSV file would have; a number comes back as the same number."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and not math.isfinite(value):
        return "inf"
    return value if isinstance(value, str) else json.dumps(value)


def _around(numbers: Any, skipped: Sequence[int]) -> Any:  # noqa: ANN401 - int64 arrays
    """Return the numbers in the file of rows that are counted without those that were skipped."""
    before = np.sort(np.asarray(skipped, dtype=np.int64)) - np.arange(len(skipped))
    return numbers + np.searchsorted(before, numbers, side="right")


def _numbered(rows: pl.DataFrame, numbers: Any) -> pl.DataFrame:  # noqa: ANN401 - int64 array or list
    return rows.with_columns(pl.Series("row", numbers, dtype=pl.Int64))
