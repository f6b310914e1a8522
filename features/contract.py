"""The data contract as a list of checks, which the strict readers and `validate` share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl

from features.errors import DataError
from features.row_checks import (
    RESERVED,
    SPLITS,
    Check,
    contiguous_check,
    entity_checks,
    interaction_checks,
    numbers_check,
    raise_first_failure,
)

__all__ = [
    "RESERVED",
    "SPLITS",
    "Check",
    "check_tables",
    "contiguous_check",
    "entity_checks",
    "interaction_checks",
    "numbers_check",
    "raise_first_failure",
]

LOW_COVERAGE = 0.05
LARGEST_SAFE_LABEL = 30


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
    names = names or {}
    checks = interaction_checks(interactions, names, duplicates)
    tables = {"items": items, "users": users, "interactions": interactions}
    if items is not None:
        checks += entity_checks(items, "items", "id")
        checks.append(_check_described(interactions, items["id"], names))
    if users is not None:
        checks += entity_checks(users, "users", "id")
        checks.append(_check_users_known(interactions["query"], users["id"]))
    for modality, (table, columns) in modality_columns.items():
        checks.append(_check_coverage(tables[table], modality, table, columns))
    ready_made = [
        c for table, columns in modality_columns.values() for c in columns if table == "interactions"
    ]
    checks.append(numbers_check(interactions, ready_made))
    sound = interactions.drop_nulls(["query", "item", "label"])
    checks += [*_check_labels(sound, form, names), *_check_queries(sound, positive_from, names)]
    if "split" in interactions.columns:
        checks.append(_check_split_sizes(sound))
        if "time" in interactions.columns:
            checks.append(_check_time_order(sound))
    return checks


def _check_described(interactions: pl.DataFrame, described: pl.Series, names: Mapping[str, str]) -> Check:
    absent = interactions.filter(~pl.col("item").is_in(described.drop_nulls().implode()))
    without, n_items = absent["item"].unique().sort(), interactions["item"].drop_nulls().n_unique()
    detail = f"{n_items - len(without)} of {n_items} items of the interactions are in the item table"
    if not len(absent):
        return Check("items known", True, detail)
    first = absent.row(0, named=True)
    error = DataError(
        f"got item {first['item']!r} without features: {detail}, expected all",
        fix="add the missing items or compare how ids are written",
        file=first["file"],
        column=names.get("item", "item"),
        row=first["row"],
    )
    return Check.broken("items known", error, examples=without.head(3).to_list())


def _check_users_known(used: pl.Series, known: pl.Series) -> Check:
    ids = used.drop_nulls().unique().sort()
    unknown = ids.filter(~ids.is_in(known.drop_nulls().implode()))
    detail = f"{len(ids) - len(unknown)} of {len(ids)} users of the interactions are in the user table"
    if not len(unknown):
        return Check("users known", True, detail)
    error = DataError(
        f"got {detail}, expected all", fix="add the missing users or compare how ids are written"
    )
    # A user without a profile is ordinary; most of them without one means ids of another spelling.
    level: Literal["fail", "warn"] = "fail" if len(unknown) > len(ids) / 2 else "warn"
    return Check("users known", False, detail, tuple(unknown.head(3)), level, error)


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


def _check_labels(
    interactions: pl.DataFrame, form: Literal["log", "judged"], names: Mapping[str, str]
) -> list[Check]:
    labels = interactions["label"]
    if not len(labels):
        return []
    low, high, distinct = float(labels.min()), float(labels.max()), labels.n_unique()  # type: ignore[arg-type]
    detail = f"{low:g} to {high:g}, {distinct} distinct"
    file, column = _one_file(interactions), names.get("label", "label")
    too_large = DataError(
        f"got labels up to {high:g}, expected {LARGEST_SAFE_LABEL} or less",
        fix="map the labels to few grades",
        file=file,
        column=column,
    )
    all_equal = DataError(
        f"all labels are {high:g}, expected two grades or more",
        fix="add rows of another grade",
        file=file,
        column=column,
    )
    checks = [Check("label range", high <= LARGEST_SAFE_LABEL, detail, level="warn", error=too_large)]
    if form == "judged":
        checks.append(Check("labels differ", distinct > 1, detail, error=all_equal))
    return checks


def _one_file(interactions: pl.DataFrame) -> str | None:
    """Return the file of the rows, for a finding about all of them; None where they come from several."""
    files = interactions["file"].unique()
    return files[0] if len(files) == 1 else None


def _check_queries(
    interactions: pl.DataFrame, positive_from: float | None, names: Mapping[str, str]
) -> list[Check]:
    is_positive = pl.col("label") > 0 if positive_from is None else pl.col("label") >= positive_from
    queries = interactions.group_by("query").agg(is_positive.any().alias("positive")).sort("query")
    n_queries = len(queries)
    without = queries.filter(~pl.col("positive"))["query"]
    detail = f"{len(without)} of {n_queries} queries have no positive"
    file = _one_file(interactions)
    too_few = DataError(
        f"got {n_queries} queries, expected 2 or more",
        fix="add interactions, or check that this column names users, sessions or requests",
        file=file,
        column=names.get("query", "query"),
    )
    none = DataError(
        detail,
        fix="lower the label from which a row is positive",
        file=file,
        column=names.get("label", "label"),
    )
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
