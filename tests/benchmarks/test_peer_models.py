"""The peers' own reference implementations against brute force, by-hand walks and planted answers."""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
models = importlib.import_module("peer_models")
graph = importlib.import_module("peer_graph")
worker = importlib.import_module("peer_worker")


def some_liked(n_users=30, n_items=8, share=0.4, seed=0):
    values = np.random.default_rng(seed).random((n_users, n_items)) < share
    return sparse.csr_array(values.astype(np.float32))


def two_groups():
    """Users 0-3 like items 0-2, users 4-7 like items 3-5, each all but one."""
    liked = np.zeros((8, 6), np.float32)
    for user in range(8):
        group = np.arange(3) + 3 * (user // 4)
        liked[user, group[group != group[user % 3]]] = 1
    return sparse.csr_array(liked)


def test_ease_equals_ridge_regressions_of_each_item_on_the_others():
    liked, l2 = some_liked(), 3.0
    x = liked.toarray().astype(float)
    weights = models.ease(liked, l2)
    for item in range(x.shape[1]):
        others = np.arange(x.shape[1]) != item
        rest = x[:, others]
        expected = np.linalg.solve(rest.T @ rest + l2 * np.eye(rest.shape[1]), rest.T @ x[:, item])
        np.testing.assert_allclose(weights[others, item], expected, atol=1e-6)
        assert weights[item, item] == 0


def test_ease_of_an_item_without_users_has_no_weights():
    liked = some_liked().toarray()
    liked[:, 2] = 0
    weights = models.ease(sparse.csr_array(liked), 3.0)
    assert not weights[2].any() and not weights[:, 2].any() and weights.any()


def test_rp3beta_equals_a_walk_by_hand():
    # Item 0 is liked by user 0 alone, who likes items 0 and 1; item 1 by users 0 and 1; item 2 by user 1.
    liked = sparse.csr_array(np.array([[1, 1, 0], [0, 1, 1]], np.float32))
    weights = models.rp3beta(liked, alpha=2.0, beta=1.0).toarray()
    # 0 -> user 0 surely, user 0 -> 1 with 1/2, to the power 2; over the popularity of item 1, which is 2.
    assert weights[0, 1] == pytest.approx(1.0**2 * 0.5**2 / 2)
    # 1 -> user 0 with 1/2, user 0 -> 0 with 1/2; item 0 has popularity 1.
    assert weights[1, 0] == pytest.approx(0.5**2 * 0.5**2 / 1)
    assert weights[0, 2] == 0 and not weights.diagonal().any()


def test_spectral_with_all_vectors_gives_back_the_rows_and_with_few_stays_in_the_group():
    liked = two_groups()
    everyone = np.arange(8)
    whole = models.Spectrum(liked, user_power=0.5)
    np.testing.assert_allclose(models.spectral(liked, whole, 6, 0.0)(everyone), liked.toarray(), atol=1e-6)
    scores = models.spectral(liked, whole, 2, 0.5)(everyone)
    assert np.abs(scores[:4, 3:]).max() < 1e-6 and np.abs(scores[4:, :3]).max() < 1e-6
    assert scores[:4, :3].min() > 0.01


def test_spectral_linear_part_equals_loops():
    liked = some_liked()
    x = liked.toarray().astype(float)
    spectrum = models.Spectrum(liked, user_power=0.3)
    scaled = x / np.maximum(x.sum(1, keepdims=True), 1) ** 0.3 / x.sum(0) ** 0.5
    users = np.array([4, 0])
    gain = models.spectral(liked, spectrum, 3, 2.0)(users) - models.spectral(liked, spectrum, 3, 0.0)(users)
    np.testing.assert_allclose(gain, 2.0 * x[users] @ scaled.T @ scaled, atol=1e-6)


def test_content_neighbours_reach_a_new_item_from_the_nearest_known_one():
    vectors = sparse.csr_array(np.array([[1.0, 0.1], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.9, 0.5]]))
    liked = sparse.csr_array(np.array([[1, 1, 0, 1, 0]], np.float32))
    weights = models.content_neighbours(liked, vectors, neighbours=1).toarray()
    cosine = 1.0 / np.sqrt(1.01)
    assert weights[0, 2] == pytest.approx(cosine)
    assert weights[1, 2] == 0, "not among the nearest"
    assert not weights[2].any(), "an item without users is in nobody's history"
    assert not weights[3].any() and not weights[:, 3].any(), "no content, no neighbours"


