from __future__ import annotations

from itertools import pairwise
from math import log2

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Success, nDCG

from features.errors import DataError
from rankers.metrics import (
    METRICS,
    average_precision,
    hit_rate,
    mean_of,
    ndcg,
    precision,
    rank_order,
    recall,
    reciprocal_rank,
)

every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)

# Ranked by score, the first query reads 0 2 1 0 and the second 1 0.
SCORES = np.array([0.3, 0.9, 0.5, 0.1, 2.0, 1.0])
LABELS = np.array([1, 0, 2, 0, 1, 0], dtype=np.float32)
OFFSETS = np.array([0, 4, 6])


def random_lists(seed: int, n_queries: int = 40, largest_label: int = 3):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 15, n_queries))])
    labels = rng.integers(0, largest_label + 1, offsets[-1]) * (rng.random(offsets[-1]) < 0.5)
    return rng.permutation(offsets[-1]).astype(float), labels.astype(np.float32), offsets


def test_ndcg_by_hand():
    gained, ideal = 3 / log2(3) + 1 / log2(4), 3 + 1 / log2(3)
    np.testing.assert_allclose(ndcg(SCORES, LABELS, OFFSETS), [gained / ideal, 1])


def test_ndcg_at_k_by_hand():
    np.testing.assert_allclose(ndcg(SCORES, LABELS, OFFSETS, k=2), [(3 / log2(3)) / (3 + 1 / log2(3)), 1])
    np.testing.assert_allclose(ndcg(SCORES, LABELS, OFFSETS, k=1), [0, 1])


def test_ndcg_relevant_items_not_retrieved_lower_it():
    labels = np.minimum(LABELS, 1)
    totals = np.array([4, 1])
    gained = 1 / log2(3) + 1 / log2(4)
    whole = 1 + 1 / log2(3) + 1 / log2(4) + 1 / log2(5)
    np.testing.assert_allclose(ndcg(SCORES, labels, OFFSETS, total_relevant=totals), [gained / whole, 1])
    of_two = (1 / log2(3)) / (1 + 1 / log2(3))
    np.testing.assert_allclose(ndcg(SCORES, labels, OFFSETS, k=2, total_relevant=totals), [of_two, 1])


def test_average_precision_by_hand():
    np.testing.assert_allclose(average_precision(SCORES, LABELS, OFFSETS), [(1 / 2 + 2 / 3) / 2, 1])
    np.testing.assert_allclose(average_precision(SCORES, LABELS, OFFSETS, k=2), [(1 / 2) / 2, 1])


def test_reciprocal_rank_by_hand():
    np.testing.assert_allclose(reciprocal_rank(SCORES, LABELS, OFFSETS), [1 / 2, 1])
    np.testing.assert_allclose(reciprocal_rank(SCORES, LABELS, OFFSETS, k=1), [0, 1])


def test_recall_by_hand():
    np.testing.assert_allclose(recall(SCORES, LABELS, OFFSETS, k=2), [1 / 2, 1])
    np.testing.assert_allclose(recall(SCORES, LABELS, OFFSETS), [1, 1])
    binary, totals = np.minimum(LABELS, 1), np.array([8, 2])
    np.testing.assert_allclose(recall(SCORES, binary, OFFSETS, total_relevant=totals), [2 / 8, 1 / 2])


def test_precision_by_hand():
    np.testing.assert_allclose(precision(SCORES, LABELS, OFFSETS, k=3), [2 / 3, 1 / 3])
    np.testing.assert_allclose(precision(SCORES, LABELS, OFFSETS), [2 / 4, 1 / 2])


def test_hit_rate_by_hand():
    np.testing.assert_allclose(hit_rate(SCORES, LABELS, OFFSETS, k=1), [0, 1])
    np.testing.assert_allclose(hit_rate(SCORES, LABELS, OFFSETS, k=2), [1, 1])


@every_metric
def test_metric_query_without_relevant_item_or_row_is_nan(metric):
    scores, labels, offsets = np.array([1.0, 2.0, 3.0]), np.array([0, 0, 1.0]), np.array([0, 2, 2, 3])
    np.testing.assert_array_equal(np.isnan(metric(scores, labels, offsets, k=1)), [True, True, False])


