"""The tables of the imbalance benchmark, from numbers that are known and from a tiny run."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ensembles.samplers import NATURAL, SAMPLERS
from modalrank.config import AUTO
from tests.modalrank.worlds import make_log

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
imbalance, worker = (importlib.import_module(name) for name in ("imbalance", "imbalance_worker"))
ROWS = [*imbalance.WHOLE.values(), *imbalance.CLIMBED.values(), *SAMPLERS]
N = 200


def tables(better: str, by: float = 0.1):
    """Every row has the same values, but one that is better by a constant."""
    rng = np.random.default_rng(0)
    ndcg = rng.random(N) / 2
    rows = [(q, name, ndcg[q] + by * (name == better)) for name in ROWS for q in range(N)]
    values = pl.DataFrame(rows, schema=["query", "sampler", "ndcg"], orient="row")
    values = values.with_columns(recall=pl.col("ndcg"))
    cold = values.filter(pl.col("query") < 40).with_columns(pl.lit("items never met").alias("slice"))
    cold = cold.with_columns(ndcg=pl.col("ndcg") / 10)
    warm = values.with_columns(slice=pl.lit("items met"))
    return values, pl.concat([warm, cold]).drop("recall")


def cells(lines: list[str]) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return {row[0]: row[1:] for row in rows}


def test_difference_is_to_natural_of_the_same_kind_and_the_better_one_is_marked():
    values, slices = tables("shapley")
    found = cells(imbalance.ablation_table([values], [slices]))
    assert list(found) == ROWS
    assert found["shapley"][2].startswith("+0.1000 [+0.1000, +0.1000] **better**")
    assert found["raking"][2].startswith("+0.0000 [+0.0000, +0.0000]") and "**" not in found["raking"][2]
    assert found[NATURAL][2] == found["run: natural"][2] == ""
    assert found["natural"][4].startswith("items never met: ") and found["natural"][4].endswith("n=40")
    assert found["shapley"][5].startswith("+0.0100")
    auto, slices = tables("run: auto", -0.1)
    found = cells(imbalance.ablation_table([auto], [slices]))
    assert found["run: auto"][3].endswith("**worse**") and "**" not in found["shapley"][3]


def test_worst_slice_is_not_one_of_which_nobody_finds_anything():
    values, slices = tables("shapley")
    lost = slices.filter(pl.col("slice") == "items never met")
    lost = lost.with_columns(pl.lit("pattern none").alias("slice"), ndcg=pl.lit(0.0))
    found = cells(imbalance.ablation_table([values], [pl.concat([slices, lost])]))
    assert found["natural"][4].startswith("items never met: ")


def test_seeds_are_joined_by_query_whatever_the_order_of_the_rows():
    (one, slices), (two, _) = tables("shapley", 0.1), tables("shapley", 0.3)
    shuffled = two.sample(fraction=1.0, shuffle=True, seed=3)
    found = cells(imbalance.ablation_table([one, shuffled], [slices, slices]))
    assert found["shapley"][2].startswith("+0.2000")


def test_cold_line_tells_the_share_of_the_loss():
    loss = {"low": 0.0, "high": 0.3, "n": 50}
    cold = {
        "modality": "image",
        "slice": "items never met",
        "ensemble": {"mean": 0.05, **loss},
        "early fusion": {"mean": 0.2, **loss},
        "room": {"mean": 0.05, **loss},
    }
    assert "a share of 0.25" in imbalance.cold_line(cold)
    cold["early fusion"]["mean"] = -0.01
    assert "no share, as early fusion loses nothing" in imbalance.cold_line(cold)
    assert len(imbalance.cold_lines([cold, cold])) == 2
    assert imbalance.cold_lines([])[0].startswith("- no share of loss")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A run of the worker on tiny data, and its report."""
    folder = tmp_path_factory.mktemp("imbalance")
    world = make_log(folder)
    world.configure(ensemble={"k": 20})
    out = folder / "out"
    return out, worker.run(world.config, ["seed=1"], out, 30, 1)


def test_worker_measures_every_sampler_on_every_test_query(tiny):
    out, report = tiny
    values = pl.read_parquet(out / "values.parquet")
    assert values["sampler"].unique(maintain_order=True).to_list() == ROWS
    queries = values.group_by("sampler").agg(pl.col("query").sort())
    assert queries["query"].n_unique() == 1 and values["ndcg"].is_between(0, 1).all()
    assert report["rung"] == "linear_stack"
    slices = pl.read_parquet(out / "slices.parquet")
    assert slices.group_by("sampler", "slice").len()["len"].min() >= 30
    assert set(slices["sampler"]) == set(ROWS)


def test_worker_removes_with_everybody_in_the_contest(tiny):
    found = json.loads((tiny[0] / "robustness.json").read_text())
    names = {"ensemble", NATURAL, "early fusion", "best single", "behaviour only"}
    assert {row["name"] for row in found["curves"]} == names
    judged = [(verdict["name"], verdict["metric"]) for verdict in found["verdicts"]]
    assert judged == [(name, metric) for name in ("ensemble", NATURAL) for metric in ("ndcg", "recall")]
    assert found["queries"] == 30 and found["cold"] == [], "too few positives on new items"
    table = cells(imbalance.curves_table(found))
    assert set(table) == {"taste", "title", "all content"}
    assert len(imbalance.verdict_lines(found)) == 3 + 4 + len(found["worst_slices"])


def test_finished_seed_is_not_run_again(tiny, tmp_path, monkeypatch):
    """The section is made of what lies in the folder of the seed."""
    out, report = tiny
    config = tmp_path / "toy.yaml"
    own = tmp_path / "kept" / "toy-full-1"
    own.mkdir(parents=True)
    for file in out.iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    (own / "report.json").write_text(json.dumps(report))
    words = ["imbalance.py", "--config", str(config), "--protocol", "full", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--out", str(tmp_path / "kept")])
    monkeypatch.setattr(imbalance, "run_worker", lambda *_: pytest.fail("trained again"))
    lines = list(imbalance.compare(config, [], tmp_path / "kept", imbalance.arguments()))
    text = "\n".join(lines)
    assert text.startswith("**toy** (full protocol, seeds 1)")
    assert f"samplers on `linear_stack`; natural: {report['natural']}; {AUTO}: " in text
    assert "Removal, seed 1, 30 users, 1 removals a rate:" in text
