from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from features.per_query import average_ranks, min_max, normalise, spread, z_scores

NAN = np.nan
ONE = np.array([0, 4])


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


@st.composite
def frames_of_scores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=6))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    values = st.one_of(st.just(NAN), st.floats(-1e6, 1e6), st.sampled_from([0.0, 0.1, 1.0]))
    return draw(hnp.arrays(np.float64, (int(offsets[-1]), 2), elements=values)), offsets


def test_z_scores_hand_computed() -> None:
    z = z_scores(column(1.0, 3.0, NAN, 5.0), ONE)
    np.testing.assert_allclose(z[:, 0], [-np.sqrt(1.5), 0.0, NAN, np.sqrt(1.5)], atol=1e-15)


def test_min_max_hand_computed() -> None:
    np.testing.assert_array_equal(min_max(column(1.0, 2.0, NAN, 5.0), ONE)[:, 0], [0.0, 0.25, NAN, 1.0])


def test_average_ranks_hand_computed() -> None:
    ranks = average_ranks(column(7.0, 2.0, 7.0, 9.0), ONE)[:, 0]
    np.testing.assert_array_equal(ranks, [2.5 / 4, 1 / 4, 2.5 / 4, 1.0])


def test_average_ranks_absent_opinion_is_not_counted() -> None:
    np.testing.assert_array_equal(average_ranks(column(7.0, NAN, 2.0, NAN), ONE)[:, 0], [1.0, NAN, 0.5, NAN])


@pytest.mark.parametrize("value", [0.1, -3.0, 1e300])
def test_normalise_constant_query_is_neutral(value: float) -> None:
    views = normalise(column(value, value, value, NAN), ONE)
    np.testing.assert_array_equal(views.z[:, 0], [0.0, 0.0, 0.0, NAN])
    np.testing.assert_array_equal(views.unit[:, 0], [0.5, 0.5, 0.5, NAN])
    np.testing.assert_array_equal(views.rank[:, 0], [2 / 3, 2 / 3, 2 / 3, NAN])


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_z_scores_extreme_scale_neither_over_nor_underflows(scale: float) -> None:
    z = z_scores(scale * column(1.0, 3.0, 5.0, 7.0), ONE)
    np.testing.assert_allclose(z, z_scores(column(1.0, 3.0, 5.0, 7.0), ONE), rtol=1e-12)


def test_normalise_empty_frame_is_empty() -> None:
    assert normalise(np.zeros((0, 3)), np.array([0])).z.shape == (0, 3)
    assert min_max(np.zeros((4, 0)), ONE).shape == (4, 0)


@given(frames_of_scores())
def test_normalise_absent_opinions_change_no_other_view(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    """The views of a base are those of a frame without the candidates it says nothing of.

    Sums of more terms, be they zeros, may be rounded otherwise, so that z-scores agree to the last digits.
    """
    scores, offsets = drawn
    whole = normalise(scores, offsets)
    for base in range(scores.shape[1]):
        known = ~np.isnan(scores[:, base])
        borders = np.concatenate([[0], np.cumsum(known)])[offsets].astype(np.int64)
        alone = normalise(scores[known][:, [base]], borders)
        np.testing.assert_array_equal(whole.unit[known, base], alone.unit[:, 0])
        np.testing.assert_array_equal(whole.rank[known, base], alone.rank[:, 0])
        np.testing.assert_allclose(whole.z[known, base], alone.z[:, 0], rtol=1e-9, atol=1e-12)
        for views in (whole.z, whole.unit, whole.rank):
            assert np.isnan(views[~known, base]).all()


@given(frames_of_scores())
def test_normalise_any_query_alone_gives_the_same_bits(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    scores, offsets = drawn
    together = normalise(scores, offsets)
    for start, stop in pairwise(offsets):
        alone = normalise(scores[start:stop], np.array([0, stop - start]))
        np.testing.assert_array_equal(alone.z, together.z[start:stop])
        np.testing.assert_array_equal(alone.unit, together.unit[start:stop])
        np.testing.assert_array_equal(alone.rank, together.rank[start:stop])


@given(frames_of_scores(), st.integers(0, 1000))
def test_normalise_any_row_order_gives_the_same_bits(drawn: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    scores, offsets = drawn
    lottery = np.random.default_rng(seed).random(len(scores))
    rows = np.lexsort((lottery, np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))))
    before, after = normalise(scores, offsets), normalise(scores[rows], offsets)
    np.testing.assert_array_equal(after.z, before.z[rows])
    np.testing.assert_array_equal(after.unit, before.unit[rows])
    np.testing.assert_array_equal(after.rank, before.rank[rows])


@given(frames_of_scores())
def test_normalise_ranges_hold(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    scores, offsets = drawn
    views = normalise(scores, offsets)
    known = ~np.isnan(scores)
    for view in (views.z, views.unit, views.rank):
        np.testing.assert_array_equal(np.isnan(view), ~known)
    assert np.all((views.unit[known] >= 0) & (views.unit[known] <= 1))
    assert np.all((views.rank[known] > 0) & (views.rank[known] <= 1))


@pytest.mark.parametrize("size", [7, 9, 129, 1000])
def test_z_scores_long_query_alone_gives_the_same_bits(size: int) -> None:
    scores = np.random.default_rng(size).normal(size=(3 * size + 5, 3))
    offsets = np.array([0, 5, 5 + size, 5 + 2 * size, 5 + 3 * size])
    alone = z_scores(scores[5 + size : 5 + 2 * size], np.array([0, size]))
    np.testing.assert_array_equal(alone, z_scores(scores, offsets)[5 + size : 5 + 2 * size])


def test_spread_hand_computed() -> None:
    columns = np.array([[1.0, 3.0, NAN], [2.0, 2.0, 2.0], [5.0, NAN, NAN], [NAN, NAN, NAN], [0.0, 0.0, 3.0]])
    np.testing.assert_allclose(spread(columns), [1.0, 0.0, 0.0, 0.0, np.sqrt(2.0)], rtol=1e-15)


def test_spread_without_columns_is_0() -> None:
    np.testing.assert_array_equal(spread(np.zeros((3, 0))), np.zeros(3))


@given(
    hnp.arrays(np.float64, (7, 4), elements=st.one_of(st.just(NAN), st.floats(-1e3, 1e3))),
    st.integers(0, 99),
)
def test_spread_is_the_standard_deviation_of_what_is_there(columns: np.ndarray, seed: int) -> None:
    got = spread(columns)
    for value, row in zip(got, columns, strict=True):
        there = row[~np.isnan(row)]
        assert value == pytest.approx(np.std(there) if len(there) else 0.0, abs=1e-9)
    rows = np.random.default_rng(seed).permutation(len(columns))
    np.testing.assert_array_equal(spread(columns[rows]), got[rows])
    np.testing.assert_array_equal(spread(columns[2:3]), got[2:3])
