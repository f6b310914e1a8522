"""One behaviour for every ranker before its library sees the data.

The libraries differ: a NaN label trains silently in one and fails in another, and so do infinities,
large labels and constant labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from features.errors import DataError
from features.frame import BoolArray, RankingFrame

Learned = TypeVar("Learned")

LARGEST_LABEL = 30
LARGEST_QUERY = 10_000


def check_trainable(frame: RankingFrame) -> None:
    """Refuse a frame that not every ranker can learn from; a NaN feature is fine and means missing.

    Queries whose own labels are all equal are fine, they carry no signal.

    Raises
    ------
    DataError
        If the frame has no row, no feature column, fewer than two queries, a query of more than 10,000
        rows, only constant features or an infinite one, labels that are not whole numbers from 0 to 30
        or equal within every query, or query weights that are not finite, negative or all 0.
    """
    if frame.n_rows == 0:
        raise DataError(
            "got no row to train on, expected labelled candidates", fix="check the filters and splits"
        )
    if not frame.feature_names:
        raise DataError("got no feature column, expected at least one", fix="select at least one block")
    if frame.n_queries == 1:
        raise DataError(
            "got 1 query to train on, expected at least 2",
            fix="check that the query column names users, sessions or requests",
        )
    _check_sizes(frame)
    check_labels(frame)
    if frame.labels.min() == frame.labels.max():
        raise DataError(
            f"all labels are {frame.labels[0]:g}, expected at least two different values",
            column="label",
            fix="check the label column, and that candidates hold both relevant and irrelevant items",
        )
    if not has_contrast(frame).any():
        raise DataError(
            "no query holds two different labels, expected at least one that does",
            column="label",
            fix="add irrelevant candidates to the queries, or check the query column",
        )
    _check_finite(frame)
    _check_varies(frame)
    _check_weights(frame)


def check_labels(frame: RankingFrame) -> None:
    """Refuse labels that are not whole numbers from 0 to 30; raises DataError with the first bad row."""
    labels = frame.labels
    rules: tuple[tuple[BoolArray, str, str], ...] = (
        (np.isnan(labels), "is missing", "drop the row, or set the label to 0 if it means irrelevant"),
        (labels < 0, "is negative", "shift the labels so that irrelevant is 0"),
        (
            labels > LARGEST_LABEL,
            f"is above {LARGEST_LABEL}",
            "map the labels to fewer grades, such as 0 to 4",
        ),
        (
            labels != np.floor(labels),
            "is not a whole number",
            "map the labels to whole grades, such as 0 to 4",
        ),
    )
    for broken, problem, fix in rules:
        row = _first(broken)
        if row is not None:
            raise DataError(
                f"label {labels[row]:g} {problem}, expected whole numbers from 0 to {LARGEST_LABEL}",
                column="label",
                row=row + 1,
                fix=fix,
            )


def check_scorable(frame: RankingFrame, feature_names: Sequence[str]) -> None:
    """Refuse a frame whose features are not those of `fit`; an empty frame and one-row queries are fine.

    Raises
    ------
    DataError
        If the feature names differ from `feature_names` or a feature is infinite.
    """
    expected, got = tuple(feature_names), frame.feature_names
    if got != expected:
        where = next(
            (i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b),
            min(len(got), len(expected)),
        )
        raise DataError(
            f"got {len(got)} features, expected the {len(expected)} of the training; the first difference is "
            f"number {where + 1}: got {_name_at(got, where)}, expected {_name_at(expected, where)}",
            fix=_likely_cause(got, expected),
        )
    _check_finite(frame)


def has_contrast(frame: RankingFrame) -> NDArray[np.bool_]:
    """Return (n_queries,) whether a query holds two different labels."""
    if frame.n_queries == 0:
        return np.zeros(0, dtype=bool)
    starts = frame.offsets[:-1]
    lowest, highest = np.minimum.reduceat(frame.labels, starts), np.maximum.reduceat(frame.labels, starts)
    return np.asarray(highest > lowest)


def fitted(learned: Learned | None, what: str) -> Learned:
    """Return what `fit` learned; raises DataError if there is nothing yet."""
    if learned is None:
        raise DataError(f"this {what} ranker is not fitted", fix="call fit or load first")
    return learned


def _check_sizes(frame: RankingFrame) -> None:
    largest = int(np.argmax(frame.group_sizes))
    size = int(frame.group_sizes[largest])
    if size > LARGEST_QUERY:
        start = int(frame.offsets[largest])
        raise DataError(
            f"query {frame.queries[start]} has {size} rows, expected at most {LARGEST_QUERY}",
            row=start + 1,
            fix="keep fewer candidates a query, or check that the query column is the right one",
        )


def _check_finite(frame: RankingFrame) -> None:
    infinite: NDArray[np.bool_] = np.isinf(frame.features)
    row = _first(np.asarray(infinite.any(axis=1)))
    if row is not None:
        column = int(np.argmax(infinite[row]))
        raise DataError(
            f"feature is {frame.features[row, column]}, expected a finite number or missing",
            column=frame.feature_names[column],
            row=row + 1,
            fix="look for a division by zero or a logarithm of zero where the feature is made",
        )


def _check_varies(frame: RankingFrame) -> None:
    features = frame.features
    same = (features == features[0]) | (np.isnan(features) & np.isnan(features[0]))
    if same.all():
        raise DataError(
            f"all {len(frame.feature_names)} features are constant, expected at least one that varies",
            fix="check that the features were joined on the right key",
        )


def _check_weights(frame: RankingFrame) -> None:
    weights = frame.query_weights
    if weights is None:
        return
    query = _first(np.asarray(~np.isfinite(weights) | (weights < 0)))
    if query is not None:
        start = int(frame.offsets[query])
        raise DataError(
            f"query {frame.queries[start]} has weight {weights[query]:g}, expected a finite number from 0",
            row=start + 1,
            fix="check the weight column",
        )
    if not weights.any():
        raise DataError(
            "all query weights are 0, expected at least one above 0", fix="check the weight column"
        )


def _first(mask: BoolArray) -> int | None:
    return int(np.argmax(mask)) if mask.any() else None


def _name_at(names: Sequence[str], position: int) -> str:
    return repr(names[position]) if position < len(names) else "nothing"


def _likely_cause(got: Sequence[str], expected: Sequence[str]) -> str:
    if sorted(got) == sorted(expected):
        return "the names are the same in another order: build the frame with the config of the training"
    if set(got) < set(expected):
        return "features are missing: add the modality or column that the training had, or train again"
    if set(got) > set(expected):
        return "features are new: build the frame with the config of the training, or train again"
    return "the frame comes from another config or another encoder: use those of the training, or train again"
