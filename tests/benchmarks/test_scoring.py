"""The benchmark of scoring measures what it says: the libraries' own calls, and a whole job."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.frame import RankingFrame
from modalrank.bundle import Bundle
from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.tracking import bundle_of
from modalrank.training import train
from tests.modalrank.worlds import make_log

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
scoring = importlib.import_module("scoring")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "TRAINING_QUERIES", 40)
        return scoring.write_model(tmp_path_factory.mktemp("scoring") / "mixed", "mixed", 3, 1)


def test_model_of_a_kind_reads_every_base_of_it(model):
    bundle = Bundle.load(model)
    families = [base.ranker.family for base in bundle.stack.bases.values()]
    assert tuple(families) == scoring.KINDS["mixed"]
    assert set(bundle.stack.meta.bases_used()) == set(bundle.stack.bases)


def test_floor_predicts_what_the_rankers_score(model, monkeypatch, tmp_path):
    given = tmp_path / "given.parquet"
    monkeypatch.setattr(scoring, "GROUP_ROWS", 200)
    scoring.write_candidates(given, 500)
    bundle, arrays, said = Bundle.load(model), [], []

    def noted(ranker, array, threads):
        arrays.append(array)
        said.append(real(ranker, array, threads))
        return said[-1]

    real = scoring.predicted
    monkeypatch.setattr(scoring, "predicted", noted)
    watch = scoring.floor(bundle, given)
    assert watch.wall > 0 and watch.cpu > 0
    assert [(a.shape, a.dtype.name, a.flags.c_contiguous) for a in arrays[::3]] == [
        ((n, scoring.N_FEATURES + 2), "float32", True) for n in (200, 200, 100)
    ]
    names = bundle.stack.bases["lightgbm0"].ranker.feature_names_
    for base, array, scores in zip(bundle.stack.bases.values(), arrays, said, strict=False):
        frame = RankingFrame(
            features=array,
            feature_names=names,
            blocks={"all": tuple(range(len(names)))},
            labels=np.zeros(200, np.float32),
            queries=np.arange(200) // scoring.N_CANDIDATES,
            items=np.arange(200),
        )
        np.testing.assert_allclose(scores, base.ranker.score(frame), rtol=1e-6)


def test_shuffled_candidates_hold_the_same_pairs(monkeypatch, tmp_path):
    monkeypatch.setattr(scoring, "GROUP_ROWS", 200)
    found = []
    for shuffled in (False, True):
        scoring.write_candidates(tmp_path / "given.parquet", 500, shuffled=shuffled)
        found.append(pl.read_parquet(tmp_path / "given.parquet")["query_id", "doc_id"])
    assert not found[0].equals(found[1]) and found[0].equals(found[1].sort("query_id", "doc_id"))


def test_row_of_the_table_holds_speeds_ratios_and_memory(model, monkeypatch, tmp_path):
    told = {"floor": {"wall": 2.0, "cpu": 6.0, "gib": 9.0}, "job": {"wall": 1.0, "cpu": 2.0, "gib": 0.5}}
    sizes = iter([1.0, 1.0, 1.5, 1.5])

    def measure(what, bundle, given, out):
        return told[what] if what == "floor" else told[what] | {"gib": next(sizes)}

    monkeypatch.setattr(scoring, "measured", measure)
    rows = scoring.rows_of("mixed", model, {400: tmp_path, 200: tmp_path}, 2, tmp_path)
    assert rows == [
        ["mixed", "200", "100", "200", "2.00", "3.00", "1.00", "1.00"],
        ["mixed", "400", "200", "400", "2.00", "3.00", "1.50", "1.50"],
    ]


@pytest.mark.parametrize("what", ["floor", "job"])
def test_measurement_in_a_process_of_its_own_is_timed_and_weighed(what, model, tmp_path):
    given, out = tmp_path / "given.parquet", tmp_path / "out"
    scoring.write_candidates(given, 300)
    found = scoring.measured(what, model, given, out)
    assert found["wall"] > 0 and found["cpu"] > 0 and 0.1 < found["gib"] < 8
    if what == "job":
        scores = pl.read_parquet(out / "*.parquet")
        assert scores.height == 300 and scores["score"].is_finite().all()


def test_stages_of_a_log_sum_up_to_the_whole_and_each_was_there(tmp_path, monkeypatch, capsys):
    config = load_config(make_log(tmp_path).config)
    (tmp_path / "bundle").mkdir()
    bundle_of(config, train(load_dataset(config))).save(tmp_path / "bundle")
    found, real = [], scoring.seconds_by_stage
    monkeypatch.setattr(scoring, "seconds_by_stage", lambda stats: found.append(real(stats)) or found[0])
    scoring.show_log(tmp_path / "bundle")
    assert set(found[0]) == {*scoring.STAGES, "meta-learner", scoring.REST}
    assert min(found[0].values()) > 0
    text = capsys.readouterr().out
    assert " rows/s." in text and all(f"| {stage} | " in text for stage in found[0])
