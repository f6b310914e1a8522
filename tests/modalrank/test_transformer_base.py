"""The transformer as a base of a whole run: asked for, trained, saved, loaded and scored with."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features.errors import ConfigError
from modalrank.bases import SEQUENCE, learned_bases, sequence_length
from modalrank.bundle import Bundle
from modalrank.config import load_config, parse_config
from modalrank.dataset import load_dataset
from modalrank.scoring import Fresh, refreshed, score_candidates
from modalrank.tracking import _requirements, bundle_of
from modalrank.training import train
from tests.modalrank.form_parts import form_of
from tests.modalrank.worlds import item_ids, user_ids

ATTENTION = {"name": "attention", "family": "transformer", "params": {"rounds": 2, "width": 8, "length": 4}}


def needs_torch() -> None:
    pytest.importorskip("torch", reason="the transformer needs torch: pip install torch==2.13.0")


@pytest.fixture(scope="module")
def bundle(log_world) -> Bundle:
    needs_torch()
    bases = f"bases=[{{name: attention, family: transformer, params: {ATTENTION['params']}}}]"
    result = train(load_dataset(load_config(log_world.config, [bases, "ensemble.ladder=[best_single]"])))
    result.stack.meta.bases_ = ("attention", "popularity")
    return bundle_of(result.dataset.config, result)


@pytest.fixture
def folder(bundle, tmp_path):
    made = tmp_path / "bundle"
    made.mkdir()
    bundle.save(made)
    return made


PAIRS = pl.DataFrame(
    [(u, i) for u in user_ids()[:9] for i in item_ids()], schema=["query", "item"], orient="row"
)


def scores(bundle: Bundle, chunk_rows: int = 10_000, rows: pl.DataFrame = PAIRS) -> np.ndarray:
    parts = score_candidates(bundle, rows, chunk_rows=chunk_rows)
    return pl.concat(list(parts)).sort("query", "item")["score"].to_numpy()


def test_bundle_holds_the_transformer_and_loads_to_the_same_bits(bundle, folder):
    assert "attention" in bundle.stack.bases
    assert len(np.unique(scores(bundle))) > 20
    loaded = Bundle.load(folder)
    assert loaded.model.settings.sequence == SEQUENCE
    np.testing.assert_array_equal(scores(loaded), scores(bundle))


def test_scores_are_the_same_bits_in_any_chunking_and_row_order(bundle):
    whole = scores(bundle)
    for chunk_rows in (1, 45, 130):
        np.testing.assert_array_equal(scores(bundle, chunk_rows), whole)
    shuffled = PAIRS.sample(fraction=1, shuffle=True, seed=1)
    np.testing.assert_array_equal(scores(bundle, rows=shuffled), whole)


def test_new_users_and_items_change_no_score_of_the_others_and_have_one_themselves(
    bundle, log_world, tmp_path
):
    new = log_world.table("items.parquet").head(2).with_columns(item_id=pl.Series(["new_a", "new_b"]))
    new.write_parquet(tmp_path / "new.parquet")
    grown = refreshed(bundle, Fresh(items=tmp_path / "new.parquet"), ["stranger"], ["new_a", "new_b"])
    np.testing.assert_array_equal(scores(grown), scores(bundle))
    rows = pl.DataFrame({"query": ["stranger", "stranger", "u00"], "item": ["i01", "new_a", "new_b"]})
    assert np.isfinite(scores(grown, rows=rows)).all()


def test_model_that_holds_it_says_so_when_loaded_without_torch(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"holds a transformer, which needs torch.*fix: pip torch"):
        Bundle.load(folder)


def test_model_that_holds_it_requires_torch_and_others_do_not(bundle, log_bundle):
    names = [text.split("==")[0] for text in _requirements(bundle)]
    assert {"torch", "safetensors"} <= set(names)
    assert not {"torch", "safetensors"} & {text.split("==")[0] for text in _requirements(log_bundle)}


def test_model_whose_stack_left_it_out_makes_no_sequences(log_result):
    model = replace(log_result.model, settings=replace(log_result.model.settings, sequence=SEQUENCE))
    made = bundle_of(log_result.dataset.config, replace(log_result, model=model))
    assert made.model.settings == log_result.model.settings


def test_model_that_does_not_hold_it_loads_without_torch(log_world, log_bundle, tmp_path, monkeypatch):
    # The gate may leave out what the config asked for.
    asked = log_bundle.config.model_copy(update={"bases": "auto", "neural": True})
    replace(log_bundle, config=asked).save(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    np.testing.assert_array_equal(scores(Bundle.load(tmp_path)), scores(log_bundle))


@pytest.mark.parametrize(
    "overrides",
    [["bases=auto", "neural=true"], ["bases=[{name: attention, family: transformer}]"]],
)
def test_config_that_asks_for_it_without_torch_is_told_before_anything_runs(
    log_world, monkeypatch, overrides
):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"asks for a transformer, which needs torch.*fix: pip"):
        load_config(log_world.config, overrides)


@pytest.mark.parametrize(
    ("neural", "installed", "expected"),
    [
        (False, True, False),
        ("auto", True, True),
        ("auto", False, False),
        (True, True, True),
    ],
)
def test_auto_bases_have_a_transformer_where_asked_for(neural, installed, expected, log_world, monkeypatch):
    found = object() if installed else None
    monkeypatch.setattr("modalrank.bases.find_spec", lambda name: found)
    frame = form_of(log_world).training().frame
    raw = {"bases": "auto", "neural": neural, "data": {"items": "i", "users": "u"}}
    config = parse_config(raw, "config.yaml")
    families = {spec.name: spec.family for spec in learned_bases(config, frame)}
    assert (families.get("fused_transformer") == "transformer") == expected
    assert sequence_length(config) == (SEQUENCE if expected else 0)


def test_frames_tell_as_many_items_as_the_longest_transformer_looks_at():
    bases = [ATTENTION, {**ATTENTION, "name": "long", "params": {"length": 50}}]
    assert sequence_length(parse_config({"bases": bases}, "config.yaml")) == 50
    assert sequence_length(parse_config({"bases": bases[:1]}, "config.yaml")) == SEQUENCE
    assert sequence_length(parse_config({"bases": [{"name": "b", "family": "linear"}]}, "config.yaml")) == 0
