from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from features import item_models, nearest
from features.item_models import content_knn, ease, fewest_likes, item_knn, keep_strongest, rp3beta, unit_rows
from tests.features.planted import liked_of

SHAPES = [(30, 8), (7, 25)]
NEIGHBOURS = 1000

every_shape = pytest.mark.parametrize("shape", SHAPES)


def random_likes(shape, seed=0) -> np.ndarray:
    """Return likes in which item 3 and user 2 are cold."""
    likes = (np.random.default_rng(seed).random(shape) < 0.35).astype(np.float64)
    likes[:, 3] = 0
    likes[2] = 0
    return likes


def item_knn_reference(x, shrink):
    n = x.shape[1]
    w = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            both = float(np.sum(x[:, i] * x[:, j]))
            if i != j and both > 0:
                w[i, j] = both / (np.sqrt(x[:, i].sum() * x[:, j].sum()) + shrink)
    return w


def rp3beta_reference(x, alpha, beta):
    """Walk item -> user -> item, over all users one by one."""
    n = x.shape[1]
    w = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            for user in x:
                if i != j and user[i] and user[j]:
                    step_up, step_down = 1 / x[:, i].sum(), 1 / user.sum()
                    w[i, j] += step_up**alpha * step_down**alpha / x[:, j].sum() ** beta
    return w


def ease_reference(x, l2, damping=0.0, user_damping=0.0):
    """Solve the ridge regression of each item on all the others, with its own weight fixed to 0."""
    n = x.shape[1]
    user, item = (np.maximum(x.sum(axis=axis), 1) for axis in (1, 0))
    likes = x
    x = user[:, None] ** -user_damping * x * item**-damping
    x = x / np.sqrt((x**2).sum() / likes.sum())
    w = np.zeros((n, n))
    for j in range(n):
        others = [i for i in range(n) if i != j]
        a = x[:, others]
        w[others, j] = np.linalg.solve(a.T @ a + l2 * np.eye(n - 1), a.T @ x[:, j])
    return w * item[:, None] ** -damping * item**damping


MODELS = {
    "item_knn": (item_knn, item_knn_reference, {"shrink": 2.5}),
    "rp3beta": (rp3beta, rp3beta_reference, {"alpha": 0.7, "beta": 0.4}),
    "ease": (ease, ease_reference, {"l2": 3.0}),
    "damped_ease": (ease, ease_reference, {"l2": 3.0, "damping": 0.3, "user_damping": 0.6}),
}
every_model = pytest.mark.parametrize("name", MODELS)


@every_model
@every_shape
def test_model_equals_the_dense_reference(name, shape):
    fit, reference, params = MODELS[name]
    x = random_likes(shape)
    got = fit(liked_of(x), neighbours=NEIGHBOURS, **params)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.toarray(), reference(x, **params), rtol=1e-5, atol=1e-7)


@every_model
@pytest.mark.parametrize("neighbours", [2, 8])
def test_model_keeps_the_strongest_of_every_column(name, neighbours):
    fit, reference, params = MODELS[name]
    x = random_likes((30, 12))
    dense = reference(x, **params)
    got = fit(liked_of(x), neighbours=neighbours, **params).toarray()
    assert ((got != 0).sum(axis=0) <= neighbours).all()
    for column in range(12):
        by_magnitude = np.sort(np.abs(got[:, column]))[::-1][:neighbours]
        magnitudes = np.sort(np.abs(dense[:, column]))[::-1]
        np.testing.assert_allclose(by_magnitude, magnitudes[:neighbours], rtol=1e-5)
        kept = got[:, column] != 0
        np.testing.assert_allclose(got[kept, column], dense[kept, column], rtol=1e-5)


@every_model
@every_shape
def test_model_cold_item_has_neither_column_nor_row(name, shape):
    got = MODELS[name][0](liked_of(random_likes(shape))).toarray()
    assert not got[:, 3].any()
    assert not got[3].any()
    assert got.any()


