from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from features import candidates
from features.candidates import retrieve
from features.encoders.base import Encoded
from features.history import History
from features.retrievers import (
    FactorRetriever,
    ItemItemRetriever,
    PropagatedRetriever,
    fit_behaviour,
    propagated,
)
from features.space import ModalityVectors, extended, with_graph
from tests.features.planted import block_history, history_of
from tests.features.retrievers.world import EVERYBODY, FEW, fitted, history, modality, world

# Items 0 to 2 have likes, 3 a single one, 4 and 5 none; 5 has no neighbour.
GRAPH = sparse.csr_array(
    np.array(
        [
            [0, 0.5, 0, 0.8, 0.9, 0],
            [0.5, 0, 0, 0.2, 0, 0],
            [0, 0, 0, 0, 0.3, 0],
            [0, 0, 0, 0, 0.4, 0],
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0],
        ],
        dtype=np.float32,
    )
)
DEGREE = np.array([9, 8, 7, 1, 0, 0], dtype=np.float32)
WEIGHTS = np.array(
    [
        [0, 1, 2, 3, 0, 0],
        [4, 0, 5, 6, 0, 0],
        [7, 8, 0, 9, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ],
    dtype=np.float32,
)
SHARES = np.eye(6)
SHARES[:, 3] = [0.75 * 0.8, 0.75 * 0.2, 0, 0.25, 0, 0]
SHARES[:, 4] = [0.9 / 1.6, 0, 0.3 / 1.6, 0.4 / 1.6, 0, 0]
LIKES = history_of([(0, 0, 1.0, 0), (0, 1, 1.0, 0), (1, 3, 1.0, 0), (2, 4, 1.0, 0)], 4, 6)


def item_item() -> ItemItemRetriever:
    return ItemItemRetriever("ease", "behaviour", sparse.csr_array(WEIGHTS), DEGREE > 0)


def test_propagated_item_item_is_the_mean_of_the_neighbours_columns():
    retriever = propagated(item_item(), "text", GRAPH, DEGREE, below=4)
    assert (retriever.name, retriever.block) == ("ease_text", "text")
    np.testing.assert_array_equal(retriever.known, [True, True, True, True, True, False])
    scores = retriever.scores(LIKES, np.arange(4))
    expected = (LIKES.liked.toarray() @ WEIGHTS @ SHARES)[:2, :5]
    np.testing.assert_allclose(scores[:2, :5], expected, rtol=1e-6)
    assert np.isnan(scores[:, 5]).all()
    assert np.isnan(scores[2:]).all()


def test_propagated_factors_are_the_mean_of_the_neighbours_factors():
    retriever, graph = fitted("als"), modality().graph
    assert isinstance(retriever, FactorRetriever)
    got = propagated(retriever, "text", graph, history().popularity, below=FEW)
    shares = sparse.csr_array(got.mixing).toarray()
    assert len(got.targets) > 20
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    factors = retriever.factors[0].astype(np.float64)
    factors[got.targets] = shares @ factors
    inner, scores = (r.scores(world(), EVERYBODY)[:5, retriever.known] for r in (retriever, got))
    users = np.linalg.lstsq(retriever.factors[0][retriever.known], inner.T, rcond=None)[0]
    np.testing.assert_allclose(scores, (factors[retriever.known] @ users).T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("below", [0, 1, 100])
def test_propagated_well_liked_items_keep_their_scores_to_the_bit(below):
    retriever = propagated(item_item(), "text", GRAPH, DEGREE, below=below)
    kept = np.flatnonzero((below <= DEGREE) & (DEGREE > 0))
    np.testing.assert_array_equal(
        retriever.scores(LIKES, np.arange(4))[:, kept], item_item().scores(LIKES, np.arange(4))[:, kept]
    )
    assert set(retriever.targets) == set(np.flatnonzero(below > DEGREE)) - {2, 5}


def cold_world() -> tuple[History, ModalityVectors]:
    """Blocks of items of which two are cold; the vectors tell the block, those of the cold ones too."""
    of = block_history(12, 2, 8, n_cold=2)
    block = np.append(np.arange(16) // 8, [0, 1])
    rng = np.random.default_rng(0)
    vectors = (np.eye(2)[block] + 0.1 * rng.normal(size=(18, 2))).astype(np.float32)
    return of, with_graph(ModalityVectors(vectors, np.ones(18, dtype=bool)), of.popularity > 0, 4)


@pytest.mark.parametrize("kind", ["ease", "als", "spectral", "user_knn"])
def test_propagated_cold_item_of_the_users_block_is_above_the_other(kind):
    of, content = cold_world()
    params = {"factors": 4, "regularization": 1.0} if kind == "als" else {}
    retriever = propagated(fit_behaviour(kind, of, params), "text", content.graph, of.popularity, below=4)
    scores = retriever.scores(of, np.arange(12))[:, 16:]
    assert (np.argmax(scores, axis=1) == np.arange(12) % 2).all()


def test_propagated_appended_items_change_no_other_score():
    of, content = cold_world()
    inner = fit_behaviour("ease", of, {})
    twin = Encoded(content.vectors[[0, 9]], np.ones(2, dtype=bool))
    grown = extended(content, twin, of.popularity > 0, 4)
    degree = np.append(of.popularity, [0, 0]).astype(np.float32)
    old = propagated(inner, "text", content.graph, of.popularity, 4).scores(of, np.arange(12))
    new = propagated(inner.resized(20), "text", grown.graph, degree, 4).scores(
        of.resized(12, 20), np.arange(12)
    )
    np.testing.assert_array_equal(new[:, :18], old)
    assert (np.argmax(new[:, 18:], axis=1) == np.arange(12) % 2).all()


@pytest.mark.parametrize("beside", [False, True])
def test_retrieve_scores_of_the_inner_retriever_are_made_once(beside, monkeypatch):
    of, content = cold_world()
    inner = fit_behaviour("ease", of, {})
    carried = propagated(inner, "text", content.graph, of.popularity, 4)
    calls = []
    once = ItemItemRetriever.scores
    monkeypatch.setattr(
        ItemItemRetriever, "scores", lambda self, *args: (calls.append(self), once(self, *args))[1]
    )
    sources = [inner, carried] if beside else [carried]
    (found,) = retrieve(sources, of, np.arange(12), [5] * len(sources), of.seen)
    assert calls == [inner]
    direct = carried.scores(of, np.arange(12))
    np.testing.assert_array_equal(found.scores[:, -1], direct[found.queries, found.items])
    assert isinstance(carried, PropagatedRetriever)
    assert candidates.BATCH_CELLS >= 12 * of.n_items
