"""Laws of the whole line: what must not tell anything tells nothing, and what is planted is found."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ensembles.gate import paired_bootstrap
from modalrank.config import load_config, parse_config
from modalrank.dataset import load_dataset
from modalrank.demo import CONFIG
from modalrank.demo_data import NOISE_MODALITY, PLANTED_MODALITY, make_demo
from modalrank.robustness.draws import Draws
from modalrank.training import train
from tests.modalrank.worlds import N_ITEMS, World, item_ids, make_judged, make_log


def trained(world: World, *overrides: str):
    return train(load_dataset(load_config(world.config, overrides)))


def ensemble_ndcg(result) -> np.ndarray:
    return result.test.ndcg(result.test_scores[result.chosen], result.dataset.config.ensemble.k)


def test_row_order_of_every_table_changes_no_bit(log_result, own_log):
    for number, table in enumerate(("interactions.parquet", "items.parquet", "users.parquet")):
        own_log.rewrite(table, own_log.table(table).sample(fraction=1, shuffle=True, seed=number))
    again = trained(own_log)
    assert again.chosen == log_result.chosen
    for name, scores in log_result.test_scores.items():
        np.testing.assert_array_equal(again.test_scores[name], scores, err_msg=name)


def test_permuted_ids_change_metrics_by_ties_and_draws_only(log_result, own_log):
    rng = np.random.default_rng(5)
    new_items = dict(zip(item_ids(), rng.permutation([f"x{n:02d}" for n in range(N_ITEMS)]), strict=True))
    for table in ("interactions.parquet", "items.parquet"):
        renamed = pl.col("item_id").replace_strict(new_items)
        own_log.rewrite(table, own_log.table(table).with_columns(renamed))
    again = trained(own_log)
    k = log_result.dataset.config.ensemble.k
    # Cosines of random vectors have no ties, so their lists are the same; counts and words have many.
    before, after = (r.test.ndcg(r.test_scores["taste_neighbours"], k) for r in (log_result, again))
    np.testing.assert_allclose(after, before, atol=1e-9)
    for name in {"popularity", "item_knn", "title_neighbours"}:
        before, after = (r.test.ndcg(r.test_scores[name], k) for r in (log_result, again))
        assert abs(np.nanmean(after) - np.nanmean(before)) < 0.1, name
    # The mean of all bases: which rung the gate takes is a matter of draws on so few queries.
    gap = paired_bootstrap(*(r.test.ndcg(r.test_scores["rank_fusion"], k) for r in (again, log_result)))
    assert gap.low < 0 < gap.high or abs(gap.mean) < 0.05


@pytest.mark.parametrize("protocol", ["protocol=strict", "protocol=full"])
def test_rows_of_the_test_change_nothing_before_it(protocol, own_log):
    before = trained(own_log, protocol)
    dataset = before.dataset
    rows = dataset.interactions.with_columns(pl.Series("late", dataset.in_split("test")))
    rng = np.random.default_rng(7)
    spoiled = rows.with_columns(
        label=pl.when("late")
        .then(pl.Series(rng.choice([2.0, 5.0], len(rows)), dtype=pl.Float32))
        .otherwise("label")
    )
    own_log.rewrite(
        "interactions.parquet",
        spoiled.select(user_id="query", item_id="item", rating=pl.col("label").cast(pl.Float64), time="time"),
    )
    after = trained(own_log, protocol)
    assert (spoiled["label"] != dataset.interactions["label"]).sum() > 20
    np.testing.assert_array_equal(after.valid.frame.scores, before.valid.frame.scores)
    np.testing.assert_array_equal(after.valid.items, before.valid.items)
    assert after.chosen == before.chosen


def test_shuffled_grades_of_judged_lists_give_chance(tmp_path):
    parts = []
    for seed in range(6):
        folder = tmp_path / str(seed)
        folder.mkdir()
        table = make_judged(folder, seed).table("judged.parquet")
        parts.append(
            table.with_columns(
                pl.format("{}-{}", pl.lit(seed), "query_id").alias("query_id"),
                pl.format("{}-{}", pl.lit(seed), "doc_id").alias("doc_id"),
            )
        )
    world = make_judged(tmp_path)
    everything = pl.concat(parts)
    world.rewrite("judged.parquet", everything)
    honest = trained(world)
    world.rewrite("judged.parquet", everything.with_columns(pl.col("grade").shuffle(seed=1)))
    shuffled = trained(world)
    assert gain_over_chance(honest).low > 0.1
    assert gain_over_chance(shuffled).low < 0.02


def test_random_items_in_a_log_give_chance(tmp_path):
    world = make_log(tmp_path)
    log = world.table("interactions.parquet").sort("user_id", "time")
    rng = np.random.default_rng(3)
    drawn = [
        rng.choice(item_ids(), count, replace=False).tolist()
        for count in log.group_by("user_id", maintain_order=True).len()["len"]
    ]
    world.rewrite("interactions.parquet", log.with_columns(item_id=pl.Series(np.concatenate(drawn))))
    gain = gain_over_chance(trained(world))
    assert gain.low < 0.02 and gain.mean < 0.1


def gain_over_chance(result):
    """Paired gain of the ensemble over the mean of 50 random orders of the same candidates."""
    rng = np.random.default_rng(0)
    k = result.dataset.config.ensemble.k
    n_rows = len(result.test.items)
    chance = np.mean([result.test.ndcg(rng.random(n_rows), k) for _ in range(50)], axis=0)
    return paired_bootstrap(ensemble_ndcg(result), chance)


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder)
    return folder


def demo_result(folder, modalities, seed):
    learned = [name for name in modalities if name != "profile"]
    config = {
        **CONFIG,
        "seed": seed,
        "threads": 1,
        "data": {**CONFIG["data"], "root": str(folder)},
        "modalities": modalities,
        "labels": {"method": "forward", "folds": 2, "negatives": 20},
        "candidates": {
            "per_source": 40,
            "retrievers": [{"kind": "popularity"}, {"kind": "ease", "params": {"l2": 20}}],
        },
        "bases": [
            {"name": name, "family": "lightgbm", "params": {"learning_rate": 0.1}} | blocks
            for name, blocks in [*((m, {"blocks": [m]}) for m in ["behaviour", *learned]), ("fused", {})]
        ],
        "ensemble": {
            "k": 10,
            "ladder": ["best_single", "linear_stack"],
            "bootstrap_draws": 500,
            "reserve": 0,
            "sampling": "natural",
        },
    }
    return train(load_dataset(parse_config(config, "demo")))


def test_demo_planted_modality_is_first_and_noise_does_not_hurt(demo_folder):
    """What one training gains or loses is mostly chance, so that the interval is over seeds too."""
    quiet = {name: m for name, m in CONFIG["modalities"].items() if name != NOISE_MODALITY}
    changes = []
    for seed in range(3):
        with_noise = demo_result(demo_folder, CONFIG["modalities"], seed)
        roles = [standing.role for standing in with_noise.standings if standing.role.startswith("single")]
        assert roles[0] == f"single: {PLANTED_MODALITY}"
        without = demo_result(demo_folder, quiet, seed)
        changes.append(np.subtract(*paired(held_out_ndcg(with_noise), held_out_ndcg(without))))
    change = Draws(len(changes[0]), len(changes), n_draws=2000, seed=0).interval(np.stack(changes))
    assert change.high > 0 and change.mean > -0.03


def held_out_ndcg(result) -> dict[tuple[str, int], float]:
    """NDCG@10 of the best single base on every query of validation and of test: one split alone is noise."""
    values = {}
    for split, scored in (("valid", result.valid), ("test", result.test)):
        scores = result.stack.meta.score(scored.frame)
        queries = scored.every_query.tolist()
        values |= {(split, q): v for q, v in zip(queries, scored.ndcg(scores, 10), strict=True)}
    return values


def paired(one: dict, other: dict) -> tuple[np.ndarray, np.ndarray]:
    shared = sorted(one.keys() & other.keys())
    return np.array([one[key] for key in shared]), np.array([other[key] for key in shared])
