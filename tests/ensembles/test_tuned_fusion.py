from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensembles.meta import mean_ndcg
from ensembles.tuned_fusion import TunedFusion
from tests.ensembles.planted import complementary

K = 10


def test_tuned_fusion_weights_are_shares_and_noise_has_next_to_none() -> None:
    weights = TunedFusion(K).fit(complementary(300, 0, noise_base=True)).weights_
    assert sum(map(abs, weights.values())) == pytest.approx(1.0)
    assert abs(weights.get("noise", 0.0)) < 0.1
    assert min(weights["text"], weights["image"]) > 0.25


def test_tuned_fusion_base_that_errs_gets_a_negative_weight() -> None:
    frame = complementary(300, 0)
    rng = np.random.default_rng(1)
    error = rng.normal(size=len(frame.labels))
    biased = frame.labels + 2.0 * error
    told = replace(frame, scores=np.column_stack([biased, error]), bases=("biased", "error"))
    meta = TunedFusion(K).fit(told)
    assert meta.weights_["error"] < -0.2
    assert mean_ndcg(meta.score(told), told, K, 0) > mean_ndcg(biased, told, K, 0) + 0.1


def test_tuned_fusion_perfect_base_is_taken_alone() -> None:
    frame = complementary(100, 0)
    scores = np.column_stack([frame.scores, frame.labels])
    meta = TunedFusion(K).fit(replace(frame, scores=scores, bases=(*frame.bases, "perfect")))
    assert meta.weights_ == {"perfect": 1.0}


def test_tuned_fusion_threads_do_not_decide() -> None:
    frame = complementary(60, 0, missing=0.3)
    first, again = (TunedFusion(seed=0, threads=threads).fit(frame).weights_ for threads in (1, 3))
    assert first == again
