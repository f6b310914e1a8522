"""What the changes of the leak checks keep and what they break."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
leaks = importlib.import_module("leaks")


@pytest.fixture
def tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ten users who each met six of 30 items, two of them in the test."""
    rng = np.random.default_rng(0)
    met = np.concatenate([rng.choice(30, 6, replace=False) for _ in range(10)])
    events = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in np.repeat(np.arange(10), 6)],
            "item_id": [f"i{item:02d}" for item in met],
            "split": ["train", "train", "train", "valid", "test", "test"] * 10,
        }
    )
    return events, pl.DataFrame({"item_id": [f"i{item:02d}" for item in range(30)], "price": np.arange(30)})


def changed(change: str, tables: tuple[pl.DataFrame, pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
    return getattr(leaks, change)(*tables, np.random.default_rng(1))


def prices(events: pl.DataFrame, items: pl.DataFrame) -> list[list[tuple[str, int]]]:
    """Return what each user met, by facts that no renaming changes."""
    met = events.join(items, on="item_id").group_by("user_id").agg(met=pl.struct("split", "price"))
    return sorted(sorted((e["split"], e["price"]) for e in user) for user in met["met"].to_list())


def test_renaming_changes_every_order_and_nothing_else(tables):
    events, items = changed("renamed", tables)
    assert not set(events["item_id"]) & set(tables[0]["item_id"])
    assert items["price"].to_list() != tables[1]["price"].to_list()
    assert prices(events, items) == prices(*tables)


def test_drawn_test_items_are_new_to_their_users_and_the_rest_stays(tables):
    events, items = changed("test_drawn", tables)
    is_test = pl.col("split") == "test"
    assert events.filter(~is_test).equals(tables[0].filter(~is_test))
    assert not events.select("user_id", "item_id").is_duplicated().any()
    assert (events["item_id"] != tables[0]["item_id"]).sum() == events.filter(is_test).height
    assert items.equals(tables[1])


def test_shuffled_train_keeps_the_test_and_no_more_than_the_popularity(tables):
    events, _ = changed("train_shuffled", tables)
    is_test = pl.col("split") == "test"
    assert events.filter(is_test).equals(tables[0].filter(is_test))
    assert not events.select("user_id", "item_id").is_duplicated().any()
    before = tables[0].filter(pl.col("split") == "train")["item_id"].value_counts()
    after = events.filter(pl.col("split") == "train")["item_id"].value_counts()
    gone = before.join(after, on="item_id", how="left", suffix="_after").fill_null(0)
    assert (gone["count_after"] <= gone["count"]).all()
    assert prices(*changed("train_shuffled", tables)) != prices(*tables)


def test_references_are_those_counted_by_hand(tmp_path):
    events = pl.DataFrame(
        {
            "user_id": ["a", "a", "b", "b"],
            "item_id": ["x", "y", "y", "z"],
            "split": ["train", "test", "train", "test"],
        }
    )
    events.write_parquet(tmp_path / "interactions.parquet")
    pl.DataFrame({"item_id": [f"i{n}" for n in range(37)] + ["x", "y", "z"]}).write_parquet(
        tmp_path / "items.parquet"
    )
    assert leaks.references(tmp_path, None) == ["0.5000", "0.5000"]