def test_mean_z_of_a_constant_member_leaves_the_order_to_the_others():
    def rising(users):
        return np.tile([1.0, 2.0, 3.0], (len(users), 1))

    def constant(users):
        return np.full((len(users), 3), 7.0)

    scores = models.mean_z([rising, constant])(np.array([0]))
    np.testing.assert_allclose(scores, [[-(1.5**0.5) / 2, 0.0, 1.5**0.5 / 2]])


def same_groups():
    """(n_items, d) contents by which items 0-2 are alike, and 3-5."""
    return sparse.csr_array(np.kron(np.eye(2), np.ones((3, 1))) + 0.01 * np.eye(6, 2))


@pytest.mark.parametrize("items", [None, graph.frozen_graph([same_groups()], neighbours=2)])
def test_graph_model_gradient_equals_finite_differences(items):
    liked = two_groups()
    readout = graph.Readout(graph.normalised_graph(liked).astype(np.float64), 2, items)
    embeddings = np.random.default_rng(0).standard_normal((14, 3))
    nodes = (np.array([0, 5, 0]), np.array([9, 12, 10]), np.array([12, 8, 13]))

    def loss(rows):
        user, item, other = (readout.forth(rows)[part] for part in nodes)
        likelihood = np.log1p(np.exp(-np.sum(user * (item - other), axis=1))).mean()
        return likelihood + 0.3 / 2 / 3 * sum((rows[part] ** 2).sum() for part in nodes)

    found = graph.gradient(readout, embeddings, nodes, 0.3)
    for place in [(0, 0), (5, 1), (9, 2), (13, 0), (3, 1)]:
        step = np.zeros_like(embeddings)
        step[place] = 1e-5
        slope = (loss(embeddings + step) - loss(embeddings - step)) / 2e-5
        assert found[place] == pytest.approx(slope, abs=1e-5)


def test_lightgcn_on_two_groups_ranks_the_missing_item_of_the_group_first():
    liked = two_groups()
    scores = graph.lightgcn(liked, 0, layers=2, epochs=200, rate=0.05, l2=0.001, factors=8)(np.arange(8))
    scores[liked.toarray() > 0] = -np.inf
    assert [best // 3 for best in scores.argmax(axis=1)] == [user // 4 for user in range(8)]


def test_freedom_ranks_a_new_item_of_the_group_of_its_content_first():
    liked = two_groups().toarray()
    liked[:, [2, 5]] = 0
    setting = {"layers": 1, "epochs": 200, "rate": 0.05, "l2": 0.001, "dropout": 0.3, "neighbours": 2}
    scores = graph.freedom(sparse.csr_array(liked), 0, [same_groups()], **setting, factors=8)(np.arange(8))
    assert [2 if new > other else 5 for new, other in scores[:, [2, 5]]] == [2] * 4 + [5] * 4


def test_frozen_graph_is_the_mean_of_the_nearest_in_each_content():
    # In the first content 0 is near 1, in the second, which 1 has not, near 2.
    contents = [
        np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]),
        np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.2]]),
    ]
    found = graph.frozen_graph([sparse.csr_array(content) for content in contents], neighbours=1).toarray()
    np.testing.assert_allclose(found, [[0.0, 0.5, 0.5], [0.5, 0.0, 0.0], [0.5, 0.5, 0.0]])


def test_some_likes_are_drawn_by_the_degrees_of_both_ends():
    # User 0 likes ten items that nobody else likes, user 1 one such item.
    liked = np.zeros((2, 11), np.float32)
    liked[0, :10] = liked[1, 10] = 1
    rng = np.random.default_rng(0)
    drawn = sum(graph.some_of(sparse.csr_array(liked), 2 / 11, rng).toarray() for _ in range(2000))
    assert drawn.sum() == 4000
    # Of weights ten times 1/sqrt(10) and once 1, two without replacement take the one with probability
    # w/s + sum over the others v/s w/(s - v).
    other, total = 10**-0.5, 10**0.5 + 1
    expected = 1 / total + 10 * other / total / (total - other)
    assert drawn[1, 10] / 2000 == pytest.approx(expected, abs=0.04)


def test_lightgcn_of_one_seed_is_the_same_twice():
    runs = [
        graph.lightgcn(two_groups(), 3, layers=1, epochs=5, rate=0.05, l2=0.0)(np.arange(8)) for _ in "ab"
    ]
    np.testing.assert_array_equal(*runs)


