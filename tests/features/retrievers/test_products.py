from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.item_models import unit_rows
from features.retrievers import products
from features.retrievers.products import ITEM_BITS, USER_BITS, exact_products, on_grid


def vectors(n: int, width: int, seed: int, dtype: type = np.float32) -> np.ndarray:
    """Return rows of very different lengths, some of zeros."""
    rng = np.random.default_rng(seed)
    lengths = 10.0 ** rng.integers(-8, 8, size=(n, 1))
    return (rng.normal(size=(n, width)) * lengths * (rng.random((n, 1)) > 0.1)).astype(dtype)


def product(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    return np.concatenate([part for _, part in exact_products(users, items)], axis=1)


@pytest.mark.parametrize(("bits", "dtype"), [(ITEM_BITS, np.float32), (USER_BITS, np.float64)])
def test_on_grid_moves_a_row_by_no_more_than_its_length_allows(bits, dtype):
    rows = vectors(50, 30, 0, dtype)
    rounded = on_grid(rows, bits)
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    assert rounded.dtype == dtype
    assert (np.abs(rounded - rows.astype(np.float64)) <= length * 2.0 ** (1 - bits)).all()


@pytest.mark.parametrize(("bits", "dtype"), [(ITEM_BITS, np.float32), (USER_BITS, np.float64)])
def test_on_grid_again_changes_nothing(bits, dtype):
    # Lengths of 1 are at the border of two grids.
    for rows in (vectors(50, 30, 0, dtype), unit_rows(vectors(5000, 3, 1, dtype))):
        rounded = on_grid(rows, bits)
        np.testing.assert_array_equal(on_grid(rounded, bits), rounded)


@given(st.integers(1, 9), st.integers(1, 70), st.integers(0, 10))
def test_exact_products_are_the_same_bits_in_any_order_of_the_sum(n_users, width, seed):
    users, items = vectors(n_users, width, seed, np.float64), on_grid(vectors(12, width, seed + 1))
    whole = product(users, items)
    order = np.random.default_rng(seed).permutation(width)
    one_by_one = np.zeros_like(whole)
    for column in order:
        one_by_one += np.outer(on_grid(users, USER_BITS)[:, column], items[:, column].astype(np.float64))
    np.testing.assert_array_equal(whole, one_by_one)
    np.testing.assert_array_equal(product(users[-1:], items), whole[-1:])


def test_exact_products_are_close_to_the_plain_ones():
    users, items = vectors(20, 64, 0, np.float64), on_grid(vectors(40, 64, 1))
    scale = np.linalg.norm(users, axis=1)[:, None] * np.linalg.norm(items.astype(np.float64), axis=1)
    error = np.abs(product(users, items) - users @ items.astype(np.float64).T)
    assert (error <= 1e-6 * scale).all()


def test_exact_products_size_of_the_chunks_does_not_matter(monkeypatch):
    users, items = vectors(5, 16, 0, np.float64), on_grid(vectors(40, 16, 1))
    whole = product(users, items)
    monkeypatch.setattr(products, "CHUNK", 7)
    np.testing.assert_array_equal(product(users, items), whole)
    assert product(users[:0], items).shape == (0, 40)
