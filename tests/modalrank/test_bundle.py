from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ensembles import make_meta
from features.encoders import encoder_digest, make_encoder, save_encoder
from features.errors import DataError
from modalrank import bundle as module
from modalrank.bundle import Bundle
from modalrank.config import dump_config
from modalrank.scoring import score_candidates
from modalrank.tracking import bundle_of
from tests.modalrank.worlds import item_ids, user_ids

KNOWN_ENDINGS = {".cbm", ".json", ".npy", ".npz", ".txt", ".ubj", ".yaml"}


def saved(bundle, folder):
    folder.mkdir()
    bundle.save(folder)
    return folder


@pytest.fixture(scope="module")
def log_folder(log_bundle, tmp_path_factory):
    return saved(log_bundle, tmp_path_factory.mktemp("bundles") / "log")


@pytest.fixture
def own_folder(log_bundle, tmp_path):
    return saved(log_bundle, tmp_path / "own")


def scores(bundle, rows) -> np.ndarray:
    parts = pl.concat(list(score_candidates(bundle, rows))).sort("query", "item")
    return parts["score"].to_numpy().view(np.int64)


def test_loaded_log_bundle_scores_the_same_bits(log_bundle, log_folder):
    pairs = [(user, item) for user in user_ids()[:7] for item in item_ids()]
    rows = pl.DataFrame(pairs, schema=["query", "item"], orient="row")
    np.testing.assert_array_equal(scores(Bundle.load(log_folder), rows), scores(log_bundle, rows))


def test_loaded_judged_bundle_scores_the_same_bits(judged_bundle, judged_world, tmp_path):
    rows = judged_world.table("judged.parquet").rename({"query_id": "query", "doc_id": "item"})
    loaded = Bundle.load(saved(judged_bundle, tmp_path / "judged"))
    np.testing.assert_array_equal(scores(loaded, rows), scores(judged_bundle, rows))


def test_loaded_bundle_is_the_same_model(log_bundle, log_folder):
    loaded = Bundle.load(log_folder)
    assert loaded.config == log_bundle.config
    assert loaded.blocks == dict(log_bundle.blocks)
    assert loaded.modalities_read == log_bundle.modalities_read
    assert loaded.model.modalities == log_bundle.model.modalities
    assert [r.name for r in loaded.model.retrievers] == [r.name for r in log_bundle.model.retrievers]
    for name in ("users", "items", "labels", "times"):
        np.testing.assert_array_equal(
            getattr(loaded.model.history, name), getattr(log_bundle.model.history, name)
        )
    for name, modality in log_bundle.model.items.items():
        np.testing.assert_array_equal(loaded.model.items[name].vectors, modality.vectors)
        np.testing.assert_array_equal(loaded.model.items[name].present, modality.present)
        assert (loaded.model.items[name].graph != modality.graph).nnz == 0
    terms = loaded.model.items["title"].terms
    assert (terms != log_bundle.model.items["title"].terms).nnz == 0 and terms.nnz
    assert loaded.model.items["taste"].terms is None


def test_loaded_encoder_encodes_as_the_one_that_was_saved(log_bundle, log_folder, log_world):
    items = log_world.table("items.parquet")
    loaded = Bundle.load(log_folder)
    for name, column in (("taste", "vector"), ("title", "title")):
        columns = items.select(column)
        before = log_bundle.encoders[name].encode(columns, log_world.folder)
        after = loaded.encoders[name].encode(columns, log_world.folder)
        np.testing.assert_array_equal(after.vectors, before.vectors)
        np.testing.assert_array_equal(after.present, before.present)


def test_saving_again_writes_the_same_bytes(log_folder, tmp_path):
    again = saved(Bundle.load(log_folder), tmp_path / "again")
    digests = [json.loads((folder / "manifest.json").read_text())["files"] for folder in (log_folder, again)]
    assert digests[0] == digests[1]


