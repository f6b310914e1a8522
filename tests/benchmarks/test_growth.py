"""What the replication of users keeps."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import polars as pl

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
growth = importlib.import_module("growth")


def test_replicated_users_are_others_with_the_same_interactions():
    events = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"], "split": ["train"] * 3})
    items = pl.DataFrame({"item_id": ["x", "y"]})
    many, same = growth.replicated(events, items, times=3)
    assert same.equals(items)
    assert many.height == 9 and many["user_id"].n_unique() == 6
    assert many.select("user_id", "item_id").is_unique().all()
    assert many["item_id"].value_counts().sort("item_id")["count"].to_list() == [6, 3]
