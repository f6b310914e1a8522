"""The benchmark of scoring measures what it says: the libraries' own calls, and a whole job."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import polars as pl
import pytest

from modalrank.bundle import Bundle

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
    seen = []
    monkeypatch.setattr(scoring, "predictions", lambda base, frame, threads: seen.append(frame.n_rows) or 0.0)
    assert scoring.floor(Bundle.load(model), given) > 0
    assert seen == [200] * 6 + [100] * 3


def test_job_in_a_process_of_its_own_is_timed_and_weighed(model, tmp_path):
    given, out = tmp_path / "given.parquet", tmp_path / "out"
    scoring.write_candidates(given, 300)
    found = scoring.measured("job", model, given, out)
    assert found["seconds"] > 0 and 0.1 < found["gib"] < 8
    scores = pl.read_parquet(out / "*.parquet")
    assert scores.height == 300 and scores["score"].is_finite().all()
