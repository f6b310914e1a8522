from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.encoders.projection import (
    GRID_BITS,
    OUTLIER,
    Projection,
    exact_product,
    fit_projection,
    leading_directions,
    to_grid,
)


def fitted(
    rows: np.ndarray, *, standardize: bool = True, dim: int | None = None, blocks: list[int] | None = None
) -> Projection:
    projection = fit_projection(rows, standardize=standardize, dim=dim, blocks=blocks)
    assert projection is not None
    return projection


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    n_inputs=st.integers(1, 700),
    chunk=st.integers(1, 70),
    magnitude=st.floats(-30, 30),
)
def test_exact_product_any_chunks_and_order_of_inputs_gives_the_same_bits(
    seed: int, n_inputs: int, chunk: int, magnitude: float
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(70, n_inputs)) * 10.0**magnitude
    directions = to_grid(leading_directions(rng.normal(size=(70, n_inputs)), 9))
    whole = exact_product(rows, directions)
    parts = [exact_product(rows[i : i + chunk], directions) for i in range(0, 70, chunk)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    inputs = rng.permutation(n_inputs)
    assert exact_product(rows[:, inputs], directions[:, inputs]).tobytes() == whole.tobytes()


def test_exact_product_random_rows_is_close_to_the_plain_product() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 300))
    directions = leading_directions(rng.normal(size=(60, 300)), 5)
    np.testing.assert_allclose(exact_product(rows, to_grid(directions)), rows @ directions.T, atol=2e-5)


def test_exact_product_zero_row_stays_zero() -> None:
    assert not exact_product(np.zeros((2, 3)), to_grid(np.eye(3))).any()


def test_to_grid_half_a_step_is_the_largest_change() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, size=1000)
    assert np.abs(to_grid(values) - values).max() <= 0.5 * 2.0**-GRID_BITS


def test_fit_projection_standardized_rows_have_mean_0_and_deviation_1() -> None:
    rows = np.random.default_rng(0).normal(3, 7, size=(200, 4)).astype(np.float32)
    scaled = fitted(rows).apply(rows)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)


def test_fit_projection_blocks_weigh_the_same_and_keep_their_proportions() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 5)) * [10, 1, 0.3, 0.2, 0.1]
    scaled = fitted(rows, blocks=[2, 3]).apply(rows)
    variances = scaled.var(axis=0)
    np.testing.assert_allclose([variances[:2].sum(), variances[2:].sum()], 1, rtol=1e-5)
    np.testing.assert_allclose(variances[0] / variances[1], rows[:, 0].var() / rows[:, 1].var(), rtol=1e-4)


def test_fit_projection_neither_scaled_nor_rotated_keeps_the_bits() -> None:
    rows = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32) * 1000
    assert fitted(rows, standardize=False).apply(rows).tobytes() == rows.tobytes()


def test_fit_projection_constant_inputs_become_zero() -> None:
    rows = np.full((7, 2), 0.1)
    np.testing.assert_array_equal(fitted(rows).apply(rows), 0)
    np.testing.assert_array_equal(fitted(rows, dim=2).apply(rows), np.zeros((7, 1)))


def test_fit_projection_rows_in_a_plane_keep_two_components() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 6))
    projection = fitted(rows, standardize=False, dim=5)
    assert projection.width == 2
    projected = projection.apply(rows).astype(np.float64)
    expected = np.linalg.norm(rows[0] - rows[1:], axis=1)
    np.testing.assert_allclose(np.linalg.norm(projected[0] - projected[1:], axis=1), expected, rtol=1e-4)


def test_fit_projection_planted_direction_comes_first_with_a_positive_largest_entry() -> None:
    rng = np.random.default_rng(0)
    planted = np.array([0.6, -0.8, 0.0])
    rows = rng.normal(size=(300, 1)) * 10 * planted + rng.normal(size=(300, 3))
    components = fitted(rows, standardize=False, dim=1).components
    assert components is not None
    np.testing.assert_allclose(components[0], -planted, atol=0.03)


def test_fit_projection_no_rows_gives_none() -> None:
    assert fit_projection(np.zeros((0, 5)), standardize=True, dim=2) is None


def test_apply_outlier_is_clipped() -> None:
    projection = fitted(np.random.default_rng(0).normal(size=(100, 1)))
    np.testing.assert_array_equal(projection.apply(np.array([[1e30], [-1e30]])), [[OUTLIER], [-OUTLIER]])


def test_apply_largest_float32_rotated_stays_finite() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    projection = fitted(rows, standardize=False, dim=20)
    assert np.isfinite(projection.apply(np.full((1, 20), np.finfo(np.float32).max))).all()


def test_leading_directions_repeated_calls_are_bit_equal() -> None:
    matrix = np.random.default_rng(0).normal(size=(80, 60))
    assert leading_directions(matrix, 10).tobytes() == leading_directions(matrix, 10).tobytes()


def test_leading_directions_agree_with_the_exact_decomposition() -> None:
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.normal(size=(90, 12)))
    right, _ = np.linalg.qr(rng.normal(size=(50, 12)))
    matrix = left * (0.7 ** np.arange(12)) @ right.T
    exact = np.linalg.svd(matrix)[2][:4]
    found = leading_directions(matrix, 4)
    np.testing.assert_allclose(np.abs((found * exact).sum(axis=1)), 1, atol=1e-6)


@pytest.mark.parametrize("dim", [None, 3])
def test_fit_projection_float16_rows_do_not_overflow(dim: int | None) -> None:
    rows = np.full((3000, 4), 60_000, dtype=np.float16)
    rows[::2] = 0
    projected = fitted(rows, dim=dim).apply(rows)
    np.testing.assert_allclose(np.abs(projected).max(axis=0), 1 if dim is None else 2, rtol=1e-3)
