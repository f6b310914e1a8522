"""The tables, scored by the real referee where it is at hand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
table = importlib.import_module("peer_table")
REFEREE = ROOT.parent / "shared" / "tools" / "score_topk.py"


def write_lists(path, item):
    users = [f"u{number}" for number in range(30)]
    pl.DataFrame({"user_id": users, "item_id": item, "score": 1.0}).write_parquet(path)
    return path


@pytest.mark.data
@pytest.mark.skipif(not REFEREE.is_file(), reason="the referee is not at hand")
def test_log_table_where_the_ensemble_finds_all_and_a_peer_nothing_shows_a_gain_of_one(tmp_path):
    users = [f"u{number}" for number in range(30)]
    log = [(user, "hit", "test") for user in users] + [("u0", "miss", "train")]
    interactions = tmp_path / "interactions.parquet"
    pl.DataFrame(log, schema=["user_id", "item_id", "split"], orient="row").write_parquet(interactions)
    ensemble = table.Entry("ensemble", [write_lists(tmp_path / f"{seed}.parquet", "hit") for seed in "01"])
    peer = table.Entry("peer", [write_lists(tmp_path / "peer.parquet", "miss")], "3", "0.1")
    absent = table.Entry("absent", note="not installed: absent")
    referee = table.Referee(REFEREE, interactions, None)
    lines = table.log_table([ensemble, peer, absent], ensemble, referee)
    interval = "[+1.0000, +1.0000]"
    assert lines[2].startswith("| ensemble | 1.0000 | 1.0000 |  |  | 1.0000 |")
    assert lines[3].startswith(f"| peer | 0.0000 | 0.0000 | +1.0000 {interval} {interval} |")
    assert lines[3].endswith("| 3 | 0.1 |")
    assert lines[4].startswith("| absent | not installed: absent |")
    assert {line.count("|") for line in lines[:5]} == {10}


def test_gain_is_marked_worse_where_an_interval_lies_below_zero():
    good, bad = {"mean": 0.02, "ci95": [-0.01, 0.05]}, {"mean": -0.04, "ci95": [-0.06, -0.02]}
    assert table.show_gain([good]) == "+0.0200 [-0.0100, +0.0500]"
    assert table.show_gain([good, bad]) == "-0.0100 [-0.0100, +0.0500] [-0.0600, -0.0200] **worse**"


def test_mean_of_a_slice_without_positives_is_empty():
    assert table.show_mean([None, None]) == ""
    assert table.show_mean([0.1, 0.2]) == "0.1500"
