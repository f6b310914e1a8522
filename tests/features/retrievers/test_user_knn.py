from __future__ import annotations

import numpy as np
import pytest

from features.history import History
from features.retrievers import UserKnnRetriever, fit_behaviour, user_knn
from tests.features.planted import history_of
from tests.features.retrievers.world import EVERYBODY, N_ITEMS, N_USERS, history, world


def fitted_knn(of: History, **params: float) -> UserKnnRetriever:
    retriever = fit_behaviour("user_knn", of, params)
    assert isinstance(retriever, UserKnnRetriever)
    return retriever


def reference(likes: np.ndarray, fitted: np.ndarray, neighbours: int, damping: float) -> np.ndarray:
    """Look at all users one by one; those who tie with the last neighbour are neighbours too."""
    degree = fitted.sum(axis=0)
    weight = np.where(degree > 0, np.maximum(degree, 1) ** -damping, 0)
    scores = np.full((len(likes), len(degree)), np.nan)
    for row, mine in enumerate(likes * weight):
        if not mine.any():
            continue
        cosines = []
        for theirs in fitted * weight:
            cosines.append(mine @ theirs / (np.linalg.norm(mine) * np.linalg.norm(theirs)))
        least = np.sort(cosines)[-min(neighbours, len(cosines))]
        taken = np.array(cosines) * (np.array(cosines) >= least - 1e-9)
        scores[row, degree > 0] = (taken @ fitted)[degree > 0]
    return scores


@pytest.mark.parametrize(("neighbours", "damping"), [(1, 0.5), (3, 0.0), (12, 0.3), (500, 0.5)])
def test_user_knn_equals_brute_force(neighbours, damping):
    got = fitted_knn(history(), neighbours=neighbours, damping=damping).scores(world(), EVERYBODY)
    likes, fitted = (of.liked.toarray().astype(np.float64) for of in (world(), history()))
    np.testing.assert_allclose(got, reference(likes, fitted, neighbours, damping), rtol=1e-5, atol=1e-6)


def test_user_knn_equally_near_users_all_count():
    rows = [(0, 0, 1.0, 0), (1, 0, 1.0, 0), (1, 1, 1.0, 0), (2, 0, 1.0, 0), (2, 2, 1.0, 0)]
    of = history_of(rows, 3, 3)
    scores = fitted_knn(of, neighbours=2, damping=0).scores(of, np.array([0]))
    np.testing.assert_allclose(scores, [[1 + 2**0.5, 2**-0.5, 2**-0.5]], rtol=1e-6)


def test_user_knn_size_of_the_chunks_does_not_matter(monkeypatch):
    whole = fitted_knn(history()).scores(world(), EVERYBODY)
    monkeypatch.setattr(user_knn, "CHUNK_CELLS", 7 * N_USERS)
    np.testing.assert_array_equal(fitted_knn(history()).scores(world(), EVERYBODY), whole)


def test_user_knn_users_without_likes_are_not_kept():
    assert fitted_knn(world()).fitted.shape == (N_USERS + 2, N_ITEMS)


def test_user_knn_nobody_likes_anything_has_no_opinion():
    nothing = history_of([(0, 1, 0.0, 0)], 2, 3)
    assert np.isnan(fitted_knn(nothing).scores(nothing, np.arange(2))).all()
