"""Checks of single rows: ids, labels, times, features, and pairs that come twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import polars as pl

from features.errors import DataError

SPLITS = ("train", "valid", "test")
RESERVED = frozenset({"query", "item", "label", "time", "weight", "split", "row", "file"})


@dataclass(frozen=True)
class Check:
    """One rule of the contract and how the data fared.

    Attributes
    ----------
    name
        What was checked.
    passed
        Whether the rule holds.
    detail
        The numbers behind it; where the rule is broken, also the place and the fix.
    examples
        Ids that break the rule.
    level
        `fail`: the data cannot be used; `warn`: it can, but the user should know.
    error
        What a strict reader raises where the check did not pass.
    """

    name: str
    passed: bool
    detail: str
    examples: tuple[str, ...] = ()
    level: Literal["fail", "warn"] = "fail"
    error: DataError | None = None

    @classmethod
    def broken(
        cls,
        name: str,
        error: DataError,
        *,
        rows: int = 1,
        examples: Sequence[str] = (),
        level: Literal["fail", "warn"] = "fail",
    ) -> Self:
        """Return the check that `error` breaks, `rows` times in all."""
        detail = str(error) if rows == 1 else f"{rows} rows, the first: {error}"
        return cls(name, False, detail, tuple(examples), level, error)

    def line(self) -> str:
        """Return the check as one line of a report, with up to three examples."""
        verdict = "PASS" if self.passed else self.level.upper()
        examples = f" (e.g. {', '.join(self.examples[:3])})" if self.examples else ""
        return f"{verdict}  {self.name}  {self.detail}{examples}"


def raise_first_failure(checks: Sequence[Check]) -> None:
    """Raise the DataError of the first broken check of level `fail`, if there is one."""
    for check in checks:
        if not check.passed and check.level == "fail":
            raise check.error or DataError(check.detail, fix=f"mend {check.name}")


def interaction_checks(
    interactions: pl.DataFrame,
    names: Mapping[str, str] | None = None,
    duplicates: Literal["error", "last"] = "error",
) -> list[Check]:
    """Check the values of a canonical interaction frame, row by row.

    Parameters
    ----------
    interactions
        What `features.tables.scan_interactions` returns.
    names
        Canonical column name to the user's, for the messages.
    duplicates
        `last` allows a pair to come back at another time.
    """
    names = names or {}
    checks = []
    for column, bad, expected, fix in _VALUE_RULES:
        if column in interactions.columns:
            user_column = names.get(column, column)
            checks.append(
                _check_rows(interactions, f"{column} values", bad, user_column, column, expected, fix)
            )
    checks.append(_check_features(interactions))
    if duplicates == "error":
        checks.append(_check_duplicates(interactions))
    return checks


def entity_checks(entities: pl.DataFrame, file: str, id_column: str) -> list[Check]:
    """Check that every row of an item or user table has an id of its own."""
    frame = entities.with_columns(pl.lit(file).alias("file"))
    no_id = pl.col("id").fill_null("") == ""
    again = ~no_id & ~pl.col("id").is_first_distinct()
    return [
        _check_rows(frame, f"{file} ids", no_id, id_column, "id", "an id", _NO_ID),
        _check_rows(frame, f"{file} ids unique", again, id_column, "id", "each id once", "keep one row"),
    ]


def contiguous_check(interactions: pl.DataFrame, query_column: str) -> Check:
    """Check that, in the order of each file, rows of one query stand together."""
    starts = pl.struct("file", "query").ne_missing(pl.struct("file", "query").shift(1))
    heads = interactions.filter(starts)
    return _check_rows(
        heads,
        "queries together",
        ~pl.struct("file", "query").is_first_distinct(),
        query_column,
        "query",
        "the rows of a query together",
        "sort the file by query, or do not declare it presorted",
    )


def numbers_check(interactions: pl.DataFrame, columns: Sequence[str]) -> Check:
    """Check that ready-made features are numbers or flags."""
    for column in columns:
        dtype = interactions.schema.get(column, pl.Null())
        if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
            continue
        value, is_text = pl.col(column), dtype == pl.String
        odd = value.str.strip_chars().cast(pl.Float32, strict=False).is_null() if is_text else pl.lit(True)
        given = interactions.filter(value.is_not_null())
        first = pl.concat([given.filter(odd), given]).row(0, named=True)
        error = DataError(
            f"got {first[column]!r} in a column of type {dtype}, expected numbers",
            fix="write numbers, and nothing where one is unknown",
            file=first["file"],
            column=column,
            row=first["row"],
        )
        return Check.broken("feature types", error)
    return Check("feature types", True, f"{len(columns)} columns")


def _is_measure(column: str) -> pl.Expr:
    return (pl.col(column).is_finite() & (pl.col(column) >= 0)).fill_null(False)


_NO_ID = "fill it in or drop the row"
_MEASURE = "a finite number of at least 0"
# Column, what a bad row looks like, what is expected instead, and the fix.
_VALUE_RULES: tuple[tuple[str, pl.Expr, str, str], ...] = (
    ("query", pl.col("query").fill_null("") == "", "an id", _NO_ID),
    ("item", pl.col("item").fill_null("") == "", "an id", _NO_ID),
    ("label", ~_is_measure("label"), _MEASURE, "drop the row or shift the labels so that 0 is irrelevant"),
    ("weight", ~_is_measure("weight"), _MEASURE, "write 1 for an ordinary row"),
    ("time", ~pl.col("time").is_finite().fill_null(False), "a time", "fill it in or drop the row"),
    ("split", ~pl.col("split").is_in(SPLITS).fill_null(False), " or ".join(SPLITS), "rename the value"),
)


def _check_rows(
    frame: pl.DataFrame, name: str, bad: pl.Expr, user_column: str, column: str, expected: str, fix: str
) -> Check:
    rows = frame.filter(bad)
    if not len(rows):
        return Check(name, True, f"{len(frame)} rows")
    first = rows.row(0, named=True)
    got = "nothing" if first[column] is None else repr(first[column])
    error = DataError(
        f"got {got}, expected {expected}", fix=fix, file=first["file"], column=user_column, row=first["row"]
    )
    return Check.broken(name, error, rows=len(rows))


def _check_features(interactions: pl.DataFrame) -> Check:
    name, expected, fix = "feature values", "a finite number or nothing", "leave out what is unknown"
    columns = [c for c, dtype in interactions.schema.items() if c not in RESERVED and dtype.is_float()]
    for column in columns:
        check = _check_rows(interactions, name, pl.col(column).is_infinite(), column, column, expected, fix)
        if not check.passed:
            return check
    return Check(name, True, f"{len(interactions)} rows of {len(columns)} columns")


def _check_duplicates(interactions: pl.DataFrame) -> Check:
    again = interactions.drop_nulls(["query", "item"]).filter(~pl.struct("query", "item").is_first_distinct())
    if not len(again):
        return Check("pairs unique", True, f"{len(interactions)} rows")
    first = again.row(0, named=True)
    error = DataError(
        f"got query {first['query']!r} with item {first['item']!r} a second time, expected each pair once",
        fix="drop the second row, or keep the latest of a pair with `duplicates: last`",
        file=first["file"],
        row=first["row"],
    )
    return Check.broken("pairs unique", error, rows=len(again))
