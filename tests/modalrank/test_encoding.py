from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.errors import ConfigError, DataError
from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.encoding import encode_rows, fit_encoders
from tests.modalrank.worlds import N_ITEMS, N_USERS, with_cell


@pytest.fixture(scope="module")
def dataset(log_world):
    return load_dataset(load_config(log_world.config))


@pytest.fixture(scope="module")
def encodings(dataset):
    return fit_encoders(dataset, str)


def test_vectors_are_placed_by_id_and_missing_ones_are_absent(dataset, encodings):
    taste = encodings.items["taste"]
    assert taste.vectors.shape == (N_ITEMS, 4)
    absent = set(dataset.items.ids[~taste.present])
    assert absent == {"i05", "i15"}
    assert not taste.vectors[~taste.present].any()
    raw = dict(zip(dataset.item_table["id"], dataset.item_table["vector"], strict=True))
    given = np.stack([raw[item] for item in dataset.items.ids[taste.present]])
    expected = (given - given.mean(axis=0)) / given.std(axis=0)
    np.testing.assert_allclose(taste.vectors[taste.present], expected, atol=1e-5)


def test_every_modality_goes_to_the_space_of_its_table(encodings):
    assert set(encodings.encoders) == {"taste", "title", "profile"}
    assert set(encodings.items) == {"taste", "title"}
    assert set(encodings.users) == {"profile"}
    assert encodings.users["profile"].present.sum() == N_USERS - 1


def test_modality_of_judged_rows_has_no_encoder(judged_world):
    encodings = fit_encoders(load_dataset(load_config(judged_world.config)), str)
    assert encodings == ({}, {}, {}, ())


def test_progress_names_each_modality(dataset):
    said: list[str] = []
    fit_encoders(dataset, said.append)
    assert said == ["encode taste (vectors)", "encode title (text)", "encode profile (numeric)"]


def test_new_rows_are_encoded_like_those_of_the_training(dataset, encodings):
    config = dataset.config
    rows = dataset.item_table[::-1]
    encoded = encode_rows(config, encodings.encoders, "items", rows, Path("items.parquet"))
    assert set(encoded) == {"taste", "title"}
    codes = dataset.items.codes(rows["id"])
    for name, modality in encodings.items.items():
        np.testing.assert_array_equal(encoded[name].present, modality.present[codes])
        np.testing.assert_array_equal(encoded[name].vectors, modality.vectors[codes])


def test_labels_and_interactions_have_no_say_in_the_encoders(own_log, encodings):
    log = own_log.table("interactions.parquet").with_columns(rating=7 - pl.col("rating"))
    own_log.rewrite("interactions.parquet", log)
    other = fit_encoders(load_dataset(load_config(own_log.config)), str)
    for name, modality in encodings.items.items():
        np.testing.assert_array_equal(other.items[name].vectors, modality.vectors)


@pytest.mark.parametrize("row", [1, 17, 40])
def test_broken_value_is_told_with_its_row_in_the_file(row, own_log):
    items = own_log.table("items.parquet").sample(fraction=1, shuffle=True, seed=4)
    own_log.rewrite("items.parquet", with_cell(items, "vector", row, [1.0, float("nan"), 0.0, 1.0]))
    with pytest.raises(DataError, match="component 2") as caught:
        fit_encoders(load_dataset(load_config(own_log.config)), str)
    assert caught.value.file == str(own_log.folder / "items.parquet")
    assert (caught.value.column, caught.value.row) == ("vector", row)


def test_wrong_parameter_stays_a_config_error(dataset):
    modality = dataset.config.modalities["taste"].model_copy(update={"params": {"dims": 3}})
    config = dataset.config.model_copy(update={"modalities": {"taste": modality}})
    with pytest.raises(ConfigError, match="dims"):
        fit_encoders(replace(dataset, config=config), str)