def test_bundle_holds_only_the_bases_that_are_read(log_result):
    one = make_meta("best_single").fit(log_result.valid.frame)
    bundle = bundle_of(
        log_result.dataset.config, replace(log_result, stack=replace(log_result.stack, meta=one))
    )
    assert set(bundle.stack.bases) == set(bundle.blocks) == set(one.bases_used())
    assert len(bundle.stack.bases) < len(log_result.stack.bases)


def test_bundle_holds_no_pickle(log_folder, judged_bundle, tmp_path):
    files = [path for path in log_folder.rglob("*") if path.is_file()]
    files += [path for path in saved(judged_bundle, tmp_path / "j").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= KNOWN_ENDINGS
    arrays = [path for path in files if path.suffix in (".npy", ".npz")]
    assert arrays
    for path in arrays:
        loaded = np.load(path, allow_pickle=False)
        for name in getattr(loaded, "files", []):
            assert loaded[name].dtype != object


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")


def test_every_missing_file_is_refused_by_its_name(own_folder):
    for file in files_of(own_folder):
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(DataError, match="the model's file is missing") as caught:
            Bundle.load(own_folder)
        assert caught.value.file == str(file)
        file.write_bytes(content)
    Bundle.load(own_folder)


def test_every_changed_file_is_refused_by_its_name(own_folder):
    for file in files_of(own_folder):
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DataError, match="is not the file that was saved") as caught:
            Bundle.load(own_folder)
        assert caught.value.file == str(file)
        file.write_bytes(content)


def test_other_layout_is_refused(own_folder, monkeypatch):
    layout = module.LAYOUT
    monkeypatch.setattr(module, "LAYOUT", layout + 1)
    with pytest.raises(DataError, match=f"got a model of layout {layout}, expected {layout + 1}") as caught:
        Bundle.load(own_folder)
    assert caught.value.file == str(own_folder / "manifest.json")


def test_folder_without_a_manifest_is_no_model(tmp_path):
    with pytest.raises(DataError, match=r"no manifest\.json, expected the folder of a model"):
        Bundle.load(tmp_path)


def test_broken_manifest_is_refused(own_folder):
    manifest = own_folder / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    with pytest.raises(DataError, match="not the manifest that was saved"):
        Bundle.load(own_folder)


def test_manifest_names_digests_of_encoders_and_versions(log_folder):
    manifest = json.loads((log_folder / "manifest.json").read_text())
    assert set(manifest["encoders"]) == {"taste", "title", "profile"}
    assert all(len(digest) == 64 for digest in manifest["encoders"].values())
    assert {"lightgbm", "numpy"} <= set(manifest["versions"])


def swapped_encoder(folder, vectors):
    """Put another encoder of the same modality into a bundle, with digests of the files that fit."""
    shutil.rmtree(folder / "encoders" / "taste")
    table = pl.DataFrame({"vector": pl.Series(vectors, dtype=pl.List(pl.Float32))})
    save_encoder(make_encoder("vectors", {}).fit(table, folder), folder / "encoders" / "taste")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = module._digests(folder)
    path.write_text(json.dumps(manifest))
    return path, manifest


def test_encoder_of_another_digest_is_refused_by_its_modality(own_folder):
    swapped_encoder(own_folder, np.eye(4).tolist())
    with pytest.raises(
        DataError, match=r"got the encoder of digest \w{12} for taste, expected \w{12}"
    ) as caught:
        Bundle.load(own_folder)
    assert caught.value.file == str(own_folder / "encoders" / "taste")


def test_encoder_of_another_width_is_refused_by_its_modality(own_folder):
    path, manifest = swapped_encoder(own_folder, np.eye(5).tolist())
    manifest["encoders"]["taste"] = encoder_digest(own_folder / "encoders" / "taste")
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="an encoder of width 5 for taste, whose vectors have 4"):
        Bundle.load(own_folder)


def test_config_in_the_bundle_is_the_full_one(log_bundle, log_folder):
    assert (log_folder / "config.yaml").read_text() == dump_config(log_bundle.config)


def test_bundle_is_not_written_outside_its_folder(log_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(log_bundle, tmp_path / "inside")
    assert os.listdir(tmp_path) == ["inside"]