@every_metric
def test_metric_relevant_items_but_none_retrieved_is_zero(metric):
    values = metric(np.array([1.0, 2.0]), np.zeros(2), np.array([0, 2, 2]), total_relevant=np.array([3, 1]))
    np.testing.assert_array_equal(values, [0, 0])


@every_metric
def test_metric_no_query_gives_no_value(metric):
    assert metric(np.zeros(0), np.zeros(0), np.zeros(1, dtype=np.int64), k=5).shape == (0,)


@every_metric
def test_metric_total_below_the_relevant_rows_raises(metric):
    with pytest.raises(DataError, match="query number 0 has 2 relevant rows but total_relevant says 1"):
        metric(SCORES, np.minimum(LABELS, 1), OFFSETS, total_relevant=np.array([1, 1]))


@every_metric
def test_metric_total_with_graded_labels_raises(metric):
    with pytest.raises(DataError, match="graded labels"):
        metric(SCORES, LABELS, OFFSETS, total_relevant=np.array([2, 1]))


@every_metric
def test_metric_impossible_arguments_raise(metric):
    with pytest.raises(ValueError, match="k: got 0"):
        metric(SCORES, LABELS, OFFSETS, k=0)
    with pytest.raises(ValueError, match="5 scores and 6 labels"):
        metric(SCORES[:5], LABELS, OFFSETS)
    with pytest.raises(ValueError, match="1 values for 2 queries"):
        metric(SCORES, LABELS, OFFSETS, total_relevant=np.array([1]))


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_ir_measures(seed, k):
    scores, labels, offsets = random_lists(seed)
    oracle = {
        nDCG(gains={1: 1, 2: 3, 3: 7}) @ k: ndcg(scores, labels, offsets, k),
        AP @ k: average_precision(scores, labels, offsets, k),
        AP: average_precision(scores, labels, offsets),
        RR @ k: reciprocal_rank(scores, labels, offsets, k),
        R @ k: recall(scores, labels, offsets, k),
        P @ k: precision(scores, labels, offsets, k),
        Success @ k: hit_rate(scores, labels, offsets, k),
    }
    assert_equal_ir_measures(
        oracle, scores, labels, offsets, unretrieved=np.zeros(len(offsets) - 1, dtype=int)
    )


@pytest.mark.parametrize("k", [2, 10])
def test_metrics_with_unretrieved_relevant_items_equal_ir_measures(k):
    scores, labels, offsets = random_lists(9, largest_label=1)
    unretrieved = np.random.default_rng(0).integers(0, 4, len(offsets) - 1)
    total = np.add.reduceat(labels, offsets[:-1]).astype(np.int64) + unretrieved
    oracle = {
        nDCG @ k: ndcg(scores, labels, offsets, k, total_relevant=total),
        nDCG: ndcg(scores, labels, offsets, total_relevant=total),
        AP @ k: average_precision(scores, labels, offsets, k, total_relevant=total),
        RR @ k: reciprocal_rank(scores, labels, offsets, k, total_relevant=total),
        R @ k: recall(scores, labels, offsets, k, total_relevant=total),
        P @ k: precision(scores, labels, offsets, k, total_relevant=total),
        Success @ k: hit_rate(scores, labels, offsets, k, total_relevant=total),
    }
    assert_equal_ir_measures(oracle, scores, labels, offsets, unretrieved)


def assert_equal_ir_measures(oracle, scores, labels, offsets, unretrieved):
    query = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    run = [
        ir_measures.ScoredDoc(str(q), f"d{i}", s) for i, (q, s) in enumerate(zip(query, scores, strict=True))
    ]
    truth = [
        ir_measures.Qrel(str(q), f"d{i}", int(v)) for i, (q, v) in enumerate(zip(query, labels, strict=True))
    ]
    truth += [ir_measures.Qrel(str(q), f"u{i}", 1) for q, n in enumerate(unretrieved) for i in range(n)]
    n_compared = 0
    for value in ir_measures.iter_calc(list(oracle), truth, run):
        ours = oracle[value.measure][int(value.query_id)]
        if np.isnan(ours):
            assert value.value == 0
        else:
            assert ours == pytest.approx(value.value, abs=1e-6)
            n_compared += 1
    assert n_compared > 20 * len(oracle)


