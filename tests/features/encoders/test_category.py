from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.encoders.category import CategoryEncoder
from features.errors import DataError

HERE = Path()


def test_encode_one_position_a_category_whatever_the_case() -> None:
    table = pl.DataFrame({"country": ["DE", "br", None, " de ", "BR"]})
    encoder = CategoryEncoder().fit(table, HERE)
    assert encoder.categories_ == ("br", "de")
    got = encoder.encode(table, HERE)
    assert got.present.tolist() == [True, True, False, True, True]
    np.testing.assert_array_equal(got.vectors, [[0, 1], [1, 0], [0, 0], [0, 1], [1, 0]])


def test_encode_rare_and_unknown_categories_share_the_last_position() -> None:
    table = pl.DataFrame({"device": ["tv", "tv", "phone", "phone", "car"]})
    encoder = CategoryEncoder(most=2).fit(table, HERE)
    got = encoder.encode(pl.DataFrame({"device": ["car", "watch", "tv"]}), HERE)
    np.testing.assert_array_equal(got.vectors.argmax(axis=1), [2, 2, 1])
    assert got.present.all()
    assert CategoryEncoder(min_count=2).fit(table, HERE).categories_ == ("phone", "tv")


def test_encode_unknown_category_without_rare_ones_is_absent() -> None:
    encoder = CategoryEncoder().fit(pl.DataFrame({"device": ["tv", "phone"]}), HERE)
    assert not encoder.encode(pl.DataFrame({"device": ["watch"]}), HERE).present.any()


@pytest.mark.parametrize("values", [[3, 1, 3], [True, False, True]])
def test_fit_whole_numbers_and_flags_are_categories(values: list[object]) -> None:
    table = pl.DataFrame({"zone": values})
    vectors = CategoryEncoder().fit(table, HERE).encode(table, HERE).vectors
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert vectors[0] @ vectors[1] == 0


def test_fit_fractions_name_the_column() -> None:
    with pytest.raises(DataError, match="column 'zone': got type Float64"):
        CategoryEncoder().fit(pl.DataFrame({"zone": [0.5]}), HERE)
