"""What is left out of a config, and the differences that are shown."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from features.filling import METHODS
from modalrank.config import BaseConfig, load_config
from modalrank.dataset import load_dataset
from modalrank.training import train
from tests.modalrank.worlds import make_log

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
ablation, worker = (importlib.import_module(name) for name in ("ablation", "ablation_worker"))
EXAMPLES = [ROOT / "examples" / f"{name}.yaml" for name in ablation.EXAMPLES]


def without(file, *common):
    """Return the name of each variant and the config without it."""
    config = load_config(file, common)
    found = ablation.variants(config, ablation.expected_bases(config))
    assert len({variant.name for variant in found}) == len(found)
    return config, {variant.name: load_config(file, [*common, *variant.overrides]) for variant in found}


def values_of(users, ndcg):
    return pl.DataFrame({"query": users, "ndcg": ndcg, "recall": ndcg})


@pytest.mark.parametrize("protocol", ["strict", "full"])
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_variant_of_an_example_is_a_config_without_the_one_thing(file, protocol):
    whole, rest = without(file, f"protocol={protocol}")
    kinds = {retriever.kind for retriever in ablation.retrievers_of(whole)}
    assert ("recent_popularity" in kinds) == (file.stem == "movies" or protocol == "full")
    for name in whole.modalities:
        assert set(rest[f"modality:{name}"].modalities) == set(whole.modalities) - {name}
    for kind in kinds:
        left = rest[f"retriever:{kind}"].candidates.retrievers
        assert left == [r for r in ablation.retrievers_of(whole) if r.kind != kind]
    for rung in whole.ensemble.ladder[1:]:
        assert rest[f"meta:{rung}"].ensemble.ladder == [r for r in whole.ensemble.ladder if r != rung]
    for family in ("lightgbm", "xgboost", "catboost", "linear"):
        assert family not in {base.family for base in rest[f"family:{family}"].bases}
    for block in ("behaviour", "content", "context"):
        assert all(block not in base.blocks for base in rest[f"features:{block}"].bases)
    assert not rest["content_retrieval"].candidates.content
    assert rest["reserve"].ensemble.reserve == 0
    assert {rest[f"filling:{method}"].filling for method in METHODS[1:]} == set(METHODS[1:])
    timed = whole.data.columns.time is not None
    assert ("behaviour.age" in rest["item_level"].exclude_features) == timed
    left = {retriever.kind for retriever in rest["item_level"].candidates.retrievers}
    assert left == kinds - set(ablation.POPULARITY)


@pytest.mark.parametrize("timed", [True, False])
def test_run_without_item_level_features_has_none_of_them(timed, tmp_path):
    world = make_log(tmp_path)
    if not timed:
        place = pl.int_range(pl.len()).over("user_id")
        split = pl.when(place < 2).then(pl.lit("valid")).when(place < 4).then(pl.lit("test"))
        rows = world.table("interactions.parquet").drop("time")
        world.rewrite("interactions.parquet", rows.with_columns(split=split.otherwise(pl.lit("train"))))
        world.configure(data={"columns": {"label": "rating", "split": "split"}}, split={"by": "column"})
    _, rest = without(world.config)
    fused = train(load_dataset(rest["item_level"])).stack.bases["fused"]
    told = {name.partition(".")[2] for name in fused.ranker.feature_names_}
    assert {"score", "mean", "max"} <= told
    of_items = {"log_popularity", "age", "idle", "present", "smooth_popularity"}
    assert not {name for name in told if name in of_items or name.startswith("component")}


def test_variant_of_named_bases_names_no_block_that_is_gone(tmp_path):
    whole, rest = without(make_log(tmp_path).config)
    assert [base.name for base in rest["modality:taste"].bases] == ["fused", "linear"]
    assert rest["modality:taste"].bases[1].blocks == ["title", "behaviour"]
    assert rest["content_retrieval"].bases == whole.bases
    assert "reserve" not in rest, "it is off already"
    assert {name for name in rest if name.startswith("family")} == {"family:lightgbm", "family:linear"}


def test_last_item_modality_takes_the_content_block_along(tmp_path):
    world = make_log(tmp_path)
    world.configure(bases=[{"name": "both", "family": "linear", "blocks": ["content", "behaviour"]}])
    raw = yaml.safe_load(world.config.read_text())
    del raw["modalities"]["title"]
    world.config.write_text(yaml.safe_dump(raw))
    _, rest = without(world.config)
    assert rest["modality:taste"].bases[0].blocks == ["behaviour"]
    assert rest["modality:profile"].bases[0].blocks == ["content", "behaviour"]


def test_only_source_of_candidates_is_never_left_out(tmp_path):
    world = make_log(tmp_path)
    world.configure(candidates={"retrievers": [{"kind": "item_knn"}], "content": False})
    _, rest = without(world.config)
    assert not {"content_retrieval", "retriever:item_knn"} & set(rest)


def test_learned_bases_of_auto_run_are_those_that_were_fitted():
    config = load_config(EXAMPLES[1])
    blocks = {"als": ("behaviour",), "image": ("image",), "fused_linear": ("behaviour", "image")}
    single, fused = map(BaseConfig.model_validate, worker.learned_bases(config, blocks, {"als"}))
    assert (single.name, single.family, single.blocks) == ("image", "lightgbm", ["image"])
    assert (fused.name, fused.family, fused.blocks) == ("fused_linear", "linear", ["behaviour", "image"])


def test_rung_left_out_is_what_a_training_without_it_gives(tmp_path):
    world = make_log(tmp_path)
    config = load_config(world.config)
    variants = [each for each in ablation.meta_variants(config) if each.of_ladder]
    assert variants and not any(v.of_ladder for v in ablation.modality_variants(config))
    own = variants[-1]
    beside = {own.name: list(own.overrides)}
    whole, climbed = worker.measure(world.config, [], tmp_path / "whole.parquet", beside)
    (alone,) = worker.measure(world.config, own.overrides, tmp_path / "alone.parquet", {})
    assert (whole["name"], climbed["name"]) == ("whole", own.name)
    assert climbed["rung"] == alone["rung"]
    assert pl.read_parquet(climbed["values"]).equals(pl.read_parquet(alone["values"]))
    assert pl.read_parquet(whole["values"]).height == pl.read_parquet(alone["values"]).height
    assert {base["name"] for base in whole["learned"]} == {"taste", "fused", "linear"}


def test_override_keeps_small_numbers_numbers():
    key, _, text = ablation.override("a.b", [{"rate": 1e-5, "words": ["yes", "x" * 200]}]).partition("=")
    assert key == "a.b" and yaml.safe_load(text) == [{"rate": 1e-5, "words": ["yes", "x" * 200]}]
    assert json.dumps(1e-5) == "1e-05" and yaml.safe_load("1e-05") == "1e-05", "why JSON would not do"


def test_difference_pairs_users_whatever_their_order():
    rng = np.random.default_rng(0)
    whole = values_of([f"u{n}" for n in range(200)], rng.random(200))
    variant = whole.with_columns(pl.col("ndcg") - 0.125).sample(fraction=1.0, shuffle=True, seed=1)
    found = ablation.difference(variant, whole, "ndcg")
    assert [found.mean, found.low, found.high] == pytest.approx([-0.125] * 3)
    assert ablation.show_difference(found) == "-0.1250 [-0.1250, -0.1250] **worse**"
    assert ablation.show_difference(ablation.difference(whole, variant, "ndcg")).endswith("**better**")
    assert ablation.show_difference(ablation.difference(whole, whole, "recall"))[-1] == "]"


def test_difference_of_other_users_is_refused():
    whole, other = values_of(["a", "b"], [0.1, 0.2]), values_of(["a", "c"], [0.1, 0.2])
    with pytest.raises(ValueError, match="expected the 2 of the whole"):
        ablation.difference(other, whole, "ndcg")


def test_selected_takes_names_and_kinds():
    names = ["modality:text", "modality:year", "meta:greedy", "reserve"]
    assert ablation.selected(names, None) == names
    assert ablation.selected(names, ["modality", "reserve"]) == [*names[:2], "reserve"]
    assert ablation.selected(names, ["meta:greedy", "text"]) == ["meta:greedy"]
