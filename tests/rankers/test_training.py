from __future__ import annotations

from dataclasses import replace

import numpy as np

from rankers.training import canonical, prepare
from tests.rankers.planted import planted_frame, reorder, shuffled_rows, with_labels

FRAME = planted_frame(6, 5)
WEIGHTS = np.array([1, 2, 3, 4, 5, 9], dtype=np.float32)


def test_canonical_sorts_queries_then_items():
    ordered = canonical(FRAME)
    np.testing.assert_array_equal(ordered.queries, np.repeat(np.arange(6), 5))
    for start in range(0, 30, 5):
        assert (np.diff(ordered.items[start : start + 5]) > 0).all()


def test_canonical_keeps_rows_whole():
    rows = {
        (q, i): (*f, y)
        for q, i, f, y in zip(FRAME.queries, FRAME.items, FRAME.features, FRAME.labels, strict=True)
    }
    ordered = canonical(FRAME)
    for q, i, f, y in zip(ordered.queries, ordered.items, ordered.features, ordered.labels, strict=True):
        np.testing.assert_array_equal((*f, y), rows[q, i])


def test_canonical_weights_follow_their_queries_and_have_mean_one():
    ordered = canonical(replace(FRAME, query_weights=WEIGHTS))
    by_code = dict(zip(FRAME.queries[FRAME.offsets[:-1]], WEIGHTS, strict=True))
    np.testing.assert_allclose(ordered.query_weights, np.array([by_code[q] for q in range(6)]) / 4)


def test_canonical_any_order_same_frame():
    shuffled = canonical(reorder(FRAME, shuffled_rows(FRAME, 1)))
    np.testing.assert_array_equal(shuffled.features, canonical(FRAME).features)


def test_prepare_valid_queries_without_contrast_are_left_out():
    labels = FRAME.labels.copy()
    labels[:5] = 1
    _, valid = prepare(FRAME, with_labels(FRAME, labels))
    assert valid is not None
    assert valid.n_queries == 5
    assert FRAME.queries[0] not in valid.queries


def test_prepare_empty_valid_becomes_none_with_a_warning(caplog):
    _, valid = prepare(FRAME, FRAME.take_rows(np.zeros(30, dtype=bool)))
    assert valid is None
    assert "without early stopping" in caplog.text
