from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.encoders.vectors import VectorsEncoder
from features.errors import ConfigError, DataError

HERE = Path()


def table(rows: list[object], inner: pl.DataType | type[pl.DataType] = pl.Float64) -> pl.DataFrame:
    return pl.DataFrame({"v": rows}, schema={"v": pl.List(inner)})


ROWS: list[object] = [[1.0, 2.0], None, [3.0, -4.0], [5.5, 0.0]]


def test_encode_lists_arrays_and_columns_are_the_same() -> None:
    lists = table(ROWS)
    arrays = lists.cast(pl.Array(pl.Float32, 2))
    columns = lists.select(pl.col("v").list.get(i).alias(f"c{i}") for i in range(2))
    results = [VectorsEncoder().fit(t, HERE).encode(t, HERE) for t in (lists, arrays, columns)]
    assert results[0].present.tolist() == [True, False, True, True]
    for other in results[1:]:
        assert other.vectors.tobytes() == results[0].vectors.tobytes()
        assert other.present.tolist() == results[0].present.tolist()


def test_encode_not_standardized_keeps_values_and_zeros_the_missing() -> None:
    encoder = VectorsEncoder(standardize=False).fit(table(ROWS), HERE)
    np.testing.assert_array_equal(
        encoder.encode(table(ROWS), HERE).vectors, [[1, 2], [0, 0], [3, -4], [5.5, 0]]
    )


def test_encode_empty_list_is_missing() -> None:
    encoder = VectorsEncoder().fit(table([[1.0], [], [2.0]]), HERE)
    assert encoder.encode(table([[], [1.5]]), HERE).present.tolist() == [False, True]


def test_fit_float16_does_not_overflow() -> None:
    half = table([[60_000.0, 1.0], [50_000.0, 2.0]] * 2000, pl.Float16)
    vectors = VectorsEncoder().fit(half, HERE).encode(half, HERE).vectors
    np.testing.assert_allclose(vectors[:2], [[1, -1], [-1, 1]], atol=1e-6)


def test_fit_unequal_lengths_name_row_and_both_lengths() -> None:
    message = "column 'v', row 4: got a vector of length 3, expected 2 as elsewhere"
    with pytest.raises(DataError, match=message):
        VectorsEncoder().fit(table([None, [1.0, 2.0], [1.0, 2.0], [1.0, 2.0, 3.0]]), HERE)


@pytest.mark.parametrize("hole", [None, float("nan"), float("inf"), 1e300])
def test_fit_hole_in_a_vector_names_row_and_component(hole: float | None) -> None:
    message = "column 'v', row 3: got null, NaN or infinity .* as component 2"
    with pytest.raises(DataError, match=message):
        VectorsEncoder().fit(table([[1.0, 2.0], None, [1.0, hole]]), HERE)


def test_fit_hole_in_component_columns_names_the_column() -> None:
    columns = pl.DataFrame({"a": [1.0, None, 3.0], "b": [1.0, None, None]})
    with pytest.raises(DataError, match="column 'b', row 3: got null"):
        VectorsEncoder().fit(columns, HERE)


def test_encode_other_length_is_refused() -> None:
    encoder = VectorsEncoder().fit(table(ROWS), HERE)
    with pytest.raises(DataError, match="row 2: got vectors of length 3, expected 2 as in training"):
        encoder.encode(table([None, [1.0, 2.0, 3.0]]), HERE)


def test_encode_principal_components_keep_distances_of_a_plane() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 10))
    data = table(rows.tolist())
    encoder = VectorsEncoder(standardize=False, dim=2).fit(data, HERE)
    got = encoder.encode(data, HERE).vectors.astype(np.float64)
    assert encoder.width == 2
    expected = np.linalg.norm(rows[0] - rows[1:], axis=1)
    np.testing.assert_allclose(np.linalg.norm(got[0] - got[1:], axis=1), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "data",
    [
        pl.DataFrame({"v": [["a"]]}),
        pl.DataFrame({"v": ["a"]}),
        pl.DataFrame({"v": [[[1.0]]]}),
    ],
    ids=["texts", "text", "nested"],
)
def test_fit_wrong_type_names_the_column(data: pl.DataFrame) -> None:
    with pytest.raises(DataError, match=r"column 'v': got type .* lists of numbers"):
        VectorsEncoder().fit(data, HERE)


def test_fit_two_list_columns_are_refused() -> None:
    with pytest.raises(DataError, match="got 2 columns"):
        VectorsEncoder().fit(pl.DataFrame({"v": [[1.0]], "w": [[1.0]]}), HERE)


def test_init_standardize_not_a_flag_is_refused() -> None:
    with pytest.raises(ConfigError, match="standardize: got 1"):
        VectorsEncoder(standardize=1)  # type: ignore[arg-type]
