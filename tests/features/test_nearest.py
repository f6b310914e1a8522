from __future__ import annotations

import numpy as np
import pytest

from features import nearest as module
from features.item_models import content_knn, unit_rows
from features.nearest import approximately_nearest, exactly_nearest, nearest

N, SIZE = 2000, 20
EVERY = np.arange(N)
both = pytest.mark.parametrize("search", [exactly_nearest, approximately_nearest])


def clustered(n: int = N, seed: int = 0) -> np.ndarray:
    """Return directions about forty centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, 16))
    return unit_rows((centres[np.arange(n) % 40] + 0.5 * rng.normal(size=(n, 16))).astype(np.float32))


def test_approximately_nearest_finds_nine_of_ten_of_the_exact_ones():
    exact, _ = exactly_nearest(clustered(), EVERY, EVERY, SIZE)
    approximate, _ = approximately_nearest(clustered(), EVERY, EVERY, SIZE)
    shared = [len(np.intersect1d(a, b)) for a, b in zip(exact, approximate, strict=True)]
    assert np.mean(shared) / SIZE >= 0.9


@both
def test_nearest_cosines_are_those_of_the_pairs_and_never_of_the_goal_itself(search):
    unit = clustered()
    sources, goals = EVERY[::2], EVERY[::3]
    found, cosines = search(unit, sources, goals, SIZE)
    assert found.shape == cosines.shape == (len(goals), SIZE)
    assert np.isin(found, sources).all()
    assert (found != goals[:, None]).all()
    np.testing.assert_allclose(cosines, (unit[found] * unit[goals][:, None]).sum(axis=2), rtol=1e-4)
    assert all(len(np.unique(row)) == SIZE for row in found)


@both
def test_nearest_again_is_the_same(search):
    for one, other in zip(*(search(clustered(), EVERY, EVERY, SIZE) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one, other)


@both
@pytest.mark.parametrize("n_sources", [1, 3])
def test_nearest_fewer_sources_than_asked_for_leave_empty_places(search, n_sources):
    sources = EVERY[:n_sources]
    found, cosines = search(clustered(), sources, EVERY[:9], n_sources)
    assert (np.isfinite(cosines).sum(axis=1) == n_sources - np.isin(EVERY[:9], sources)).all()
    assert np.isin(found[np.isfinite(cosines)], sources).all()


@pytest.mark.parametrize(("limit", "called"), [(N, "exactly_nearest"), (N - 1, "approximately_nearest")])
def test_nearest_is_approximate_beyond_the_limit_only(limit, called, monkeypatch):
    monkeypatch.setattr(module, "EXACT_ITEMS", limit)
    expected = getattr(module, called)(clustered(), EVERY, EVERY, SIZE)
    other = "exactly_nearest" if called == "approximately_nearest" else "approximately_nearest"
    monkeypatch.delattr(module, other)
    for one, two in zip(nearest(clustered(), EVERY, EVERY, SIZE), expected, strict=True):
        np.testing.assert_array_equal(one, two)


def test_content_knn_approximate_graph_is_as_good(monkeypatch):
    present = EVERY % 7 != 0
    vectors, known = clustered() * present[:, None] * 3, EVERY % 5 != 0
    exact = content_knn(vectors, present, known, neighbours=SIZE)
    monkeypatch.setattr(module, "EXACT_ITEMS", 100)
    approximate = content_knn(vectors, present, known, neighbours=SIZE)
    kept = (exact != 0).multiply(approximate != 0).sum() / exact.nnz
    assert kept >= 0.9
    assert not approximate.toarray()[~(present & known)].any()
    assert not approximate.diagonal().any()
