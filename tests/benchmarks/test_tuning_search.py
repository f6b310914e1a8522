"""The benchmark of the search runs a real one, and its tracking share is that of what it wraps."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from modalrank.tuning_job.record import TrialRecorder
from tests.modalrank.worlds import make_judged

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
tuning = importlib.import_module("tuning_search")


def test_search_is_run_recorded_and_timed(tmp_path):
    judged_world = make_judged(tmp_path)
    before = TrialRecorder.__call__
    overrides = ["bases=[{name: fused, family: lightgbm}]", "ensemble.ladder=[best_single, greedy]"]
    result, clock = tuning.search(judged_world.config, overrides, ["fused"], 2)
    assert TrialRecorder.__call__ is before
    table = tuning.rows("judged", result, clock.seconds)
    assert [study.trials for study in result.studies] == [2, 2]
    assert table[0][1] == "**ensemble**" and table[0][6].endswith("(4 trials)")
    assert 0 < clock.seconds < result.seconds["search"]
    assert table[0][7] == f"{clock.seconds / result.seconds['search']:.1%}"


def test_clock_counts_what_it_watches():
    clock = tuning.Clock()
    assert clock.watching(lambda: time.sleep(0.02) or "done")() == "done"
    assert clock.seconds >= 0.02
