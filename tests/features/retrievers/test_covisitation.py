from __future__ import annotations

import numpy as np
import pytest

from features.history import History
from features.retrievers import CovisitationRetriever, fit_behaviour
from tests.features.planted import history_of


def sequences(*items: list[int], n_items: int = 6) -> History:
    """Return users who like items one after the other."""
    rows = [(user, item, 1.0, time) for user, of in enumerate(items) for time, item in enumerate(of)]
    return history_of(rows, len(items), n_items)


def fitted(of: History, **params: float) -> CovisitationRetriever:
    retriever = fit_behaviour("covisitation", of, params)
    assert isinstance(retriever, CovisitationRetriever)
    return retriever


def test_covisitation_weights_are_of_the_pairs_in_the_window_forward():
    weights = fitted(sequences([0, 1, 2, 3], [1, 2]), window=2, beta=0).weights.toarray()
    expected = np.zeros((6, 6))
    expected[0, 1], expected[1, 2], expected[2, 3] = 1, 2, 1
    expected[0, 2], expected[1, 3] = 0.5, 0.5
    np.testing.assert_allclose(weights, expected)


def test_covisitation_beta_damps_popular_items():
    of = sequences([0, 1, 2, 3], [1, 2])
    plain, damped = (fitted(of, beta=beta).weights.toarray() for beta in (0, 0.5))
    np.testing.assert_allclose(damped, plain / np.sqrt(np.maximum(of.popularity, 1)), rtol=1e-6)


def test_covisitation_scores_sum_over_the_last_items_by_their_place():
    retriever = fitted(sequences([0, 3], [1, 4], [2, 5]), beta=0, last=2)
    scores = retriever.scores(sequences([0, 1, 2], [2, 1, 0]), np.array([0, 1]))
    np.testing.assert_allclose(scores, [[0, 0, 0, 0, 0.5, 1], [0, 0, 0, 1, 0.5, 0]])


def test_covisitation_unknown_items_are_passed_over():
    retriever = fitted(sequences([0, 3], [1, 4]), beta=0, last=2)
    scores = retriever.scores(sequences([0, 2, 5, 1, 5, 2]), np.array([0]))
    np.testing.assert_allclose(scores[0, [0, 1, 3, 4]], [0, 0, 0.5, 1])
    assert np.isnan(scores[0, [2, 5]]).all()


def test_covisitation_keeps_the_strongest_of_every_item():
    of = sequences([0, 1], [2, 1], [2, 1], [3, 1])
    weights = fitted(of, neighbours=1).weights.toarray()
    np.testing.assert_array_equal(np.flatnonzero(weights[:, 1]), [2])


@pytest.mark.parametrize("seed", range(3))
def test_covisitation_likes_of_one_moment_do_not_depend_on_the_rows(seed):
    rows = [(user, item, 1.0, 0) for user in range(2) for item in range(6)]
    order = np.random.default_rng(seed).permutation(len(rows))
    weights = fitted(history_of(rows, 2, 6)).weights.toarray()
    np.testing.assert_array_equal(
        fitted(history_of([rows[i] for i in order], 2, 6)).weights.toarray(), weights
    )
    assert not np.array_equal(weights, np.triu(weights))
