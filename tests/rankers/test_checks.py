"""What the contract suite does not show: places, causes, and what is accepted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.errors import DataError
from rankers.checks import check_scorable, check_trainable, fitted, has_contrast
from tests.rankers.planted import planted_frame, with_feature, with_labels

FRAME = planted_frame(4, 5)
NAMES = FRAME.feature_names


def test_check_trainable_planted_frame_passes():
    check_trainable(FRAME)


def test_check_trainable_bad_label_names_column_row_and_fix():
    labels = FRAME.labels.copy()
    labels[7] = -2
    with pytest.raises(DataError) as caught:
        check_trainable(with_labels(FRAME, labels))
    assert (caught.value.column, caught.value.row) == ("label", 8)
    assert "shift the labels" in caught.value.fix


def test_check_trainable_infinite_label_raises():
    labels = FRAME.labels.copy()
    labels[0] = np.inf
    with pytest.raises(DataError, match="label inf is above 30"):
        check_trainable(with_labels(FRAME, labels))


def test_check_trainable_query_of_10_000_rows_passes():
    rows = np.repeat(np.arange(2), [10_000, 2])
    check_trainable(
        replace(
            FRAME,
            features=np.random.default_rng(0).random((10_002, 4)).astype(np.float32),
            labels=(np.arange(10_002) % 2).astype(np.float32),
            queries=rows,
            items=np.arange(10_002),
            present=np.ones((10_002, 1), dtype=bool),
        )
    )


def test_check_trainable_feature_that_varies_by_missing_only_passes():
    constant = replace(FRAME, features=np.ones_like(FRAME.features))
    check_trainable(with_feature(constant, 3, 1, np.nan))


@pytest.mark.parametrize("weight", [np.nan, -1.0, np.inf])
def test_check_trainable_bad_weight_raises(weight):
    weights = np.array([1, 1, weight, 1], dtype=np.float32)
    with pytest.raises(DataError, match=f"query {FRAME.queries[10]} has weight {weight:g}") as caught:
        check_trainable(replace(FRAME, query_weights=weights))
    assert caught.value.row == 11


def test_check_trainable_all_weights_zero_raises():
    with pytest.raises(DataError, match="all query weights are 0"):
        check_trainable(replace(FRAME, query_weights=np.zeros(4, dtype=np.float32)))


def test_check_scorable_same_names_passes():
    check_scorable(FRAME, NAMES)


@pytest.mark.parametrize(
    ("expected", "difference", "cause"),
    [
        (("helper", "signal", *NAMES[2:]), "number 1: got 'signal', expected 'helper'", "another order"),
        ((*NAMES, "extra"), "number 5: got nothing, expected 'extra'", "features are missing"),
        (NAMES[:3], "number 4: got 'noise_b', expected nothing", "features are new"),
        ((*NAMES[:3], "other"), "number 4: got 'noise_b', expected 'other'", "another config"),
    ],
)
def test_check_scorable_other_names_tells_counts_difference_and_cause(expected, difference, cause):
    with pytest.raises(DataError) as caught:
        check_scorable(FRAME, expected)
    assert f"got 4 features, expected the {len(expected)} of the training" in caught.value.problem
    assert difference in caught.value.problem
    assert cause in caught.value.fix


def test_check_scorable_infinite_feature_names_feature_and_row():
    with pytest.raises(DataError) as caught:
        check_scorable(with_feature(FRAME, 6, 3, np.inf), NAMES)
    assert (caught.value.column, caught.value.row) == ("noise_b", 7)


def test_has_contrast_tells_queries_with_two_labels():
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 2, 1, 2, 2, 2])
    np.testing.assert_array_equal(has_contrast(with_labels(FRAME, labels)), [False, False, True, True])


def test_has_contrast_empty_frame_is_empty():
    assert has_contrast(FRAME.take_rows(np.zeros(20, dtype=bool))).shape == (0,)


def test_fitted_returns_what_was_learned_or_raises():
    assert fitted(0, "any") == 0
    with pytest.raises(DataError, match="this any ranker is not fitted"):
        fitted(None, "any")
