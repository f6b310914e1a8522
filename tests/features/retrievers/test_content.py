from __future__ import annotations

import numpy as np

from features.retrievers import content_retrievers, fit_behaviour
from features.space import ModalityVectors
from tests.features.planted import history_of
from tests.features.retrievers.world import N_ITEMS, N_WARM, history, modality


def test_content_retrievers_are_profiles_neighbours_and_carried_behaviour():
    behaviour = [fit_behaviour(kind, history(), {}) for kind in ("item_knn", "rp3beta")]
    retrievers = content_retrievers({"text": modality()}, behaviour, history().popularity)
    names = [(retriever.name, retriever.block) for retriever in retrievers]
    assert names == [("text_profile", "text"), ("content_knn", "content"), ("rp3beta_content", "content")]


def test_content_neighbours_know_the_items_with_a_modality_and_score_their_cosines():
    (_, nearest) = content_retrievers({"text": modality()}, [], history().popularity)
    np.testing.assert_array_equal(nearest.known, modality().present)
    first = history_of([(0, 0, 1.0, 0)], 1, N_ITEMS)
    scores = nearest.scores(first, np.array([0]))
    np.testing.assert_allclose(scores[0, :N_WARM], modality().graph.toarray()[0, :N_WARM], rtol=1e-6)


def test_content_retrievers_of_two_modalities_add_their_cosines():
    both = {"text": modality(), "image": modality()}
    nearest = content_retrievers(both, [], history().popularity)[2]
    np.testing.assert_allclose(nearest.weights.toarray(), 2 * modality().graph.toarray(), rtol=1e-6)


def test_content_retrievers_without_a_graph_are_none():
    bare = ModalityVectors(modality().vectors, modality().present)
    assert content_retrievers({"text": bare}, [], history().popularity) == ()
