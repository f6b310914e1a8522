"""What every encoder must do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from features.encoders import Encoded, Encoder, encoder_digest, load_encoder, make_encoder, save_encoder
from features.encoders.source import Place
from features.encoders.terms import take
from features.errors import DataError
from tests.features.encoders.conftest import MISSING, N_ROWS, Case


def fitted(case: Case, source: Place, seed: int = 0) -> Encoder:
    return make_encoder(case.kind, case.params).fit(case.table(seed), source)


@pytest.fixture(scope="session")
def encoder(case: Case, source: Place) -> Encoder:
    return fitted(case, source)


@pytest.fixture(scope="session")
def encoded(case: Case, encoder: Encoder, source: Place) -> Encoded:
    return encoder.encode(case.table(0), source)


def digest(encoder: Encoder, folder: Path) -> str:
    save_encoder(encoder, folder)
    return encoder_digest(folder)


def assert_same_bits(got: Encoded, expected: Encoded) -> None:
    np.testing.assert_array_equal(got.present, expected.present)
    assert got.vectors.tobytes() == expected.vectors.tobytes()
    assert (got.terms is None) == (expected.terms is None)
    if got.terms is not None and expected.terms is not None:
        assert got.terms.toarray().tobytes() == expected.terms.toarray().tobytes()


def test_vectors_any_encoder_are_finite_float32_of_its_width(encoder: Encoder, encoded: Encoded) -> None:
    assert encoded.vectors.shape == (N_ROWS, encoder.width)
    assert encoded.vectors.dtype == np.float32
    assert np.isfinite(encoded.vectors).all()
    assert len(np.unique(encoded.vectors, axis=0)) > N_ROWS / 2


def test_present_missing_rows_are_absent_zeros(encoded: Encoded) -> None:
    np.testing.assert_array_equal(encoded.present, np.arange(N_ROWS) % MISSING != 0)
    assert not encoded.vectors[~encoded.present].any()
    assert encoded.vectors[encoded.present].any()


def test_encode_unseen_rows_changes_nothing_learned(
    case: Case, source: Place, encoded: Encoded, tmp_path: Path
) -> None:
    encoder = fitted(case, source)
    before = digest(encoder, tmp_path / "before")
    unseen = encoder.encode(case.table(1), source)
    assert unseen.vectors.shape == encoded.vectors.shape
    assert np.isfinite(unseen.vectors).all()
    assert unseen.present.sum() > N_ROWS / 2
    assert digest(encoder, tmp_path / "after") == before
    assert_same_bits(encoder.encode(case.table(0), source), encoded)


def test_load_saved_encoder_encodes_the_same_bits(
    case: Case, source: Place, encoder: Encoder, encoded: Encoded, tmp_path: Path
) -> None:
    save_encoder(encoder, tmp_path / "saved")
    loaded = load_encoder(tmp_path / "saved")
    assert loaded.width == encoder.width
    assert_same_bits(loaded.encode(case.table(0), source), encoded)
    assert digest(loaded, tmp_path / "again") == encoder_digest(tmp_path / "saved")


def test_save_any_encoder_writes_json_and_plain_arrays_only(encoder: Encoder, tmp_path: Path) -> None:
    save_encoder(encoder, tmp_path / "saved")
    paths = list((tmp_path / "saved").iterdir())
    assert {path.suffix for path in paths} <= {".json", ".npy"}
    for path in paths:
        if path.suffix == ".npy":
            np.load(path, allow_pickle=False)


def test_digest_equal_fits_are_equal_and_other_data_differ(
    case: Case, source: Place, encoder: Encoder, tmp_path: Path
) -> None:
    first = digest(encoder, tmp_path / "first")
    assert digest(fitted(case, source), tmp_path / "second") == first
    assert digest(fitted(case, source, seed=2), tmp_path / "other") != first


def test_fit_permuted_rows_learns_the_same(
    case: Case, source: Place, encoder: Encoder, tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(N_ROWS)
    permuted = make_encoder(case.kind, case.params).fit(case.table(0)[order], source)
    assert digest(permuted, tmp_path / "permuted") == digest(encoder, tmp_path / "first")


@settings(deadline=None, max_examples=12)
@given(order=st.permutations(range(N_ROWS)), chunk=st.integers(1, N_ROWS))
def test_encode_any_order_and_chunks_gives_the_same_bits(
    case: Case, source: Place, encoder: Encoder, encoded: Encoded, order: list[int], chunk: int
) -> None:
    table = case.table(0)[order]
    parts = [encoder.encode(table[start : start + chunk], source) for start in range(0, N_ROWS, chunk)]
    terms = [p.terms for p in parts if p.terms is not None]
    got = Encoded(
        np.concatenate([p.vectors for p in parts]),
        np.concatenate([p.present for p in parts]),
        sparse.csr_array(sparse.vstack(terms)) if terms else None,
    )
    assert_same_bits(got, take(encoded, np.array(order)))


def test_encode_single_rows_gives_the_same_bits(
    case: Case, source: Place, encoder: Encoder, encoded: Encoded
) -> None:
    for row in range(N_ROWS):
        got = encoder.encode(case.table(0)[row : row + 1], source)
        assert_same_bits(got, take(encoded, np.array([row])))


def test_encode_other_columns_around_are_ignored(
    case: Case, source: Place, encoder: Encoder, encoded: Encoded
) -> None:
    table = case.table(0)
    wider = table.select(pl.lit(1).alias("id"), *reversed(table.columns))
    assert_same_bits(encoder.encode(wider, source), encoded)


def test_encode_without_the_column_names_it(case: Case, source: Place, encoder: Encoder) -> None:
    column = case.table(0).columns[0]
    with pytest.raises(DataError, match=f"'{column}'") as caught:
        encoder.encode(pl.DataFrame({"other": [1]}), source)
    assert caught.value.column == column


def test_encode_no_rows_gives_no_vectors(case: Case, source: Place, encoder: Encoder) -> None:
    empty = encoder.encode(case.table(0).clear(), source)
    assert empty.vectors.shape == (0, encoder.width)
    assert empty.present.shape == (0,)


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "null_type"])
@pytest.mark.parametrize("n_rows", [0, 1, 4])
def test_fit_all_missing_column_makes_every_row_absent(
    case: Case, source: Place, tmp_path: Path, n_rows: int, typed: bool
) -> None:
    empty = case.table(0).clear(n_rows)
    if not typed:
        empty = empty.with_columns(pl.all().cast(pl.Null))
    save_encoder(make_encoder(case.kind, case.params).fit(empty, source), tmp_path / "saved")
    encoder = load_encoder(tmp_path / "saved")
    assert encoder.width == (len(empty.columns) + 1 if case.kind == "numeric" else 1)
    for table in (empty, case.table(0)):
        got = encoder.encode(table, source)
        assert got.vectors.shape == (len(table), encoder.width)
        assert not got.vectors.any()
        assert not got.present.any()


def test_fit_single_row_encodes_it(case: Case, source: Place) -> None:
    row = case.table(0)[1:2]
    encoder = make_encoder(case.kind, case.params).fit(row, source)
    got = encoder.encode(row, source)
    assert got.vectors.shape == (1, encoder.width)
    assert np.isfinite(got.vectors).all()
    assert got.present.all()


def test_fit_wrong_type_names_the_column(case: Case, source: Place) -> None:
    wrong = pl.DataFrame({"thing": [{"a": 1}]})
    with pytest.raises(DataError, match="Struct") as caught:
        make_encoder(case.kind, case.params).fit(wrong, source)
    assert caught.value.column == "thing"
