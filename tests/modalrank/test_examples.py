"""The example configs, and the real data where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.training import train
from modalrank.validation import validate

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ("movies", "tiktok", "mq2008")
DATA = Path(os.environ.get("MODALRANK_DATA", ROOT.parent / "shared" / "data"))

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data sets are not in {DATA}")


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_a_valid_config(name):
    config = load_config(ROOT / "examples" / f"{name}.yaml")
    assert config.name == name and config.protocol == "strict"


@pytest.mark.data
@needs_data
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_passes_its_own_checks(name, monkeypatch):
    monkeypatch.setenv("MODALRANK_DATA", str(DATA))
    checks = validate(load_config(ROOT / "examples" / f"{name}.yaml"))
    assert [check.line() for check in checks if not check.passed and check.level == "fail"] == []


@pytest.mark.data
@needs_data
def test_judged_example_ranks_far_better_than_chance(monkeypatch):
    monkeypatch.setenv("MODALRANK_DATA", str(DATA))
    bases = [
        {"name": "linear", "family": "linear"},
        {"name": "trees", "family": "lightgbm", "params": {"rounds": 60}},
    ]
    overrides = ["threads=1", "labels.folds=2", f"bases={json.dumps(bases)}"]
    result = train(load_dataset(load_config(ROOT / "examples" / "mq2008.yaml", overrides)))
    # The best published rankers get about .70 without all-zero queries, a random order .33.
    assert 0.65 < result.metrics["ndcg@10"].mean < 0.8
