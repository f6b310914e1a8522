from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from features.encoders.base import Encoded
from features.item_models import content_knn
from features.space import ModalityVectors, extended, place, with_graph
from tests.features.planted import vectors_of

N, NEW = 30, 6


def random_modality(n: int = N, seed: int = 0) -> ModalityVectors:
    rng = np.random.default_rng(seed)
    present = rng.random(n) < 0.8
    return ModalityVectors(rng.normal(size=(n, 5)).astype(np.float32) * present[:, None], present)


def known_items(n: int = N) -> np.ndarray:
    return np.random.default_rng(9).random(n) < 0.7


def new_items(seed: int = 1) -> Encoded:
    new = random_modality(NEW, seed)
    return Encoded(new.vectors, new.present)


def test_place_puts_rows_at_their_codes_and_leaves_the_others_absent():
    encoded = Encoded(np.array([[1, 2], [3, 4]], dtype=np.float32), np.array([True, True]))
    placed = place(encoded, np.array([3, 1]), 4)
    np.testing.assert_array_equal(placed.vectors, [[0, 0], [3, 4], [0, 0], [1, 2]])
    np.testing.assert_array_equal(placed.present, [False, True, False, True])


def test_place_what_an_absent_row_holds_is_not_read():
    encoded = Encoded(np.array([[np.nan, 7], [3, 4]], dtype=np.float32), np.array([False, True]))
    placed = place(encoded, np.array([0, 1]), 2)
    np.testing.assert_array_equal(placed.vectors, [[0, 0], [3, 4]])
    np.testing.assert_array_equal(placed.present, [False, True])


def test_modality_unit_rows_have_length_1_or_are_absent():
    modality = vectors_of([3, 4], None, [0, 2])
    np.testing.assert_allclose(modality.unit, [[0.6, 0.8], [0, 0], [0, 1]], rtol=1e-6)


def test_with_graph_is_the_content_graph_of_the_known_items():
    modality = random_modality()
    graphed = with_graph(modality, known_items(), 4)
    expected = content_knn(modality.vectors, modality.present, known_items(), neighbours=4)
    np.testing.assert_array_equal(graphed.graph.toarray(), expected.toarray())
    np.testing.assert_array_equal(graphed.vectors, modality.vectors)


def test_extended_old_columns_are_the_same_bits():
    old = with_graph(random_modality(), known_items(), 4)
    new = extended(old, new_items(), known_items(), 4)
    assert new.graph.shape == (N + NEW, N + NEW)
    np.testing.assert_array_equal(new.graph.toarray()[:N, :N], old.graph.toarray())
    np.testing.assert_array_equal(new.vectors[:N], old.vectors)
    np.testing.assert_array_equal(new.unit[:N], old.unit)


def test_extended_new_items_have_the_columns_that_they_would_have_had_from_the_start():
    old, added = random_modality(), new_items()
    later = extended(with_graph(old, known_items(), 4), added, known_items(), 4)
    whole = ModalityVectors(
        np.vstack([old.vectors, added.vectors]), np.concatenate([old.present, added.present])
    )
    known = np.concatenate([known_items(), np.zeros(NEW, dtype=bool)])
    start = with_graph(whole, known, 4)
    np.testing.assert_allclose(later.graph.toarray(), start.graph.toarray(), rtol=1e-5)
    np.testing.assert_array_equal(later.present, whole.present)
    assert later.graph.toarray()[:, N:].any()


def test_extended_known_item_that_is_nobodys_neighbour_is_found_by_its_twin():
    old = with_graph(vectors_of([1, 0], [1, 0.1], [0, 1]), np.ones(3, dtype=bool), 1)
    assert np.diff(old.graph.indptr)[2] == 0
    twin = Encoded(np.array([[0, 2]], dtype=np.float32), np.array([True]))
    grown = extended(old, twin, np.ones(3, dtype=bool), 1)
    np.testing.assert_allclose(grown.graph.toarray()[:, 3], [0, 0, 1, 0], rtol=1e-6)


def test_extended_unknown_and_new_items_are_no_neighbours():
    known = known_items()
    grown = extended(with_graph(random_modality(), known, 4), new_items(), known, 50).graph.toarray()
    assert not grown[:N][~known].any()
    assert not grown[N:].any()


