from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.encoders.numeric import NORMAL_QUARTILES, NumericEncoder
from features.errors import DataError
from features.item_models import unit_rows

HERE = Path()


def test_encode_values_are_scaled_by_median_and_quartiles() -> None:
    table = pl.DataFrame({"x": [0.0, 10.0, 20.0, 30.0, 40.0]})
    vectors = NumericEncoder().fit(table, HERE).encode(table, HERE).vectors
    expected = (np.arange(5) * 10 - 20) / (20 / NORMAL_QUARTILES)
    np.testing.assert_allclose(vectors[:, 0], expected, rtol=1e-6)


def test_fit_one_huge_value_leaves_the_scale_of_the_others() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    plain = NumericEncoder().fit(pl.DataFrame({"x": values}), HERE)
    values[0] = 1e12
    spoilt = NumericEncoder().fit(pl.DataFrame({"x": values}), HERE)
    probe = pl.DataFrame({"x": [-1.0, 0.0, 1.0, 1e12]})
    got = spoilt.encode(probe, HERE).vectors
    np.testing.assert_allclose(got[:3], plain.encode(probe, HERE).vectors[:3], atol=0.02)
    assert got[3, 0] == 50


def test_encode_missing_cell_takes_the_median_and_a_row_of_them_is_absent() -> None:
    table = pl.DataFrame({"x": [1.0, 2.0, 9.0, None, float("nan")], "y": [1, None, 3, 4, None]})
    got = NumericEncoder().fit(table, HERE).encode(table, HERE)
    assert got.present.tolist() == [True, True, True, True, False]
    assert got.vectors[1, 1] == 0
    assert got.vectors[3, 0] == 0
    assert got.vectors[3, 1] > 0


def test_encode_column_without_values_in_fit_is_ignored() -> None:
    table = pl.DataFrame({"x": [1.0, 2.0], "y": [None, None]}, schema={"x": pl.Float64, "y": pl.Float64})
    encoder = NumericEncoder().fit(table, HERE)
    got = encoder.encode(pl.DataFrame({"x": [1.0, None], "y": [7.0, 7.0]}), HERE)
    assert got.present.tolist() == [True, False]
    np.testing.assert_array_equal(got.vectors[:, 1:], [[0, 1], [0, 0]])


def test_encode_rare_flag_is_not_constant() -> None:
    table = pl.DataFrame({"sold": [False] * 19 + [True]})
    vectors = NumericEncoder().fit(table, HERE).encode(table, HERE).vectors
    assert vectors[-1, 0] > 1
    assert not vectors[:-1, 0].any()


def test_encode_dates_and_datetimes_are_days() -> None:
    days = [date(2020, 1, 1) + timedelta(days=i) for i in (0, 1, 2, 3, 8)]
    as_dates = pl.DataFrame({"day": days})
    as_times = pl.DataFrame({"day": [datetime(d.year, d.month, d.day) for d in days]})
    as_numbers = pl.DataFrame({"day": [0, 1, 2, 3, 8]})
    expected = NumericEncoder().fit(as_numbers, HERE).encode(as_numbers, HERE).vectors
    encoder = NumericEncoder().fit(as_dates, HERE)
    np.testing.assert_allclose(encoder.encode(as_dates, HERE).vectors, expected, rtol=1e-6)
    for unit in ("ms", "us", "ns"):
        times = as_times.cast(pl.Datetime(unit))
        np.testing.assert_allclose(encoder.encode(times, HERE).vectors, expected, rtol=1e-6)


def test_encode_single_numbers_are_more_alike_the_nearer_they_are() -> None:
    table = pl.DataFrame({"year": [1950, 1990, 1995, 2000, 2020]})
    unit = unit_rows(NumericEncoder().fit(table, HERE).encode(table, HERE).vectors)
    cosines = unit @ unit.T
    for place in range(5):
        assert (np.diff(cosines[place, place:]) < 0).all()
        assert (np.diff(cosines[place, : place + 1]) > 0).all()


def test_encode_what_is_the_median_everywhere_has_a_direction() -> None:
    table = pl.DataFrame({"x": [1.0, 2.0, 3.0], "y": [5.0, 6.0, 7.0]})
    vectors = NumericEncoder().fit(table, HERE).encode(table, HERE).vectors
    np.testing.assert_allclose(vectors[1], [0, 0, np.sqrt(2)], rtol=1e-6)


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_fit_and_encode_infinite_cell_name_column_and_row(value: float) -> None:
    good = pl.DataFrame({"x": [1.0, 2.0], "price": [1.0, 2.0]})
    bad = good.with_columns(price=pl.Series([1.0, value]))
    for broken in (
        lambda: NumericEncoder().fit(bad, HERE),
        lambda: NumericEncoder().fit(good, HERE).encode(bad, HERE),
    ):
        with pytest.raises(DataError, match=r"column 'price', row 2: got -?inf, expected a finite number"):
            broken()


def test_fit_text_names_column_and_type() -> None:
    with pytest.raises(DataError, match="column 'price': got type String, expected numbers"):
        NumericEncoder().fit(pl.DataFrame({"price": ["1,000"]}), HERE)
