from __future__ import annotations

import numpy as np
import pytest

from features.encoders.base import Encoded
from features.history import History
from features.retrievers import ProjectionRetriever, profile_retriever
from features.space import ModalityVectors, extended, with_graph
from tests.features.planted import history_of, vectors_of

# User 0 likes items 0 and 1, user 1 the absent item 3 too, user 2 that one only.
LIKES = [(0, 0, 1.0, 0), (0, 1, 1.0, 0), (1, 1, 1.0, 0), (1, 3, 1.0, 0), (2, 3, 1.0, 0)]
EVERYBODY = np.arange(3)


def likes(n_items: int) -> History:
    return history_of(LIKES, 3, n_items)


def vectors() -> ModalityVectors:
    return vectors_of([2, 0, 0], [0, 1, 0], [1, 1, 0], None, [0, 0, 5])


def test_profile_retriever_is_the_mean_cosine_about_the_centre():
    retriever = profile_retriever("text", vectors())
    assert (retriever.name, retriever.block) == ("text_profile", "text")
    scores = retriever.scores(likes(5), EVERYBODY)
    present = [0, 1, 2, 4]
    half = 2**-0.5
    unit = np.array([[1, 0, 0], [0, 1, 0], [half, half, 0], [0, 0, 1]])
    centred = unit - unit.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    cosines = centred @ centred.T
    np.testing.assert_allclose(scores[0, present], (cosines[0] + cosines[1]) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores[1, present], cosines[1], rtol=1e-5, atol=1e-6)
    assert np.isnan(scores[:, 3]).all()
    assert np.isnan(scores[2]).all()


@pytest.mark.parametrize("graphed", [False, True])
def test_profile_retriever_appended_items_change_no_other_score(graphed):
    known = np.array([True, True, False, False, True])
    old = with_graph(vectors(), known, 2) if graphed else vectors()
    twin = np.array([[0, 3, 0], [9, 9, 9]], dtype=np.float32)
    grown = profile_retriever("text", extended(old, Encoded(twin, np.array([True, False])), known, 2))
    scores = grown.scores(likes(7), EVERYBODY)
    np.testing.assert_array_equal(scores[:, :5], profile_retriever("text", old).scores(likes(5), EVERYBODY))
    np.testing.assert_array_equal(scores[:, 5], scores[:, 1])
    assert np.isnan(scores[:, 6]).all()


def test_projection_likes_power_divides_by_the_known_likes():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 5, 4)).astype(np.float32)
    known = np.array([True, True, True, False, True])
    total, mean, root = (
        ProjectionRetriever("p", "behaviour", source, target, known, power).scores(likes(5), EVERYBODY)
        for power in (0.0, 1.0, 0.5)
    )
    np.testing.assert_allclose(mean[0], total[0] / 2, rtol=1e-6)
    np.testing.assert_allclose(root[0], total[0] / 2**0.5, rtol=1e-6)
    np.testing.assert_array_equal(mean[1], total[1])
    expected = (source[0] + source[1]) @ target.T
    np.testing.assert_allclose(total[0, known], expected[known], rtol=1e-5)


def test_centred_rows_have_length_1_or_are_absent():
    centred = vectors().centred
    np.testing.assert_allclose(np.linalg.norm(centred, axis=1), [1, 1, 1, 0, 1], rtol=1e-6)
    nobody = ModalityVectors(np.zeros((2, 3), np.float32), np.zeros(2, dtype=bool))
    np.testing.assert_array_equal(nobody.centred, np.zeros((2, 3)))