@every_model
def test_model_no_likes_at_all_has_no_weight(name):
    weights = MODELS[name][0](sparse.csr_array((4, 6), dtype=np.float32))
    assert (weights.shape, weights.nnz) == ((6, 6), 0)


@every_model
def test_model_item_is_not_its_own_neighbour(name):
    assert not MODELS[name][0](liked_of(random_likes((30, 8)))).diagonal().any()


def test_ease_primal_equals_dual():
    # Three copies of every user with three times the penalty are the same problem, but now the item space
    # is the smaller one.
    x = random_likes((8, 20))
    dual = ease(liked_of(x), l2=2.0).toarray()
    primal = ease(liked_of(np.vstack([x, x, x])), l2=6.0).toarray()
    assert np.abs(dual).max() > 0.1
    np.testing.assert_allclose(primal, dual, rtol=1e-5, atol=1e-7)


@every_shape
def test_ease_items_with_few_likes_are_left_out(shape):
    x = random_likes(shape)
    few = x.sum(axis=0) < 4
    assert 0 < few.sum() < len(few)
    np.testing.assert_array_equal(
        ease(liked_of(x), min_likes=4, damping=0.5).toarray(),
        ease(liked_of(x * ~few), damping=0.5).toarray(),
    )


def test_ease_of_many_items_and_users_is_that_of_the_most_liked():
    x = random_likes((60, 20))
    x[:, :2] = 0.0
    degree = x.sum(axis=0)
    most = int((degree > np.sort(degree)[9]).sum())
    fewest = fewest_likes(liked_of(x), most_items=most)
    assert (degree >= fewest).sum() == most < (degree >= fewest - 1).sum()
    np.testing.assert_array_equal(
        ease(liked_of(x), most_items=most).toarray(), ease(liked_of(x * (degree >= fewest))).toarray()
    )


def test_ease_items_are_all_there_where_the_users_are_few_or_the_items():
    x = random_likes((8, 20))
    assert fewest_likes(liked_of(x), most_items=8) == 1
    assert fewest_likes(liked_of(x.T), most_items=8, min_likes=3) == 3
    assert fewest_likes(liked_of(x), most_items=6) > 1
    assert fewest_likes(liked_of(x), most_items=6, min_likes=100) == 100


@given(st.integers(0, 100))
def test_ease_has_no_more_items_than_asked_however_many_are_liked_as_much(seed):
    x = np.random.default_rng(seed).integers(0, 2, (12, 9)).astype(np.float32)
    fewest = fewest_likes(liked_of(x), most_items=4)
    assert (x.sum(axis=0) >= fewest).sum() <= 4


def test_ease_idle_users_do_not_matter():
    x = random_likes((8, 20))
    with_idle = np.vstack([np.zeros((30, 20)), x])
    np.testing.assert_array_equal(ease(liked_of(with_idle)).toarray(), ease(liked_of(x)).toarray())


@every_shape
def test_ease_size_of_the_blocks_does_not_matter(shape, monkeypatch):
    x = liked_of(random_likes(shape))
    whole = ease(x, neighbours=4).toarray()
    monkeypatch.setattr(item_models, "BLOCK", 3)
    np.testing.assert_allclose(ease(x, neighbours=4).toarray(), whole, rtol=1e-6)


def test_keep_strongest_goes_by_magnitude_and_then_by_row():
    weights = np.array([[1.0, 0.2, 0.5], [-3.0, 0.0, 0.5], [2.0, 0.1, 0.5]])
    kept = keep_strongest(sparse.csr_array(weights), 2).toarray()
    np.testing.assert_allclose(kept, [[0, 0.2, 0.5], [-3, 0, 0.5], [2, 0.1, 0]], rtol=1e-6)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(-4, 4)),
    st.integers(1, 7),
)
def test_keep_strongest_nothing_dropped_is_stronger_than_what_is_kept(weights, neighbours):
    kept = keep_strongest(sparse.csr_array(weights), neighbours).toarray()
    for before, after in zip(weights.T, kept.T, strict=True):
        chosen = after != 0
        np.testing.assert_array_equal(after[chosen], before[chosen])
        assert chosen.sum() == min(neighbours, np.count_nonzero(before))
        dropped = np.abs(before[~chosen]).max(initial=0)
        assert not chosen.any() or dropped <= np.abs(after[chosen]).min()


