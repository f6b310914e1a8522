from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensembles import greedy
from ensembles.greedy import GreedySelection
from ensembles.meta import mean_ndcg
from features.per_query import z_scores
from tests.ensembles.planted import complementary, from_lists


def test_greedy_weights_are_shares() -> None:
    weights = GreedySelection().fit(complementary(200, 0, noise_base=True)).weights_
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["text"] == pytest.approx(0.5, abs=0.1)
    assert weights.get("noise", 0.0) < 0.05


def test_greedy_perfect_base_is_taken_alone() -> None:
    frame = complementary(100, 0)
    perfect = replace(
        frame, scores=np.column_stack([frame.scores, frame.labels]), bases=(*frame.bases, "perfect")
    )
    meta = GreedySelection().fit(perfect)
    assert meta.weights_ == {"perfect": pytest.approx(1.0)}
    assert meta.bases_used() == ("perfect",)


def test_greedy_one_round_is_the_best_single_base() -> None:
    frame = complementary(200, 0, noise_base=True)
    frame = replace(frame, scores=frame.scores[:, [2, 0]], bases=("noise", "text"))
    assert GreedySelection(rounds=1).fit(frame).weights_ == {"text": pytest.approx(1.0)}


def test_greedy_score_is_the_weighted_mean_of_z_scores() -> None:
    frame = complementary(50, 0)
    meta = GreedySelection().fit(frame)
    expected = z_scores(frame.scores, frame.offsets) @ np.array(list(meta.weights_.values()))
    np.testing.assert_allclose(meta.score(frame), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_compare_mean_ndcg_agrees_with_the_metric(k: int) -> None:
    frame = complementary(60, 0, noise_base=True)
    generator = np.random.default_rng(0)
    frame = replace(
        frame,
        labels=generator.integers(0, 4, len(frame.labels)).astype(np.float32),
        query_weights=generator.uniform(0.5, 2.0, 60).astype(np.float32),
    )
    bag = greedy._compare(frame, k, generator)
    expected = [mean_ndcg(column, frame, k, 0) for column in frame.scores.T]
    np.testing.assert_allclose(bag.mean_ndcg(bag.jitter), expected, rtol=1e-12)


def test_compare_ties_are_broken_at_random_not_by_row() -> None:
    # a constant base with the positive always first: NDCG is that of a random order of 4
    frame = from_lists([[[1.0]] * 4] * 4000, labels=[[1, 0, 0, 0]] * 4000)
    bag = greedy._compare(frame, 10, np.random.default_rng(0))
    expected = np.mean(1.0 / np.log2(np.arange(4) + 2.0))
    assert bag.mean_ndcg(bag.jitter)[0] == pytest.approx(expected, abs=0.02)


def test_draw_bag_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = from_lists([[[1.0]] * 4] * 100, labels=[[1, 0, 0, 0]] * 90 + [[0, 0, 0, 0]] * 10)
    assert len(greedy._draw_bag(frame, 0.5, np.random.default_rng(0))) == 45
    monkeypatch.setattr(greedy, "LARGEST_BAG", 42)
    bag = greedy._draw_bag(frame, 0.5, np.random.default_rng(0))
    assert len(bag) == len(np.unique(bag)) == 10
    monkeypatch.setattr(greedy, "LARGEST_BAG", 1)
    assert len(greedy._draw_bag(frame, 0.5, np.random.default_rng(0))) == 1


def test_greedy_seed_decides() -> None:
    frame = complementary(60, 0, missing=0.3)
    first, again, other = (GreedySelection(seed=seed).fit(frame).weights_ for seed in (0, 0, 1))
    assert first == again
    assert first != other
