"""BM3 and MGCN on planted tastes, and their parts against values by hand."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

torch = pytest.importorskip("torch", reason="BM3 and MGCN need torch: pip install torch==2.13.0")
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
models = importlib.import_module("peer_models")
multimodal = importlib.import_module("peer_multimodal")
peer_list = importlib.import_module("peer_list")

N_USERS, N_ITEMS, N_TASTES = 60, 90, 3
SETTINGS = {
    "bm3": {"layers": 2, "epochs": 40, "rate": 0.02, "l2": 0.1, "dropout": 0.3, "batch": 100},
    "mgcn": {
        "layers": 2,
        "epochs": 40,
        "rate": 0.02,
        "l2": 1e-4,
        "contrast": 0.01,
        "neighbours": 5,
        "batch": 100,
    },
}


def planted():
    """Return likes, hidden likes and two contents: user u and item i share the taste u % 3 = i % 3.

    The first content tells the taste, with noise, and every tenth item has none; the second is wide.
    """
    rng = np.random.default_rng(0)
    liked, hidden = (np.zeros((N_USERS, N_ITEMS), np.float32) for _ in "ab")
    for user in range(N_USERS):
        taste = rng.permutation(N_ITEMS // N_TASTES) * N_TASTES + user % N_TASTES
        liked[user, taste[:6]] = hidden[user, taste[6:10]] = 1
    tastes = np.eye(N_TASTES)[np.arange(N_ITEMS) % N_TASTES] + 0.1 * rng.standard_normal((N_ITEMS, N_TASTES))
    tastes[::10] = 0
    words = sparse.random_array((N_ITEMS, 500), density=0.02, rng=rng, format="csr")
    return sparse.csr_array(liked), hidden, [sparse.csr_array(tastes), words]


def fitted(name, seed=0, **changes):
    liked, _, contents = planted()
    model = getattr(multimodal, name)(liked, seed, contents, **{**SETTINGS[name], **changes}, factors=16)
    return model(np.arange(N_USERS))


def recall(scores, liked, hidden, k=10):
    unseen = np.where(liked.toarray() > 0, -np.inf, scores)
    return np.take_along_axis(hidden, np.argsort(-unseen, axis=1)[:, :k], axis=1).sum() / hidden.sum()


@pytest.mark.parametrize("name", ["bm3", "mgcn"])
def test_multimodal_peer_on_planted_tastes_beats_popularity(name):
    liked, hidden, _ = planted()
    scores = fitted(name)
    assert scores.dtype == np.float64 and scores.shape == (N_USERS, N_ITEMS)
    popular = models.popularity(liked)(np.arange(N_USERS))
    assert recall(scores, liked, hidden) > 2 * recall(popular, liked, hidden)


@pytest.mark.parametrize("name", ["bm3", "mgcn"])
def test_multimodal_peer_of_one_seed_is_the_same_twice_and_leaves_the_random_state_of_torch(name):
    before = torch.get_rng_state()
    first, again, other = (fitted(name, seed, epochs=3) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["bm3", "mgcn"])
def test_multimodal_peer_with_one_content_or_three_gives_finite_scores(name):
    liked, _, contents = planted()
    for given in (contents[:1], [*contents, contents[0]]):
        scorer = getattr(multimodal, name)(liked, 0, given, **{**SETTINGS[name], "epochs": 2})
        assert np.isfinite(scorer(np.array([3, 0]))).all()


@pytest.mark.parametrize("name", ["bm3", "mgcn"])
def test_multimodal_peer_of_the_list_fits_with_every_setting_of_its_grid(name, tmp_path):
    liked, _, contents = planted()
    for place, vectors in enumerate(contents):
        sparse.save_npz(tmp_path / f"{place}.npz", sparse.csr_matrix(vectors))
    peer = peer_list.PEERS[name]
    assert peer.reads_content and peer.seeded and peer.needs == ("torch",)
    for setting in peer.grid:
        scorer = peer.fit(peer_list.Lesson(liked, None, tmp_path), 0, **{**setting, "epochs": 1})
        assert np.isfinite(scorer(np.arange(3))).all()


def test_step_has_the_gradient_of_a_product_with_the_graph():
    graph = sparse.random_array((5, 4), density=0.5, rng=np.random.default_rng(0), format="csr")
    rows = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: multimodal.Step.apply(rows, graph), rows)


def test_info_nce_equals_the_formula_by_hand():
    # Cosines of the first with both others are 1 and 0, of the second 0.6 and 0.8; temperature 0.2.
    rows = torch.tensor([[2.0, 0.0], [0.6, 0.8]])
    others = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    first = -math.log(math.exp(5) / (math.exp(5) + math.exp(0)))
    second = -math.log(math.exp(4) / (math.exp(3) + math.exp(4)))
    assert float(multimodal.info_nce(rows, others)) == pytest.approx((first + second) / 2, rel=1e-5)


def test_item_graph_is_normalised_and_an_item_without_content_is_near_itself_alone():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8], [0.0, 0.0]])
    found = multimodal.item_graph(sparse.csr_array(vectors), neighbours=2).toarray()
    # Items 0 and 1 are near each other, item 2 is near one of them, which is not near it.
    np.testing.assert_allclose(found[:2, :2], np.full((2, 2), 0.5), atol=1e-6)
    assert found[2, 2] == pytest.approx(1 / 1.6) and found[:2, 2].sum() == 0
    assert found[2, :2].sum() == pytest.approx(0.6 / math.sqrt(1.6 * 2))
    np.testing.assert_array_equal(found[3], [0, 0, 0, 1])


def test_leading_components_keep_the_products_of_a_matrix_of_low_rank():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 4)) @ rng.standard_normal((4, 80))
    vectors[7] = 0
    found = multimodal.leading(sparse.csr_array(vectors), 6, seed=0)
    assert found.shape == (50, 6) and not found[7].any()
    np.testing.assert_allclose(found @ found.T, vectors @ vectors.T, atol=1e-8)


def test_features_are_unit_rows_and_those_of_an_item_without_content_zero():
    _, _, contents = planted()
    tastes, words = multimodal.features_of(contents, 0)
    lengths = np.linalg.norm(tastes, axis=1)
    np.testing.assert_allclose(lengths, np.arange(N_ITEMS) % 10 != 0, atol=1e-6)
    assert words.shape == (N_ITEMS, N_ITEMS)


def test_bm3_has_no_loss_on_a_content_that_the_items_do_not_have():
    liked, _, contents = planted()
    features = multimodal.features_of(contents[:1], 0)
    model = multimodal.BM3(liked, features, 1, 0.0, 0.0, 2.0, 16)
    content, target = model.contents[0], torch.ones(2, 16)
    absent, present = torch.tensor([0, 10]), torch.tensor([1, 11])
    assert not model.content_loss(content, absent, target).any()
    assert (model.content_loss(content, present, target) > 0).all()


def test_mgcn_of_views_that_agree_has_nothing_of_one_content_alone():
    liked, _, contents = planted()
    features = multimodal.features_of(contents[:1], 0)[0]
    graph = multimodal.item_graph(contents[0], 5)
    model = multimodal.MGCN(liked, [features] * 2, [graph] * 2, 2, 0.0, 0.0, 16)
    model.views[1].load_state_dict(model.views[0].state_dict())
    _, side = model(slice(None))
    np.testing.assert_allclose(
        side.detach(), model.views[0](model.nodes.items, model.to_users).detach() / 3, atol=1e-6
    )
