from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from rankers.linear_ranker import LinearRanker, Standardiser, sample_pairs
from tests.rankers.planted import planted_frame, with_labels

NAN = np.nan


def test_sample_pairs_few_pairs_are_all_taken_once():
    frame = with_labels(planted_frame(3, 4), [0, 2, 1, 0, 1, 1, 1, 1, 5, 0, 0, 0])
    better, worse, queries = sample_pairs(frame, 100, seed=0)
    pairs = sorted(zip(better.tolist(), worse.tolist(), queries.tolist(), strict=True))
    assert pairs == [(1, 0, 0), (1, 2, 0), (1, 3, 0), (2, 0, 0), (2, 3, 0), (8, 9, 2), (8, 10, 2), (8, 11, 2)]


@given(seed=st.integers(0, 500), cap=st.integers(1, 30))
def test_sample_pairs_better_rows_have_higher_labels_in_the_same_query(seed, cap):
    frame = planted_frame(5, 9, seed=seed)
    better, worse, queries = sample_pairs(frame, cap, seed)
    assert (frame.labels[better] > frame.labels[worse]).all()
    np.testing.assert_array_equal(frame.queries[better], frame.queries[worse])
    np.testing.assert_array_equal(np.searchsorted(frame.offsets, better, side="right") - 1, queries)
    assert np.bincount(queries).max() <= cap


def test_sample_pairs_capped_query_spreads_over_its_better_rows():
    frame = with_labels(planted_frame(2, 40), np.tile(np.repeat([0, 1], 20), 2))
    better, _, _ = sample_pairs(frame, 20, seed=0)
    assert len(np.unique(better)) == 40


def test_sample_pairs_another_seed_another_draw():
    frame = planted_frame(3, 30)
    assert not np.array_equal(sample_pairs(frame, 10, 0)[1], sample_pairs(frame, 10, 1)[1])


def test_standardiser_fills_with_the_median_and_scales():
    features = np.array([[1, NAN], [3, 5], [NAN, 5], [100, 5]], dtype=np.float32)
    standardiser = Standardiser.of(features)
    np.testing.assert_array_equal(standardiser.medians, [3, 5])
    np.testing.assert_array_equal(standardiser.indicators, [0, 1])
    design = standardiser.transform(features)
    np.testing.assert_allclose(design[:, 0].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(design[:, 0].std(), 1)
    assert design[1, 0] == design[2, 0]
    np.testing.assert_array_equal(design[:, 1], 0)
    np.testing.assert_array_equal(design[:, 2:], [[0, 1], [0, 0], [1, 0], [0, 0]])


def test_standardiser_feature_missing_everywhere_becomes_zero():
    standardiser = Standardiser.of(np.full((3, 1), NAN, dtype=np.float32))
    np.testing.assert_array_equal(
        standardiser.transform(np.array([[NAN], [0]], dtype=np.float32))[:, 0], [0, 0]
    )


def test_standardiser_value_missing_only_at_scoring_is_the_median():
    standardiser = Standardiser.of(np.array([[1], [2], [9]], dtype=np.float32))
    design = standardiser.transform(np.array([[2], [NAN]], dtype=np.float32))
    assert design.shape == (2, 1)
    assert design[0, 0] == design[1, 0]


def test_linear_ranker_weights_have_the_planted_signs():
    ranker = LinearRanker().fit(planted_frame(seed=1))
    assert ranker.weights_ is not None
    signal, helper, noise_a, noise_b = ranker.weights_[:4]
    assert signal > helper > 5 * max(abs(noise_a), abs(noise_b))


def test_linear_ranker_missingness_that_tells_the_label_is_used():
    frame = planted_frame(seed=1)
    features = frame.features.copy()
    features[:, 3] = np.where(frame.labels > 1, NAN, 0)
    ranker = LinearRanker().fit(
        type(frame)(features, frame.feature_names, frame.blocks, frame.labels, frame.queries, frame.items)
    )
    assert ranker.weights_ is not None
    assert ranker.weights_[-1] > 1 > 5 * abs(ranker.weights_[-2])


@pytest.mark.parametrize("n_rows", [1, 2, 7, 33])
def test_linear_ranker_score_of_a_row_is_bit_equal_in_any_batch(n_rows):
    rng = np.random.default_rng(0)
    wide = planted_frame(40, 10)
    frame = type(wide)(
        rng.normal(size=(400, 75)).astype(np.float32),
        tuple(f"f{i}" for i in range(75)),
        {"all": tuple(range(75))},
        wide.labels,
        wide.queries,
        wide.items,
    )
    ranker = LinearRanker().fit(frame)
    keep = np.arange(400) < n_rows
    np.testing.assert_array_equal(ranker.score(frame.take_rows(keep)), ranker.score(frame)[:n_rows])


def test_linear_ranker_weights_have_the_same_bits_whatever_the_threads_of_blas():
    differences = np.random.default_rng(0).normal(0.05, 1.0, (20_000, 300))
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(LinearRanker()._solve(differences, None))
    np.testing.assert_array_equal(found[1], found[0])
