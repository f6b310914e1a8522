"""Judges rows one by one: those that can be scored, and why the others cannot."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from features.errors import DataError
from features.tables import as_ids
from modalrank.scoring.batches import BadRow, Wanted
from modalrank.scoring.staging import SKIPPED

OnError = Literal["fail", "quarantine"]
NULL_KEY, WRONG_TYPE, INFINITE, DUPLICATE = "null key", "wrong type", "infinite value", "duplicate"
BROKEN, UNKNOWN_ITEM = "broken row", "unknown item"

# Bad rows in memory.
MOST_HELD = 20_000

# Reason to what is expected instead, and the fix.
_EXPECTED = {
    NULL_KEY: ("an id", "fill it in or drop the row"),
    WRONG_TYPE: ("a number", "write numbers, and nothing where one is unknown"),
    INFINITE: ("a finite number or nothing", "leave out what is unknown"),
    BROKEN: ("", "mend its quotes and commas"),
    DUPLICATE: ("each once", "drop the second row"),
    UNKNOWN_ITEM: (
        "an item of the model or of an item table",
        "give its row of the item table with --items",
    ),
}


@dataclass
class Policy:
    """What to do about bad rows; those that were met so far lie in `skipped/` on disk.

    Attributes
    ----------
    on_error
        `fail` at the first one, or `quarantine` it.
    max_errors
        How many may be quarantined, None for any number.
    write
        Writes a table under a name, and returns the file's facts.
    counts
        Number of bad rows by reason.
    files
        Facts of the files of bad rows.
    """

    on_error: OnError
    max_errors: int | None
    write: Callable[[str, pl.DataFrame], dict[str, Any]]
    counts: Counter[str] = field(default_factory=Counter)
    files: list[dict[str, Any]] = field(default_factory=list)
    _held: list[BadRow] = field(default_factory=list)

    def take(self, rows: Iterable[BadRow]) -> None:
        """Note bad rows.

        Raises
        ------
        DataError
            If one is not allowed, or there are more than `max_errors`.
        """
        for row in rows:
            if self.on_error == "fail":
                raise error_of(row, "; or score the others with --on-error quarantine")
            self.counts[row.reason] += 1
            if self.max_errors is not None and self.counts.total() > self.max_errors:
                raise DataError(
                    f"got more than {self.max_errors} bad rows, the last one: {error_of(row)}",
                    fix="mend the input, or raise --max-errors",
                )
            self._held.append(row)
            if len(self._held) >= MOST_HELD:
                self.flush()

    def flush(self) -> None:
        """Write the bad rows that are still in memory, in the order of the input."""
        if not self._held:
            return
        schema = {name: pl.Int64 if name == "row" else pl.String for name in BadRow._fields}
        table = pl.DataFrame(self._held, schema=schema, orient="row").sort("file", "row")
        self.files.append(self.write(f"{SKIPPED}/part-{len(self.files):05d}.parquet", table))
        self._held.clear()


def error_of(row: BadRow, otherwise: str = "") -> DataError:
    """Return the error that tells of a bad row."""
    expected, fix = _EXPECTED[row.reason]
    problem = f"got {row.got}, expected {expected}" if expected else f"got {row.got}"
    return DataError(problem, fix=fix + otherwise, file=row.file, column=row.column, row=row.row)


def judged(
    raw: pl.DataFrame, wanted: Wanted, file: str, known_items: pl.Series | None = None
) -> tuple[pl.DataFrame, list[BadRow]]:
    """Return the good rows in canonical columns, and the bad ones.

    Parameters
    ----------
    raw
        As `batches.read_batches` gives them.
    known_items
        The items of which something is known, None where nothing has to be.

    Returns
    -------
    pl.DataFrame
        `query` and `item` (String) as far as they are wanted, the features as Float32 with null or NaN for
        missing, and `row`.

    Raises
    ------
    DataError
        If a column has a type that no row can be right in.
    """
    ids = [as_ids(raw[column], file).alias(name) for name, column in wanted.ids.items()]
    numbers = [_as_number(raw[name], file) for name in wanted.features]
    rows = pl.DataFrame([*ids, *numbers, raw["row"]])
    rules: list[tuple[str, str, pl.Expr]] = [
        (NULL_KEY, column, pl.col(name).fill_null("") == "") for name, column in wanted.ids.items()
    ]
    if known_items is not None and "item" in wanted.ids:
        rules.append((UNKNOWN_ITEM, wanted.ids["item"], ~pl.col("item").is_in(known_items.implode())))
    text = [name for name in wanted.features if raw.schema[name] == pl.String]
    unread = raw.select(
        ((pl.col(name).str.strip_chars() != "") & rows[name].is_null()).fill_null(False) for name in text
    )
    odd = [name for name in text if unread[name].any()]
    rules += [(WRONG_TYPE, name, pl.lit(unread[name])) for name in odd]
    infinite = rows.select(pl.col(name).is_infinite().any() for name in wanted.features)
    rules += [
        (INFINITE, name, pl.col(name).is_infinite().fill_null(False))
        for name in wanted.features
        if infinite[name].item()
    ]
    verdict = rows.select(
        pl.coalesce(
            *(pl.when(broken).then(pl.lit(place, pl.Int32)) for place, (*_, broken) in enumerate(rules)),
            pl.lit(-1, pl.Int32),
        ).alias("rule")
    )["rule"]
    if (verdict == -1).all():
        return rows, []
    return rows.filter(verdict == -1), _described(raw, verdict, rules, file)


def _described(
    raw: pl.DataFrame, verdict: pl.Series, rules: Sequence[tuple[str, str, pl.Expr]], file: str
) -> list[BadRow]:
    bad = []
    for place in (verdict != -1).arg_true():
        reason, column, _ = rules[verdict[place]]
        values = raw.row(place, named=True)
        number = values.pop("row")
        got = "nothing" if values[column] is None else repr(values[column])
        bad.append(BadRow(file, number, column, reason, got, json.dumps(values, default=str)))
    return bad


def _as_number(column: pl.Series, file: str) -> pl.Series:
    """Return Float32 with null where a text is no number; raises DataError for other types."""
    dtype = column.dtype
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        return column.cast(pl.Float32)
    if dtype == pl.String:
        return column.str.strip_chars().cast(pl.Float32, strict=False)
    first = column.drop_nulls()
    raise DataError(
        f"got {first[0] if len(first) else None!r} in a column of type {dtype}, expected numbers",
        fix="write numbers, and nothing where one is unknown",
        file=file,
        column=column.name,
    )
