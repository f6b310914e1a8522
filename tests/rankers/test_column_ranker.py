from __future__ import annotations

import numpy as np
import pytest

from features.errors import DataError
from rankers import ColumnRanker, load_ranker
from tests.rankers.planted import planted_frame, with_feature

FRAME = with_feature(planted_frame(4, 5), 3, 1, np.nan)


def test_column_ranker_scores_with_the_column_and_keeps_missing():
    scores = ColumnRanker("helper").fit(FRAME).score(FRAME)
    assert scores.dtype == np.float64
    assert np.isnan(scores[3])
    np.testing.assert_array_equal(scores, FRAME.features[:, 1])


def test_column_ranker_reloads_through_the_registry(tmp_path):
    ranker = ColumnRanker("signal").fit(FRAME)
    ranker.save(tmp_path)
    assert load_ranker(tmp_path) == ranker


def test_column_ranker_unknown_feature_raises():
    with pytest.raises(DataError, match="got no feature 'other' among 4"):
        ColumnRanker("other").fit(FRAME)