def test_negatives_are_not_among_the_items_of_the_user():
    liked = some_liked(50, 200, share=0.05)
    users, items = (codes.astype(np.int64) for codes in liked.nonzero())
    negatives = graph.draw_negatives(users, items, 200, np.random.default_rng(0))
    assert not liked.toarray()[users, negatives].any()


def write_log(folder, n_users=40, n_items=60):
    """Write a log of two tastes; the first rows of a user are train, then valid."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(n_users):
        taste = rng.permutation(n_items // 2) + (user % 2) * (n_items // 2)
        rows += [(f"u{user:02}", f"i{item:02}", "train", True) for item in taste[:6]]
        rows += [(f"u{user:02}", f"i{item:02}", "valid", True) for item in taste[6:8]]
        rows.append((f"u{user:02}", f"i{taste[8]:02}", "train", False))
    schema = ["user_id", "item_id", "split", "is_positive"]
    table = pl.DataFrame(rows, schema=schema, orient="row")
    (folder / "lists").mkdir()
    (folder / "content").mkdir()
    halves = np.repeat(np.eye(2), n_items // 2, axis=0)
    sparse.save_npz(folder / "content" / "image.npz", sparse.csr_matrix(halves))
    table.write_parquet(folder / "log.parquet")
    table.select("user_id").unique().write_parquet(folder / "users.parquet")
    pl.DataFrame({"item_id": [f"i{item:02}" for item in range(n_items)]}).write_parquet(
        folder / "items.parquet"
    )
    return table


FITS_TASTES = ["ease", "rp3beta", "spectral", "lightgcn", "implicit_als", "implicit_bpr", "fusion"]


@pytest.mark.parametrize(
    ("peer", "protocol"),
    [*((peer, "strict") for peer in FITS_TASTES), ("content_image", "full"), ("ease", "full")],
)
def test_worker_lists_hold_unseen_items_of_the_users_taste(tmp_path, peer, protocol):
    seen = write_log(tmp_path)
    report = worker.run(
        Namespace(name="tiktok", peer=peer, folder=tmp_path, protocol=protocol, seeds=[0], known={})
    )
    lists = pl.read_parquet(tmp_path / "lists" / f"{peer}-0.parquet")
    assert lists.join(seen, on=["user_id", "item_id"]).is_empty()
    assert lists["user_id"].n_unique() == 40 and not lists.select("user_id", "item_id").is_duplicated().any()
    first = lists.sort("score", descending=True).group_by("user_id").head(10)
    same_taste = (first["item_id"].str.slice(1).cast(int) >= 30) == (
        first["user_id"].str.slice(1).cast(int) % 2 == 1
    )
    assert same_taste.all()
    assert report["ndcg"] > 0.1 and report["seconds"] > 0


def test_worker_refits_on_valid_under_the_full_protocol_alone(tmp_path):
    write_log(tmp_path)
    scores = {}
    for protocol in ("strict", "full"):
        arguments = Namespace(name="tiktok", peer="popularity", folder=tmp_path, protocol=protocol)
        worker.run(Namespace(**vars(arguments), seeds=[0], known={}))
        scores[protocol] = pl.read_parquet(tmp_path / "lists" / "popularity-0.parquet")["score"].sum()
    assert scores["full"] > scores["strict"]


def test_fusion_takes_the_best_members_and_the_settings_that_are_known(tmp_path):
    write_log(tmp_path)
    members = worker.peers_of("tiktok", "strict")["fusion"].members
    known = {
        name: {"setting": {"l2": 30} if name == "ease" else {}, "ndcg": 1.0 if name == "ease" else 0.1}
        for name in members
    }
    known["popularity"]["ndcg"] = 0.9
    peers = worker.peers_of("tiktok", "strict")
    peer = worker.tuned_fusion(peers["fusion"], peers, worker.Log(tmp_path), 0, known)
    assert peer.grid[0] == {"best": ["ease", "popularity"]}
    assert len(peer.grid) == len(members) - 1


def test_top_items_of_a_user_without_opinion_are_the_most_popular():
    liked = sparse.csr_array(np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], np.float32))
    scorer = models.item_item(liked, np.eye(4))
    (batch,) = worker.top_items(scorer, np.array([2]), liked, liked, 2)
    assert batch[1].tolist() == [[1, 0]]


def test_equal_scores_are_not_listed_in_the_order_of_the_items():
    liked = sparse.csr_array((1, 500), dtype=np.float32)
    (batch,) = worker.top_items(lambda users: np.zeros((1, 500)), np.array([0]), liked, liked, 20)
    assert batch[1].max() > 100