@every_metric
@given(seed=st.integers(0, 1000), k=st.none() | st.integers(1, 12))
def test_metric_without_ties_rows_in_another_order_same_values(metric, seed, k):
    scores, labels, offsets = random_lists(seed, n_queries=8)
    query = np.repeat(np.arange(8), np.diff(offsets))
    rows = np.lexsort((np.random.default_rng(seed).random(len(query)), query))
    np.testing.assert_array_equal(
        metric(scores[rows], labels[rows], offsets, k), metric(scores, labels, offsets, k)
    )


@every_metric
@given(seed=st.integers(0, 1000), k=st.none() | st.integers(1, 12))
def test_metric_monotone_transform_of_the_scores_same_values(metric, seed, k):
    scores, labels, offsets = random_lists(seed, n_queries=8)
    np.testing.assert_array_equal(
        metric(np.exp(scores / 50) - 7, labels, offsets, k), metric(scores, labels, offsets, k)
    )


@given(seed=st.integers(0, 1000), k=st.none() | st.integers(1, 12))
def test_metrics_perfect_order_is_one(seed, k):
    _, labels, offsets = random_lists(seed, n_queries=8)
    for metric in (ndcg, reciprocal_rank, hit_rate):
        values = metric(labels.astype(float), labels, offsets, k)
        np.testing.assert_array_equal(values[~np.isnan(values)], 1)
    values = average_precision(labels.astype(float), labels, offsets)
    np.testing.assert_allclose(values[~np.isnan(values)], 1, rtol=1e-12)


@every_metric
@given(seed=st.integers(0, 1000), k=st.none() | st.integers(1, 12))
def test_metric_is_within_zero_and_one(metric, seed, k):
    values = metric(*random_lists(seed, n_queries=8), k)
    values = values[~np.isnan(values)]
    assert (values >= 0).all()
    assert (values <= 1).all()


def test_rank_order_by_hand():
    np.testing.assert_array_equal(rank_order(SCORES, OFFSETS), [1, 2, 0, 3, 4, 5])


def test_rank_order_nan_comes_last_even_after_minus_infinity():
    scores = np.array([np.nan, -np.inf, np.inf, 0.0])
    np.testing.assert_array_equal(rank_order(scores, np.array([0, 4])), [2, 3, 1, 0])


def test_rank_order_queries_of_many_sizes_each_keep_their_rows():
    scores, _, offsets = random_lists(4)
    expected = [start + np.argsort(-scores[start:end]) for start, end in pairwise(offsets)]
    np.testing.assert_array_equal(rank_order(scores, offsets), np.concatenate(expected))


def test_rank_order_ties_same_seed_same_order_and_other_seed_other_order():
    ties, offsets = np.zeros(50), np.array([0, 20, 50])
    np.testing.assert_array_equal(rank_order(ties, offsets, 3), rank_order(ties, offsets, 3))
    assert not np.array_equal(rank_order(ties, offsets, 3), rank_order(ties, offsets, 4))
    assert not np.array_equal(rank_order(ties, offsets, 3), np.arange(50))


@pytest.mark.parametrize("score", [0.0, np.nan], ids=["ties", "NaN"])
def test_rank_order_of_no_information_earns_nothing_from_row_order(score):
    n, size = 4000, 10
    labels = np.tile([1.0] + [0.0] * (size - 1), n)
    values = reciprocal_rank(np.full(n * size, score), labels, np.arange(n + 1) * size)
    assert values.mean() == pytest.approx((1 / np.arange(1, size + 1)).mean(), abs=0.02)


def test_mean_of_leaves_out_nan_and_counts_it():
    assert mean_of(np.array([1.0, np.nan, 0.0, np.nan])) == (0.5, 2, 2)


def test_mean_of_nothing_is_nan():
    mean, n_counted, n_left_out = mean_of(np.array([np.nan]))
    assert np.isnan(mean)
    assert (n_counted, n_left_out) == (0, 1)
