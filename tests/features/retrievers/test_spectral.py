from __future__ import annotations

import numpy as np
import pytest

from features.history import History
from features.retrievers import ProjectionRetriever, fit_behaviour
from tests.features.planted import block_history, history_of
from tests.features.retrievers.world import EVERYBODY, N_USERS, N_WARM, fitted, history, world


def spectral(of: History | None = None, **params: float) -> ProjectionRetriever:
    retriever = fit_behaviour("spectral", of or history(), params)
    assert isinstance(retriever, ProjectionRetriever)
    return retriever


def uneven() -> History:
    """Return likes of 30 users, some of whom like most of the 20 items and some few."""
    rng = np.random.default_rng(4)
    likes = rng.random((30, 20)) < rng.uniform(0.15, 0.9, size=(30, 1))
    rows = [(int(user), int(item), 1.0, 0) for user, item in np.argwhere(likes)]
    return history_of(rows, 30, 20)


def reference(x: np.ndarray, factors: int, damping: float, user_damping: float) -> np.ndarray:
    """Score by the dense decomposition, up to the scales, which cancel."""
    item, user = x.sum(axis=0) ** -damping, x.sum(axis=1) ** -user_damping
    _, _, v = np.linalg.svd(user[:, None] * x * item)
    filtered = v[:factors].T @ v[:factors]
    return (x * item) @ filtered / item


@pytest.mark.parametrize(("damping", "user_damping"), [(0.5, 0.5), (0.25, 0.0), (0.0, 0.3)])
@pytest.mark.parametrize("factors", [3, 5])
def test_spectral_equals_the_dense_reference(damping, user_damping, factors):
    of = uneven()
    x = of.liked.toarray().astype(np.float64)
    got = spectral(of, factors=factors, damping=damping, user_damping=user_damping)
    scores = got.scores(of, np.arange(of.n_users))
    np.testing.assert_allclose(scores, reference(x, factors, damping, user_damping), rtol=1e-3, atol=1e-5)


def test_spectral_more_factors_than_there_are_gives_the_likes_back():
    # All directions of the likes are kept, and none of the others, which would be arbitrary.
    scores = spectral(factors=500).scores(history(), np.arange(N_USERS))
    np.testing.assert_allclose(scores[:, :N_WARM], history().liked.toarray()[:, :N_WARM], atol=1e-4)


def test_spectral_seed_does_not_matter():
    other = fit_behaviour("spectral", history(), {"factors": 4}, seed=7)
    np.testing.assert_allclose(
        other.scores(world(), EVERYBODY),
        spectral(factors=4).scores(world(), EVERYBODY),
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize(("factors", "kept"), [(1, 1), (2, 1), (3, 3)])
def test_spectral_equal_values_are_cut_together(factors, kept):
    # Blocks of users who like all items of the block; the first is the largest, the others are alike.
    users, items = [range(5), range(5, 9), range(9, 13)], [range(12), range(12, 22), range(22, 32)]
    rows = [(u, i, 1.0, 0) for b in range(3) for u in users[b] for i in items[b]]
    got = spectral(history_of(rows, 13, 32), factors=factors, damping=0, user_damping=0)
    assert got.source.shape == (32, kept)


def test_spectral_items_with_few_likes_are_unknown():
    rows = [(0, 4, 1.0, 9), (1, 5, 1.0, 9), (2, 5, 1.0, 9)]
    blocks = block_history(6, 2, 2)
    of = history_of([*zip(blocks.users, blocks.items, blocks.labels, blocks.times, strict=True), *rows], 6, 6)
    np.testing.assert_array_equal(spectral(of, min_likes=2).known, of.popularity >= 2)
    assert spectral(of, min_likes=2).known.sum() == 5
    assert not spectral(of, min_likes=100).known.any()
    assert np.isnan(spectral(of, min_likes=100).scores(of, np.arange(6))).all()


def test_fitted_spectral_is_in_the_behaviour_block():
    assert (fitted("spectral").name, fitted("spectral").block) == ("spectral", "behaviour")
