from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensembles.greedy import GreedySelection
from features.per_query import z_scores
from tests.ensembles.planted import complementary


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


def test_greedy_seed_decides_and_threads_do_not() -> None:
    frame = complementary(60, 0, missing=0.3)
    first, again, other = (
        GreedySelection(seed=seed, threads=threads).fit(frame).weights_
        for seed, threads in ((0, 1), (0, 3), (1, 1))
    )
    assert first == again
    assert first != other
