from __future__ import annotations

import numpy as np
import pytest

from features.retrievers import FactorRetriever, fit_behaviour
from tests.features.retrievers.world import EVERYBODY, N_USERS, N_WARM, PARAMS, fitted, history, world

ALS = PARAMS["als"]


def als(**more: float) -> FactorRetriever:
    retriever = fit_behaviour("als", history(), {**ALS, **more})
    assert isinstance(retriever, FactorRetriever)
    return retriever


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_als_user_is_the_weighted_ridge_solution(damping):
    # Hu et al. (2008): every item counts with weight 1 as not liked, and a liked one with its confidence.
    retriever = als(damping=damping)
    y = retriever.factors[0].astype(np.float64)
    degree = np.maximum(history().popularity, 1)
    weight = degree**-damping / np.average(degree**-damping, weights=history().popularity)
    liked = world().liked.toarray()[:N_USERS, : len(y)]
    for row, mine in zip(retriever.scores(world(), EVERYBODY)[:5], liked, strict=False):
        confidence = np.where(mine > 0, ALS["alpha"] * weight, 1.0)
        gram = (y.T * confidence) @ y + ALS["regularization"] * np.eye(y.shape[1])
        user = np.linalg.solve(gram, y.T @ (confidence * mine))
        np.testing.assert_allclose(row[:N_WARM], (y @ user)[:N_WARM], rtol=1e-3, atol=1e-4)


def test_als_repeats_are_other_fits_whose_scores_are_averaged():
    single, several = als(), als(repeats=3)
    assert several.factors.shape == (3, *single.factors.shape[1:])
    np.testing.assert_array_equal(several.factors[0], single.factors[0])
    assert not np.allclose(several.factors[1], several.factors[2])
    each = []
    for factors in several.factors:
        one = FactorRetriever(
            "als",
            "behaviour",
            factors[None],
            several.item_weights,
            several.known,
            several.regularization,
            5.0,
        )
        each.append(one.scores(world(), EVERYBODY))
    np.testing.assert_allclose(
        several.scores(world(), EVERYBODY), np.mean(each, axis=0), rtol=1e-5, atol=1e-7
    )


def test_als_vectors_are_the_factors_of_the_first_fit():
    vectors = als(repeats=2).resized(N_WARM + 10).vectors()
    np.testing.assert_array_equal(vectors.vectors[:N_WARM], als().factors[0, :N_WARM])
    np.testing.assert_array_equal(vectors.present, np.arange(N_WARM + 10) < N_WARM)


def test_als_another_seed_is_another_fit():
    other = fit_behaviour("als", history(), ALS, seed=1)
    assert not np.allclose(
        other.scores(world(), EVERYBODY), fitted("als").scores(world(), EVERYBODY), equal_nan=True
    )
