"""One suite that every retriever passes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import sparse

from features.errors import ConfigError
from features.history import History
from features.retrievers import (
    BEHAVIOUR_KINDS,
    Retriever,
    check_parameters,
    content_retriever,
    fit_behaviour,
    load_retriever,
)
from features.space import ModalityVectors, with_graph
from tests.features.planted import block_history

N_BLOCKS, PER_BLOCK, N_COLD = 3, 40, 2
N_WARM, N_USERS = N_BLOCKS * PER_BLOCK, 45
N_ITEMS = N_WARM + N_COLD
ALS = {"factors": 8, "regularization": 1.0, "alpha": 5.0, "iterations": 5}
KINDS = (*BEHAVIOUR_KINDS, "content")
PERSONAL = tuple(kind for kind in KINDS if kind != "popularity")

every_kind = pytest.mark.parametrize("kind", KINDS)
every_personal_kind = pytest.mark.parametrize("kind", PERSONAL)


@cache
def history() -> History:
    return block_history(N_USERS, N_BLOCKS, PER_BLOCK, n_cold=N_COLD)


def modality() -> ModalityVectors:
    """Vectors that tell the block; the cold items have none."""
    rng = np.random.default_rng(1)
    block = np.arange(N_ITEMS) // PER_BLOCK
    vectors = (np.eye(N_BLOCKS + 1)[block] + 0.1 * rng.normal(size=(N_ITEMS, N_BLOCKS + 1))).astype(
        np.float32
    )
    present = np.arange(N_ITEMS) < N_WARM
    vectors[~present] = 0
    return with_graph(ModalityVectors(vectors, present), history().popularity > 0, neighbours=20)


@cache
def fitted(kind: str) -> Retriever:
    if kind == "content":
        return content_retriever("text", modality())
    return fit_behaviour(kind, history(), ALS if kind == "als" else {}, seed=0)


@cache
def likes() -> sparse.csr_array:
    """The users of the history; then one who likes nothing, one a cold item only, one also a warm one."""
    extra = np.zeros((3, N_ITEMS), dtype=np.float32)
    extra[1, N_WARM] = 1
    extra[2, [0, N_WARM]] = 1
    return sparse.csr_array(sparse.vstack([history().liked, extra]))


NOBODY, ONLY_COLD, BOTH = N_USERS, N_USERS + 1, N_USERS + 2


@every_kind
def test_scores_are_one_float32_a_user_and_item(kind):
    scores = fitted(kind).scores(likes())
    assert scores.shape == (N_USERS + 3, N_ITEMS)
    assert scores.dtype == np.float32
    assert fitted(kind).scores(likes()[:0]).shape == (0, N_ITEMS)


@every_kind
def test_scores_row_is_the_same_bits_in_any_batch(kind):
    whole = fitted(kind).scores(likes())
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 31):
        users = rng.permutation(N_USERS + 3)[:size]
        np.testing.assert_array_equal(fitted(kind).scores(likes()[users]), whole[users])


@every_kind
def test_scores_do_not_depend_on_what_others_like(kind):
    others = likes()[np.random.default_rng(1).permutation(N_USERS + 3)].tolil()
    others[7] = likes()[[7]]
    scores = fitted(kind).scores(sparse.csr_array(others))
    np.testing.assert_array_equal(scores[7], fitted(kind).scores(likes())[7])


@every_personal_kind
def test_scores_cold_items_get_no_opinion(kind):
    scores = fitted(kind).scores(likes())
    assert np.isnan(scores[:, N_WARM:]).all()
    assert np.isfinite(scores[:N_USERS, :N_WARM]).all()


@every_personal_kind
def test_scores_user_without_known_likes_gets_no_opinion(kind):
    scores = fitted(kind).scores(likes())
    assert np.isnan(scores[[NOBODY, ONLY_COLD]]).all()
    assert np.isfinite(scores[BOTH, :N_WARM]).all()


def test_popularity_is_the_same_for_everybody():
    scores = fitted("popularity").scores(likes())
    np.testing.assert_array_equal(scores, np.tile(history().popularity, (N_USERS + 3, 1)))


@every_kind
@pytest.mark.parametrize("more", [0, 1, 3, 700])
def test_resized_old_scores_are_the_same_bits_and_new_items_unknown(kind, more):
    grown = fitted(kind).resized(N_ITEMS + more)
    wider = likes().copy()
    wider.resize((N_USERS + 3, N_ITEMS + more))
    scores = grown.scores(wider)
    np.testing.assert_array_equal(scores[:, :N_ITEMS], fitted(kind).scores(likes()))
    nothing = 0.0 if kind == "popularity" else np.nan
    np.testing.assert_array_equal(scores[:, N_ITEMS:], np.full((N_USERS + 3, more), nothing))


@every_kind
def test_resized_liking_a_new_item_changes_nothing(kind):
    grown = fitted(kind).resized(N_ITEMS + 1)
    wider = np.hstack([likes().toarray(), np.ones((N_USERS + 3, 1), np.float32)])
    np.testing.assert_array_equal(
        grown.scores(sparse.csr_array(wider))[:, :N_ITEMS], fitted(kind).scores(likes())
    )


@every_kind
@pytest.mark.parametrize("more", [0, 5])
def test_load_scores_the_same_bits(kind, more, tmp_path):
    retriever = fitted(kind).resized(N_ITEMS + more)
    retriever.save(tmp_path)
    loaded = load_retriever(tmp_path)
    assert (type(loaded), loaded.name, loaded.block) == (type(retriever), retriever.name, retriever.block)
    wider = likes().copy()
    wider.resize((N_USERS + 3, N_ITEMS + more))
    np.testing.assert_array_equal(loaded.scores(wider), retriever.scores(wider))


@every_kind
def test_save_writes_json_and_arrays_without_pickle(kind, tmp_path):
    fitted(kind).save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".npz"}
    with np.load(tmp_path / "retriever.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays)


@every_personal_kind
def test_scores_planted_block_comes_first(kind):
    scores = fitted(kind).scores(likes())[:N_USERS, :N_WARM]
    best = np.argsort(-scores, axis=1)[:, : PER_BLOCK // 2] // PER_BLOCK
    own = np.arange(N_USERS) % N_BLOCKS
    assert (best == own[:, None]).mean() > 0.95


@pytest.mark.parametrize("kind", BEHAVIOUR_KINDS)
def test_fit_behaviour_same_seed_same_scores(kind):
    again = fit_behaviour(kind, history(), ALS if kind == "als" else {}, seed=0)
    np.testing.assert_array_equal(again.scores(likes()), fitted(kind).scores(likes()))
    assert (again.name, again.block) == (kind, "behaviour")


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("ease", {"l2": 1.0}),
        ("item_knn", {"shrink": 0.0}),
        ("rp3beta", {"beta": 1.0}),
        ("als", {**ALS, "alpha": 50.0}),
    ],
)
def test_fit_behaviour_parameters_reach_the_model(kind, params):
    other = fit_behaviour(kind, history(), params, seed=0)
    assert not np.array_equal(other.scores(likes()), fitted(kind).scores(likes()), equal_nan=True)


def test_als_user_is_the_weighted_ridge_solution():
    # Hu et al. (2008): every item counts with weight 1 as not liked, and a liked one with alpha as liked.
    retriever = fitted("als")
    y = retriever.factors.astype(np.float64)
    liked = likes().toarray()[:N_USERS, : len(y)]
    for row, mine in zip(retriever.scores(likes())[:5], liked, strict=False):
        confidence = np.where(mine > 0, ALS["alpha"], 1.0)
        gram = (y.T * confidence) @ y + ALS["regularization"] * np.eye(y.shape[1])
        user = np.linalg.solve(gram, y.T @ (confidence * mine))
        np.testing.assert_allclose(row[:N_WARM], (y @ user)[:N_WARM], rtol=1e-3, atol=1e-4)


def test_check_parameters_unknown_kind_raises_with_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"unknown retriever 'lightgcn'.*popularity, item_knn, ease, rp3beta, als"
    ):
        check_parameters("lightgcn", {})


@pytest.mark.parametrize(
    ("kind", "takes"),
    [
        ("popularity", "none"),
        ("ease", "l2, neighbours"),
        ("rp3beta", "alpha, beta, neighbours"),
        ("als", "factors, regularization, alpha, iterations"),
    ],
)
def test_fit_behaviour_unknown_parameter_raises_with_the_known_ones(kind, takes):
    with pytest.raises(
        ConfigError, match=f"retriever '{kind}' has no parameter 'depth'; fix: it takes {takes}$"
    ):
        fit_behaviour(kind, history(), {"depth": 3})


@pytest.mark.parametrize("name", ["seed", "history", "liked"])
def test_check_parameters_what_is_not_the_users_to_set_raises(name):
    for kind in BEHAVIOUR_KINDS:
        with pytest.raises(ConfigError, match="has no parameter"):
            check_parameters(kind, {name: 1})


@pytest.mark.parametrize(
    ("kind", "params", "limits"),
    [
        ("ease", {"l2": -5}, "l2: got -5, expected a number above 0"),
        ("ease", {"l2": [100, 0]}, "l2: got 0, expected a number above 0"),
        ("item_knn", {"shrink": -0.1}, "shrink: got -0.1, expected a number from 0"),
        ("als", {"factors": 1.5}, "factors: got 1.5, expected a whole number from 1"),
        ("rp3beta", {"beta": float("inf")}, "beta: got inf, expected a number from 0"),
    ],
)
def test_check_parameters_value_out_of_range_raises_with_its_limits(kind, params, limits):
    with pytest.raises(ConfigError, match=limits):
        check_parameters(kind, params)


def test_check_parameters_zero_is_within_the_limits_of_shrink_and_beta():
    check_parameters("item_knn", {"shrink": 0})
    check_parameters("rp3beta", {"beta": [0.0, 0.4]})


def test_content_retriever_knows_the_items_with_the_modality():
    retriever = content_retriever("text", modality())
    assert (retriever.name, retriever.block) == ("text_knn", "text")
    np.testing.assert_array_equal(retriever.known, modality().present)
    liked = sparse.csr_array(np.eye(1, N_ITEMS, dtype=np.float32))
    np.testing.assert_allclose(
        retriever.scores(liked)[0, :N_WARM], modality().graph.toarray()[0, :N_WARM], rtol=1e-6
    )


def test_content_retriever_without_graph_raises():
    bare = ModalityVectors(modality().vectors, modality().present)
    with pytest.raises(ValueError, match="'text' has no graph"):
        content_retriever("text", bare)
