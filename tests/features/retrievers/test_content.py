from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.encoders.base import Encoded
from features.retrievers import content_retrievers, fit_behaviour
from features.retrievers.content import balanced
from features.space import ModalityVectors, extended
from tests.features.planted import history_of
from tests.features.retrievers.world import N_ITEMS, N_WARM, history, modality


def test_content_retrievers_are_neighbours_a_regression_and_carried_behaviour():
    behaviour = [fit_behaviour(kind, history(), {}) for kind in ("item_knn", "rp3beta")]
    retrievers = content_retrievers({"text": modality()}, behaviour, history())
    names = [(retriever.name, retriever.block) for retriever in retrievers]
    assert names == [
        ("text_neighbours", "text"),
        ("content_knn", "content"),
        ("content_regression", "content"),
        ("rp3beta_content", "content"),
    ]


def test_content_neighbours_know_the_items_with_a_modality_and_score_their_cosines():
    nearest = content_retrievers({"text": modality()}, [], history())[1]
    np.testing.assert_array_equal(nearest.known, modality().present)
    first = history_of([(0, 0, 1.0, 0)], 1, N_ITEMS)
    scores = nearest.scores(first, np.array([0]))
    expected = balanced(modality().graph, history().popularity > 0).toarray()
    np.testing.assert_allclose(scores[0, :N_WARM], expected[0, :N_WARM], rtol=1e-6)


def test_content_retrievers_of_two_modalities_weigh_them_the_same():
    faint = replace(modality(), graph=modality().graph * 0.01)
    alone = content_retrievers({"text": modality()}, [], history())[1]
    both = content_retrievers({"text": modality(), "image": faint}, [], history())[2]
    np.testing.assert_allclose(both.weights.toarray(), 2 * alone.weights.toarray(), rtol=1e-5)


def test_balanced_weights_to_a_known_item_sum_to_1_on_average():
    known = history().popularity > 0
    sums = balanced(modality().graph, known).toarray().sum(axis=0)
    assert sums[known & (sums > 0)].mean() == pytest.approx(1, rel=1e-5)
    nobody = np.zeros(N_ITEMS, dtype=bool)
    np.testing.assert_array_equal(balanced(modality().graph, nobody).toarray(), modality().graph.toarray())


def test_content_retrievers_without_a_graph_are_none():
    bare = ModalityVectors(modality().vectors, modality().present)
    assert content_retrievers({"text": bare}, [], history()) == ()


def test_content_retrievers_of_appended_items_change_no_other_score():
    known, more = history().popularity > 0, history().resized(history().n_users, N_ITEMS + 2)
    behaviour = [fit_behaviour("rp3beta", history(), {})]
    twin = Encoded(modality().vectors[[0, 1]], np.array([True, False]))
    grown = extended(modality(), twin, known, neighbours=20)
    before = content_retrievers({"text": modality()}, behaviour, history())
    later = content_retrievers({"text": grown}, [behaviour[0].resized(N_ITEMS + 2)], more)
    everybody = np.arange(history().n_users)
    for old, new in zip(before, later, strict=True):
        scores = new.scores(more, everybody)
        np.testing.assert_array_equal(scores[:, :N_ITEMS], old.scores(history(), everybody), err_msg=new.name)
        assert np.isnan(scores[:, N_ITEMS + 1]).all(), "it has no text"
    assert (later[0].scores(more, everybody)[:, N_ITEMS] > 0).any()
