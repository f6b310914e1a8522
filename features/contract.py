"""The data contract as a list of checks, which the strict readers and `validate` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import polars as pl

from features.errors import DataError

SPLITS = ("train", "valid", "test")
RESERVED = frozenset({"query", "item", "label", "time", "weight", "split", "row", "file"})
LOW_COVERAGE = 0.05
LARGEST_SAFE_LABEL = 30


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


def check_tables(
    interactions: pl.DataFrame,
    items: pl.DataFrame | None,
    users: pl.DataFrame | None,
    modality_columns: Mapping[str, tuple[str, tuple[str, ...]]],
    *,
    form: Literal["log", "judged"],
    positive_from: float | None,
    names: Mapping[str, str] | None = None,
    duplicates: Literal["error", "last"] = "error",
) -> list[Check]:
    """Check canonical tables against the whole contract and return every finding.

    Parameters
    ----------
    interactions
        What `features.tables.scan_interactions` returns.
    items, users
        What `features.tables.scan_entities` returns, or None where there is no such table.
    modality_columns
        Modality to its table (`items`, `users` or `interactions`) and the columns it comes from.
    form
        `log`: what happened, candidates are generated; `judged`: every row is a candidate.
    positive_from
        The least label of a positive; None for any label above 0.
    names, duplicates
        As for `interaction_checks`.
    """
    checks = interaction_checks(interactions, names, duplicates)
    tables = {"items": items, "users": users, "interactions": interactions}
    if items is not None:
        checks += entity_checks(items, "items", "id")
        checks.append(_check_known(interactions["item"], items["id"], "items known", "item"))
    if users is not None:
        checks += entity_checks(users, "users", "id")
        checks.append(_check_known(interactions["query"], users["id"], "users known", "user"))
    for modality, (table, columns) in modality_columns.items():
        checks.append(_check_coverage(tables[table], modality, table, columns))
    sound = interactions.drop_nulls(["query", "item", "label"])
    checks += [*_check_labels(sound, form), *_check_queries(sound, positive_from)]
    if "split" in interactions.columns:
        checks.append(_check_split_sizes(sound))
        if "time" in interactions.columns:
            checks.append(_check_time_order(sound))
    return checks


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


def _check_known(used: pl.Series, known: pl.Series, name: str, what: str) -> Check:
    ids = used.drop_nulls().unique().sort()
    unknown = ids.filter(~ids.is_in(known.drop_nulls().implode()))
    detail = f"{len(ids) - len(unknown)} of {len(ids)} {what}s of the interactions are in the {what} table"
    if not len(unknown):
        return Check(name, True, detail)
    error = DataError(
        f"got {detail}, expected all", fix=f"add the missing {what}s or compare how ids are written"
    )
    # A few unknown ids are ordinary (new ones); most of them unknown means ids of another spelling.
    level: Literal["fail", "warn"] = "fail" if len(unknown) > len(ids) / 2 else "warn"
    return Check(name, False, detail, tuple(unknown.head(3)), level, error)


def _has_value(column: str, dtype: pl.DataType) -> pl.Expr:
    value = pl.col(column)
    if dtype == pl.Null:
        return pl.lit(False)
    if dtype == pl.String:
        return value.str.strip_chars().fill_null("") != ""
    if isinstance(dtype, pl.List):
        return value.list.len().fill_null(0) > 0
    if dtype.is_float():
        return value.is_not_nan().fill_null(False)
    return value.is_not_null()


def _check_coverage(frame: pl.DataFrame | None, modality: str, table: str, columns: tuple[str, ...]) -> Check:
    name = f"coverage of {modality}"
    absent = [column for column in columns if frame is None or column not in frame.columns]
    if frame is None or absent:
        error = DataError(f"column {absent[0]!r} is not in {table}", fix="correct the name of the column")
        return Check.broken(name, error)
    key = "item" if table == "interactions" else "id"
    with_value = frame.select(
        pl.any_horizontal(_has_value(column, frame.schema[column]) for column in columns).alias("has")
    ).to_series()
    covered = int(with_value.sum()) if len(frame) else 0
    share = covered / max(len(frame), 1)
    detail = f"{share:.1%} of {table} ({covered} of {len(frame)})"
    without = tuple(frame[key].filter(~with_value).drop_nulls().unique().sort().head(3)) if len(frame) else ()
    if share < LOW_COVERAGE:
        error = DataError(
            f"got {detail}, expected {LOW_COVERAGE:.0%} or more", fix="fill the column or drop the modality"
        )
        return Check(name, False, detail, without, "warn", error)
    return Check(name, True, detail, without)


def _check_labels(interactions: pl.DataFrame, form: Literal["log", "judged"]) -> list[Check]:
    labels = interactions["label"]
    if not len(labels):
        return []
    low, high, distinct = float(labels.min()), float(labels.max()), labels.n_unique()  # type: ignore[arg-type]
    detail = f"{low:g} to {high:g}, {distinct} distinct"
    too_large = DataError(
        f"got labels up to {high:g}, expected {LARGEST_SAFE_LABEL} or less",
        fix="map the labels to few grades",
    )
    all_equal = DataError(
        f"all labels are {high:g}, expected two grades or more", fix="add rows of another grade"
    )
    checks = [Check("label range", high <= LARGEST_SAFE_LABEL, detail, level="warn", error=too_large)]
    if form == "judged":
        checks.append(Check("labels differ", distinct > 1, detail, error=all_equal))
    return checks


def _check_queries(interactions: pl.DataFrame, positive_from: float | None) -> list[Check]:
    is_positive = pl.col("label") > 0 if positive_from is None else pl.col("label") >= positive_from
    queries = interactions.group_by("query").agg(is_positive.any().alias("positive")).sort("query")
    n_queries = len(queries)
    without = queries.filter(~pl.col("positive"))["query"]
    detail = f"{len(without)} of {n_queries} queries have no positive"
    too_few = DataError(f"got {n_queries} queries, expected 2 or more", fix="add interactions")
    none = DataError(detail, fix="lower the label from which a row is positive")
    level: Literal["fail", "warn"] = "fail" if len(without) == n_queries else "warn"
    return [
        Check("two queries", n_queries >= 2, f"{n_queries} queries", error=too_few),
        Check("queries with a positive", not len(without), detail, tuple(without.head(3)), level, none),
    ]


def _check_split_sizes(interactions: pl.DataFrame) -> Check:
    sizes = {split: int((interactions["split"] == split).sum()) for split in SPLITS}
    detail = ", ".join(f"{split} {size}" for split, size in sizes.items()) + " rows"
    error = DataError(f"got {detail}, expected rows in each", fix="name a file or a split value for each")
    usable = bool(sizes["train"] and sizes["test"])
    return Check("split sizes", all(sizes.values()), detail, level="warn" if usable else "fail", error=error)


def _check_time_order(interactions: pl.DataFrame) -> Check:
    stage = pl.col("split").replace_strict({name: i for i, name in enumerate(SPLITS)}, default=None)
    spans = (
        interactions.with_columns(stage.alias("stage"))
        .drop_nulls(["stage", "time"])
        .group_by("query", "stage")
        .agg(pl.col("time").min().alias("first"), pl.col("time").max().alias("last"))
        .sort("query", "stage")
    )
    mixed = spans.filter(pl.col("first") < pl.col("last").shift(1).over("query"))["query"].unique().sort()
    detail = f"{len(mixed)} queries have a held-out row before an earlier split's last"
    error = DataError(
        f"got {detail}, expected none", fix="split by time, or accept that the future is learned from"
    )
    return Check("time order of splits", not len(mixed), detail, tuple(mixed.head(3)), "warn", error)
