"""The mean of a meta-learner and of the one that a sampler taught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import zscore

from ensembles import Hedge, load_meta
from tests.ensembles.planted import complementary
from tests.ensembles.test_reserve import by_score

FRAME = complementary(20, 0, missing=0.4, sizes=(8, 8))
TEXT, IMAGE = by_score(FRAME, 0), by_score(FRAME, 1)


def test_hedge_is_the_mean_of_the_standard_scores_of_both() -> None:
    both = [zscore(meta.score(FRAME).reshape(20, 8), axis=1).ravel() for meta in (TEXT, IMAGE)]
    np.testing.assert_allclose(Hedge(TEXT, IMAGE).score(FRAME), np.mean(both, axis=0), atol=1e-12)


def test_hedge_of_one_and_the_same_orders_as_it_does() -> None:
    order, alone = (
        np.argsort(meta.score(FRAME).reshape(20, 8), axis=1) for meta in (Hedge(TEXT, TEXT), TEXT)
    )
    np.testing.assert_array_equal(order, alone)


def test_hedge_places_what_neither_knows_below_the_rest() -> None:
    scores = FRAME.scores.copy()
    scores[::8] = np.nan
    lists = Hedge(TEXT, IMAGE).score(replace(FRAME, scores=scores)).reshape(20, 8)
    np.testing.assert_allclose(lists[:, 0], lists[:, 1:].min(axis=1) - 1.0)


def test_hedge_saved_and_loaded_scores_the_same_bits(tmp_path: Path) -> None:
    hedge = Hedge(TEXT, IMAGE)
    hedge.save(tmp_path)
    loaded = load_meta(tmp_path)
    assert isinstance(loaded, Hedge) and loaded.bases_used() == hedge.bases_used() == ("text", "image")
    np.testing.assert_array_equal(loaded.score(FRAME), hedge.score(FRAME))
