"""Intervals over queries and seeds."""

from __future__ import annotations

import numpy as np
import pytest

from ensembles.gate import bootstrap_mean
from modalrank.robustness.draws import Draws

RNG = np.random.default_rng(0)


def test_one_row_gives_the_bootstrap_over_queries():
    values = RNG.random(300)
    found, plain = Draws(300, 3, 4000, 0).interval(values[None]), bootstrap_mean(values, 4000)
    assert found.mean == pytest.approx(plain.mean) and found.n == 300
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.004)


def test_seeds_that_differ_widen_the_interval_and_equal_ones_do_not():
    values = RNG.random(500)
    draws = Draws(500, 4, 2000, 0)
    alone = draws.interval(values[None])
    same = draws.interval(np.tile(values, (4, 1)))
    shifted = draws.interval(values + np.array([[-0.2], [-0.1], [0.1], [0.2]]))
    assert (same.low, same.high) == pytest.approx((alone.low, alone.high), abs=1e-6)
    assert shifted.mean == pytest.approx(alone.mean)
    assert shifted.high - shifted.low > 3 * (alone.high - alone.low)


def test_interval_covers_the_mean_of_a_crossed_population():
    """Query and seed effects are both drawn anew; nominal 95% must cover at least 85% of the time."""
    rng, covered = np.random.default_rng(1), 0
    for trial in range(200):
        values = rng.normal(0, 1, 60) + rng.normal(0, 0.3, (8, 1)) + rng.normal(0, 0.2, (8, 60))
        found = Draws(60, 8, 400, trial).interval(values)
        covered += found.low <= 0 <= found.high
    assert covered >= 170


def test_queries_without_a_value_are_left_out():
    values = np.array([[1.0, np.nan, 3.0, 1.0], [1.0, np.nan, 3.0, 1.0]])
    found = Draws(4, 2, 1000, 0).interval(values)
    assert found.mean == pytest.approx(5 / 3) and found.n == 3
    assert 1.0 <= found.low <= found.high <= 3.0


def test_too_few_values_have_no_bounds():
    draws = Draws(3, 1, 100, 0)
    one = draws.interval(np.array([[np.nan, 2.0, np.nan]]))
    assert (one.mean, one.n) == (2.0, 1) and np.isnan([one.low, one.high]).all()
    none = draws.interval(np.full((1, 3), np.nan))
    assert none.n == 0 and np.isnan(none.mean)


def test_same_seed_same_interval():
    values = RNG.random((2, 50))
    assert Draws(50, 2, 300, 5).interval(values) == Draws(50, 2, 300, 5).interval(values)