def random_vectors(n, seed=0):
    """Return vectors of which every fifth is absent, and the known items."""
    rng = np.random.default_rng(seed)
    present = np.arange(n) % 5 != 4
    vectors = rng.normal(size=(n, 4)).astype(np.float32) * present[:, None]
    return vectors, present, rng.random(n) < 0.7


def content_reference(vectors, present, known, neighbours):
    n = len(vectors)
    w = np.zeros((n, n))
    for j in np.flatnonzero(present):
        found = []
        for i in np.flatnonzero(present & known):
            if i != j:
                a, b = vectors[i].astype(float), vectors[j].astype(float)
                found.append((a @ b / np.sqrt((a @ a) * (b @ b)), i))
        for cosine, i in sorted(found, reverse=True)[:neighbours]:
            w[i, j] = max(cosine, 0.0)
    return w


@pytest.mark.parametrize("neighbours", [1, 4, 100])
@pytest.mark.parametrize("block", [7, 512])
def test_content_knn_equals_brute_force(neighbours, block, monkeypatch):
    monkeypatch.setattr(nearest, "BLOCK", block)
    got = content_knn(*random_vectors(40), neighbours=neighbours)
    np.testing.assert_allclose(
        got.toarray(), content_reference(*random_vectors(40), neighbours), rtol=1e-5, atol=1e-6
    )


def test_content_knn_item_is_not_its_own_neighbour_but_its_twin_is():
    vectors = np.array([[1, 0], [2, 0], [0, 1]], dtype=np.float32)
    every = np.ones(3, dtype=bool)
    got = content_knn(vectors, every, every, neighbours=2).toarray()
    np.testing.assert_array_equal(got, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])


def test_content_knn_unknown_item_finds_neighbours_and_is_none():
    vectors, present, known = random_vectors(40)
    got = content_knn(vectors, present, known, neighbours=5).toarray()
    assert not got[~known].any()
    assert got[:, present & ~known].any(axis=0).all()


def test_content_knn_absent_item_has_neither_column_nor_row():
    vectors, present, known = random_vectors(40)
    got = content_knn(vectors, present, known).toarray()
    assert not got[~present].any()
    assert not got[:, ~present].any()


def test_content_knn_appended_item_changes_no_other_column():
    vectors, present, known = random_vectors(40)
    before = content_knn(vectors, present, known, neighbours=5)
    # A twin of item 0, which would be the nearest neighbour of item 0 and of all its neighbours.
    after = content_knn(
        np.vstack([vectors, vectors[:1]]), np.append(present, True), np.append(known, False), neighbours=5
    ).toarray()
    np.testing.assert_allclose(after[:40, :40], before.toarray(), rtol=1e-6)
    assert not after[40].any()
    assert np.count_nonzero(after[:, 40]) > 0


def test_content_knn_targets_are_the_only_columns():
    vectors, present, known = random_vectors(40)
    targets = np.arange(40) >= 30
    every = content_knn(vectors, present, known, neighbours=5).toarray()
    some = content_knn(vectors, present, known, neighbours=5, targets=targets).toarray()
    assert not some[:, :30].any()
    np.testing.assert_allclose(some[:, 30:], every[:, 30:], rtol=1e-6)


def test_content_knn_nobody_known_has_no_weight():
    vectors, present, _ = random_vectors(10)
    assert content_knn(vectors, present, np.zeros(10, dtype=bool)).nnz == 0


def test_unit_rows_have_length_1_and_zeros_stay():
    unit = unit_rows(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 0]], rtol=1e-6)
