from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from features import nearest as module
from features.item_models import content_knn, unit_rows
from features.nearest import approximately_nearest, exactly_nearest, nearest, nearest_by_terms

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


def documents(n: int = 300, n_terms: int = 400, seed: int = 0) -> sparse.csr_array:
    """Return bags of terms of unit length; the first terms are in most of them."""
    rng = np.random.default_rng(seed)
    share = np.maximum(0.9 / (1 + np.arange(n_terms)), 0.01)
    rows = rng.random((n, n_terms)) * (rng.random((n, n_terms)) < share)
    return sparse.csr_array(unit_rows(rows.astype(np.float32)))


def test_nearest_by_terms_are_those_of_the_same_rows_in_full():
    rows, sources, goals = documents(), np.arange(0, 300, 2), np.arange(0, 300, 3)
    found, cosines = nearest(rows, sources, goals, SIZE)
    expected, exact = exactly_nearest(rows.toarray(), sources, goals, SIZE)
    np.testing.assert_allclose(np.sort(np.maximum(cosines, 0)), np.sort(exact), rtol=1e-4, atol=1e-6)
    order, place = np.argsort(-cosines, axis=1), np.argsort(-exact, axis=1)
    same = np.take_along_axis(found, order, axis=1) == np.take_along_axis(expected, place, axis=1)
    assert same.mean() > 0.99, "but for ties"


def test_nearest_by_terms_a_row_that_shares_no_term_is_no_neighbour():
    rows = sparse.csr_array(np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1], [0, 0, 0]], dtype=np.float32))
    found, cosines = nearest_by_terms(rows, np.arange(3), np.arange(4), 2)
    np.testing.assert_allclose(cosines[:, 0], [0.6, 0.6, -np.inf, -np.inf], rtol=1e-6)
    assert found[:2, 0].tolist() == [1, 0]
    assert np.isinf(cosines[:, 1]).all()


def test_nearest_by_terms_of_very_many_leaves_out_what_most_rows_share(monkeypatch):
    rows = documents()
    monkeypatch.setattr(module, "EXACT_ITEMS", 100)
    frequent = np.bincount(rows.indices, minlength=rows.shape[1]).astype(float)
    rarest = np.argsort(frequent, kind="stable")
    kept = np.zeros(len(frequent), dtype=np.float32)
    kept[rarest[np.cumsum(frequent[rarest] ** 2) <= 100**2]] = 1
    assert 0 < kept.sum() < len(kept) and not kept[:3].any()
    told = sparse.csr_array(rows @ sparse.diags_array(kept))
    _, cosines = nearest(rows, np.arange(300), np.arange(300), SIZE)
    _, expected = exactly_nearest(told.toarray(), np.arange(300), np.arange(300), SIZE)
    np.testing.assert_allclose(np.sort(np.maximum(cosines, 0)), np.sort(expected), rtol=1e-4, atol=1e-6)


def test_nearest_by_terms_of_a_goal_do_not_depend_on_the_other_goals(monkeypatch):
    monkeypatch.setattr(module, "EXACT_ITEMS", 100)
    rows, sources = documents(), np.arange(0, 300, 2)
    for one, whole in zip(
        nearest(rows, sources, np.array([7]), SIZE), nearest(rows, sources, np.arange(300), SIZE), strict=True
    ):
        np.testing.assert_array_equal(one[0], whole[7])
