"""The median of scores on one scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensembles import MedianScore, load_meta
from ensembles.score_frame import ScoreFrame
from features.errors import DataError
from tests.ensembles.planted import complementary, from_lists

NAN = np.nan


def frame(missing: float = 0.0) -> ScoreFrame:
    return complementary(40, 0, noise_base=True, missing=missing)


def test_median_score_hand_computed() -> None:
    lists = from_lists([[[4.0, 10.0], [2.0, 30.0]], [[0.0, 20.0], [2.0, 20.0]]], labels=[[1, 0], [1, 0]])
    scale = np.array([np.std([4, 2, 0, 2]), np.std([10, 30, 20, 20])])
    expected = ((lists.scores - [2, 20]) / scale).mean(axis=1)
    np.testing.assert_allclose(MedianScore(2).fit(lists).score(lists), expected)


def test_median_score_is_that_of_the_opinions_there_are() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(10, 6, 5))
    scores[:, 1:, :4][rng.random((10, 5, 4)) < 0.4] = NAN
    lists = from_lists(scores.tolist(), labels=np.eye(6)[rng.integers(0, 6, 10)].tolist())
    meta = MedianScore(5).fit(lists)
    told = np.column_stack([lists.scores[:, lists.bases.index(base)] for base in meta.bases_])
    expected = np.nanmedian((told - meta.centre_) / meta.scale_, axis=1)
    np.testing.assert_allclose(meta.score(lists), expected)


def test_median_score_compares_between_queries() -> None:
    lists = from_lists([[[9.0], [8.0]], [[1.0], [0.0]]], labels=[[1, 0], [1, 0]])
    scores = MedianScore(2).fit(lists).score(lists)
    assert scores[1] > scores[2], (
        "the worst of a query that all suit is above the best of one that none suits"
    )


def test_median_score_reads_the_best_bases_alone() -> None:
    meta = MedianScore(5, best=2).fit(frame())
    assert set(meta.bases_used()) == {"text", "image"}
    other = frame()
    other.scores[:, other.bases.index("noise")] = 7.0
    np.testing.assert_array_equal(meta.score(other), meta.score(frame()))


def test_median_score_missing_opinion_is_no_penalty() -> None:
    told = frame(missing=0.4)
    meta = MedianScore(5, best=2).fit(told)
    scores = meta.score(told)
    image, text = (told.scores[:, told.bases.index(name)] for name in ("image", "text"))
    at = meta.bases_.index("text")
    alone = np.isnan(image)
    assert alone.any() and np.isfinite(scores).all()
    np.testing.assert_allclose(scores[alone], ((text - meta.centre_[at]) / meta.scale_[at])[alone])


def test_median_score_of_a_constant_or_silent_base_is_finite() -> None:
    lists = from_lists([[[1.0, 5.0, NAN], [2.0, 5.0, NAN]]], labels=[[0, 1]])
    assert np.isfinite(MedianScore(2).fit(lists).score(lists)).all()


def test_median_score_of_a_row_does_not_depend_on_the_others() -> None:
    whole = frame()
    meta = MedianScore(5).fit(whole)
    part = whole.take_queries(np.arange(7, 9))
    start, stop = whole.offsets[7], whole.offsets[9]
    np.testing.assert_array_equal(meta.score(part), meta.score(whole)[start:stop])


def test_loaded_median_score_scores_the_same_bits(tmp_path: Path) -> None:
    meta = MedianScore(5, best=2).fit(frame())
    meta.save(tmp_path)
    np.testing.assert_array_equal(load_meta(tmp_path).score(frame()), meta.score(frame()))


def test_median_score_one_base_that_goes_astray_has_little_say() -> None:
    rng = np.random.default_rng(0)
    lists = from_lists(
        rng.normal(size=(20, 6, 5)).tolist(), labels=np.eye(6)[rng.integers(0, 6, 20)].tolist()
    )
    meta = MedianScore(5).fit(lists)
    astray = replace(lists, scores=lists.scores + np.array([1000.0, 0, 0, 0, 0]))
    assert np.abs(meta.score(astray) - meta.score(lists)).max() < 3.0


def test_median_score_says_which_base_it_misses() -> None:
    meta = MedianScore(5).fit(frame())
    with pytest.raises(DataError, match="expected also noise"):
        meta.score(complementary(40, 0))
