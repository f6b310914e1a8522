"""Dot products of users and items whose bits depend on the two vectors alone.

A matrix product rounds differently in another batch. Here every row is first rounded to so few bits below
its own length that products and sums are exact in float64, in any order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from features.frame import FloatArray

# Together at most 51: two more bits are needed for lengths that rounding made larger, of 53 in a float64.
ITEM_BITS, USER_BITS = 24, 26
CHUNK = 4096


def on_grid(rows: np.ndarray, bits: int = ITEM_BITS) -> np.ndarray:
    """Round every row to multiples of 2^-bits of its length (rounded up to a power of 2); keeps the dtype.

    With ITEM_BITS the result is exact in float32. Rounding again changes nothing.
    """
    rounded = np.ascontiguousarray(rows, dtype=np.float64)
    # Rounding may lift a length over a power of 2, but not twice.
    for _ in range(2):
        length = np.sqrt((rounded * rounded).sum(axis=-1, keepdims=True))
        grid = np.ldexp(1.0, np.frexp(length)[1] - bits)
        rounded = np.rint(rounded / grid) * grid
    return rounded.astype(rows.dtype)


def exact_products(users: np.ndarray, items: FloatArray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield columns and their (n_users, n_columns) float64 dot products with items that are `on_grid`."""
    rounded = on_grid(users.astype(np.float64), USER_BITS)
    for start in range(0, len(items), CHUNK):
        columns = slice(start, min(start + CHUNK, len(items)))
        yield columns, rounded @ items[columns].astype(np.float64).T
