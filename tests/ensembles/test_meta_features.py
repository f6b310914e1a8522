from __future__ import annotations

from dataclasses import replace

import numpy as np

from ensembles.meta_features import list_ranks, normalised_features, opinions_per_query
from features.per_query import weighted_sum
from tests.ensembles.planted import complementary, from_lists, shuffle_within_queries

NAN = np.nan
ONE = np.array([0, 4])


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_list_ranks_full_opinions_are_plain_ranks() -> None:
    np.testing.assert_array_equal(list_ranks(column(7.0, 2.0, 7.0, 9.0), ONE)[:, 0], [2.5, 4.0, 2.5, 1.0])


def test_list_ranks_few_opinions_are_stretched() -> None:
    ranks = list_ranks(column(7.0, NAN, 2.0, NAN), ONE)[:, 0]
    np.testing.assert_array_equal(ranks, [1.5, NAN, 3.5, NAN])


def test_list_ranks_single_opinion_is_in_the_middle() -> None:
    np.testing.assert_array_equal(list_ranks(column(NAN, 3.0, NAN, NAN), ONE)[:, 0], [NAN, 2.5, NAN, NAN])


def test_opinions_per_query_counts_each_base() -> None:
    scores = np.array([[1.0, NAN], [NAN, NAN], [2.0, 3.0]])
    np.testing.assert_array_equal(
        opinions_per_query(scores, np.array([0, 2, 2, 3])), [[1, 0], [0, 0], [1, 1]]
    )


def test_weighted_sum_any_memory_layout_gives_the_same_bits() -> None:
    matrix = np.random.default_rng(0).normal(size=(40, 13))
    weights = np.random.default_rng(1).normal(size=13)
    whole = weighted_sum(zip(weights, matrix.T, strict=True), 40)
    part = weighted_sum(zip(weights, np.asfortranarray(matrix[3:4]).T, strict=True), 1)
    np.testing.assert_array_equal(part, whole[3:4])
    np.testing.assert_allclose(whole, matrix @ weights)


def test_normalised_features_hand_computed() -> None:
    frame = from_lists([[[1.0, 4.0], [3.0, NAN], [NAN, NAN]]])
    matrix, names = normalised_features(frame)
    features = dict(zip(names, matrix.T, strict=True))
    np.testing.assert_allclose(features["base0:z"], [-1.0, 1.0, NAN])
    np.testing.assert_allclose(features["base0:to_best"], [-2.0, 0.0, NAN])
    np.testing.assert_allclose(features["base1:rank"], [1.0, NAN, NAN])
    np.testing.assert_array_equal(features["opinions"], [2.0, 1.0, 0.0])
    np.testing.assert_allclose(features["disagreement"], [0.25, 0.0, 0.0])


def test_normalised_features_carry_presence_and_context() -> None:
    frame = complementary(5, 0, missing=0.5)
    matrix, names = normalised_features(frame)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix[:, names.index("present:image")], frame.present[:, 1])
    np.testing.assert_array_equal(matrix[:, names.index("context:activity")], frame.context[:, 0])


def test_normalised_features_query_alone_and_shuffled_give_the_same_bits() -> None:
    frame = complementary(20, 3, missing=0.4, noise_base=True)
    matrix, _ = normalised_features(frame)
    alone, _ = normalised_features(frame.take_queries(np.array([7])))
    np.testing.assert_array_equal(alone, matrix[frame.offsets[7] : frame.offsets[8]])
    shuffled, rows = shuffle_within_queries(frame, 0)
    np.testing.assert_array_equal(normalised_features(shuffled)[0], matrix[rows])


def test_normalised_features_any_scale_of_a_base_gives_the_same_values() -> None:
    frame = complementary(10, 4)
    scaled = replace(frame, scores=frame.scores * np.array([1000.0, 0.001]) + 7.0)
    np.testing.assert_allclose(
        normalised_features(scaled)[0], normalised_features(frame)[0], rtol=1e-4, atol=1e-5
    )