def test_extended_new_item_without_the_modality_has_no_column():
    old = with_graph(random_modality(), known_items(), 4)
    absent = Encoded(np.full((2, 5), np.nan, dtype=np.float32), np.zeros(2, dtype=bool))
    grown = extended(old, absent, known_items(), 4)
    assert not grown.graph.toarray()[:, N:].any()
    np.testing.assert_array_equal(grown.vectors[N:], np.zeros((2, 5)))
    np.testing.assert_array_equal(grown.present[N:], [False, False])


@pytest.mark.parametrize("n_new", [0, NEW])
def test_extended_without_graph_stays_without(n_new):
    new = new_items()
    grown = extended(random_modality(), Encoded(new.vectors[:n_new], new.present[:n_new]), known_items(), 4)
    assert grown.graph is None
    np.testing.assert_array_equal(grown.vectors, np.vstack([random_modality().vectors, new.vectors[:n_new]]))


def worded() -> ModalityVectors:
    """By their vectors item 0 is like 1 and 2 like 3, by their terms 0 is like 2; 3 has a vector alone."""
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], dtype=np.float32)
    terms = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0.8, 0], [0, 0, 0]], dtype=np.float32)
    return ModalityVectors(vectors, np.ones(4, dtype=bool), terms=sparse.csr_array(terms))


def test_place_terms_go_to_the_codes_of_their_rows_and_those_of_absent_rows_nowhere():
    terms = sparse.csr_array(np.array([[0, 1], [1, 0], [0.6, 0.8]], dtype=np.float32))
    encoded = Encoded(np.ones((3, 1), np.float32), np.array([True, False, True]), terms)
    placed = place(encoded, np.array([3, 0, 1]), 4).terms
    np.testing.assert_allclose(placed.toarray(), [[0, 0], [0.6, 0.8], [0, 0], [0, 1]], rtol=1e-6)


def test_with_graph_terms_tell_the_neighbours_and_vectors_those_of_rows_without():
    graph = with_graph(worded(), np.ones(4, dtype=bool), 1).graph.toarray()
    np.testing.assert_allclose(graph[:, 0], [0, 0, 0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(graph[:, 1], [0, 0, 0.8, 0], rtol=1e-6)
    assert np.flatnonzero(graph[:, 3]).tolist() == [2]


def test_without_items_lose_their_terms_too():
    left = worded().without(np.array([False, False, True, False]))
    np.testing.assert_array_equal(left.terms.toarray()[2], 0)
    np.testing.assert_array_equal(left.terms.toarray()[:2], worded().terms.toarray()[:2])
    assert not with_graph(left, np.ones(4, dtype=bool), 1).graph.toarray()[:, :2].any()


def test_extended_new_terms_find_neighbours_as_they_would_have_had_from_the_start():
    new = sparse.csr_array(np.array([[0, 1, 0], [0, 0, 0]], dtype=np.float32))
    added = Encoded(np.ones((2, 2), np.float32), np.array([True, False]), new)
    grown = extended(with_graph(worded(), np.ones(4, dtype=bool), 1), added, np.ones(4, dtype=bool), 1)
    graph = grown.graph.toarray()
    np.testing.assert_array_equal(
        graph[:4, :4], with_graph(worded(), np.ones(4, dtype=bool), 1).graph.toarray()
    )
    np.testing.assert_allclose(graph[:, 4], [0, 1, 0, 0, 0, 0], rtol=1e-6)
    assert not graph[:, 5].any()
    assert grown.terms.shape == (6, 3)


def test_extended_item_without_terms_finds_neighbours_by_its_vector():
    added = Encoded(np.array([[0, 1]], np.float32), np.array([True]))
    grown = extended(with_graph(worded(), np.ones(4, dtype=bool), 1), added, np.ones(4, dtype=bool), 1)
    np.testing.assert_allclose(grown.graph.toarray()[:, 4], [0, 0, 1, 0, 0], rtol=1e-6)


def test_with_graph_nobody_known_is_an_empty_graph():
    nobody = np.zeros(4, dtype=bool)
    graphed = with_graph(worded(), nobody, 3)
    assert graphed.graph.shape == (4, 4) and not graphed.graph.nnz
    added = Encoded(np.ones((1, 2), np.float32), np.array([True]), worded().terms[:1])
    assert not extended(graphed, added, nobody, 3).graph.nnz
