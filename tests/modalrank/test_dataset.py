from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest

from features.errors import DataError
from features.history import IdIndex
from modalrank.config import load_config, parse_config
from modalrank.dataset import (
    canonical_columns,
    load_dataset,
    modality_columns,
    read_entity_table,
    row_blocks,
    row_columns,
)
from modalrank.validation import validate
from tests.modalrank.worlds import EVENTS, N_COLD, N_ITEMS, N_USERS, item_ids, user_ids

ROWS = {"f": {"table": "interactions", "columns": ["f1", "f2"], "encoder": "numeric"}}


@pytest.fixture(scope="module")
def log(log_world):
    return load_dataset(load_config(log_world.config))


def test_codes_stand_for_the_ids_of_every_row(log):
    assert log.queries.ids[log.query_codes].tolist() == log.interactions["query"].to_list()
    assert log.items.ids[log.item_codes].tolist() == log.interactions["item"].to_list()
    assert log.interactions.select("query", "item").equals(
        log.interactions.select("query", "item").sort("query", "item")
    )


def test_items_and_users_that_only_the_tables_know_have_codes(log):
    assert log.items.ids.tolist() == item_ids()
    assert log.queries.ids.tolist() == user_ids()
    assert set(item_ids()[-N_COLD:]).isdisjoint(log.interactions["item"])


def test_codes_of_a_model_are_kept_and_new_ids_come_after(log_world):
    queries, items = IdIndex.of(["zoe", "u07"]), IdIndex.of(["i39", "i02"])
    dataset = load_dataset(load_config(log_world.config), queries, items)
    assert dataset.queries.ids[:2].tolist() == ["u07", "zoe"]
    assert dataset.items.ids[:2].tolist() == ["i02", "i39"]
    assert len(dataset.queries) == N_USERS + 1 and len(dataset.items) == N_ITEMS
    assert dataset.queries.ids[dataset.query_codes].tolist() == dataset.interactions["query"].to_list()


def test_split_by_user_time_keeps_the_last_rows_of_every_user_for_the_test(log):
    for user in log.interactions.partition_by("query"):
        assert len(user) == EVENTS
        parts = {name: user.filter(pl.col("split") == name)["time"] for name in ("train", "valid", "test")}
        assert parts["train"].max() < parts["valid"].min() <= parts["valid"].max() < parts["test"].min()
        assert len(parts["test"]) == 3


def test_in_split_takes_one_or_several(log):
    train, both = log.in_split("train"), log.in_split("train", "valid")
    assert train.sum() < both.sum() < len(both)
    assert not (log.in_split("test") & both).any()
    assert (log.in_split("test") | both).all()


def test_history_holds_the_rows_that_are_kept(log):
    keep = log.in_split("valid")
    history = log.history(keep)
    rows = log.interactions.filter(keep)
    assert log.queries.ids[history.users].tolist() == rows["query"].to_list()
    assert log.items.ids[history.items].tolist() == rows["item"].to_list()
    assert history.labels.tolist() == rows["label"].to_list()
    assert history.times.tolist() == rows["time"].to_list()
    assert (history.n_users, history.n_items, history.positive_from) == (N_USERS, N_ITEMS, 4.0)


def test_history_tells_the_split_of_each_row_as_a_stage(log):
    everything = log.history(np.ones(len(log.interactions), dtype=bool))
    for stage, split in enumerate(("train", "valid", "test")):
        np.testing.assert_array_equal(everything.stages == stage, log.in_split(split))
    np.testing.assert_array_equal(everything.take(log.in_split("valid")).stages, 1)


def test_history_without_a_time_column_has_no_times(judged_world):
    dataset = load_dataset(load_config(judged_world.config))
    assert dataset.history(dataset.in_split("train")).times is None


def test_split_by_query_keeps_whole_queries_together(judged_world):
    dataset = load_dataset(load_config(judged_world.config))
    splits = dataset.interactions.group_by("query").agg(pl.col("split").unique())
    assert set(splits["split"].list.len()) == {1}
    assert sorted(splits["split"].list.first().value_counts()["count"]) == [6, 6, 18]


def test_split_column_is_taken_as_it_is(own_log):
    log = own_log.table("interactions.parquet").with_columns(part=pl.lit("train"))
    log = log.with_columns(part=pl.Series((["train"] * 10 + ["valid", "test"]) * (len(log) // 12)))
    own_log.rewrite("interactions.parquet", log)
    own_log.configure(
        split={"by": "column"},
        data={"columns": {"label": "rating", "time": "time", "split": "part"}},
    )
    dataset = load_dataset(load_config(own_log.config))
    assert dataset.in_split("valid").sum() == dataset.in_split("test").sum() == len(log) // 12


def test_split_without_rows_is_refused(own_log):
    log = own_log.table("interactions.parquet")
    parts = pl.Series("part", (["train"] * 3 + ["test"]) * (len(log) // 4))
    own_log.rewrite("interactions.parquet", log.with_columns(parts))
    own_log.configure(
        split={"by": "column"}, data={"columns": {"label": "rating", "time": "time", "split": "part"}}
    )
    with pytest.raises(DataError, match="no row of the split 'valid'"):
        load_dataset(load_config(own_log.config))


def test_no_split_at_all_is_refused(own_log):
    own_log.configure(split={"by": "column"})
    with pytest.raises(DataError, match="got no split column"):
        load_dataset(load_config(own_log.config))


def test_row_order_of_the_files_changes_nothing(log, own_log):
    for name in ("interactions.parquet", "items.parquet", "users.parquet"):
        own_log.rewrite(name, own_log.table(name).sample(fraction=1, shuffle=True, seed=8))
    other = load_dataset(load_config(own_log.config))
    assert other.interactions.drop("row", "file").equals(log.interactions.drop("row", "file"))
    assert other.item_table.drop("row").equals(log.item_table.drop("row"))
    np.testing.assert_array_equal(other.query_codes, log.query_codes)


def test_input_digests_are_of_every_byte(log, log_world):
    files = [log_world.folder / f"{name}.parquet" for name in ("interactions", "items", "users")]
    expected = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert log.input_digests() == expected


def test_columns_of_tables_come_from_the_modalities(log_world):
    config = load_config(log_world.config)
    assert modality_columns(config)["profile"] == ("users", ("age",))
    assert row_columns(config.modalities) == []
    assert canonical_columns(config).named == {
        "query": "user_id",
        "item": "item_id",
        "label": "rating",
        "time": "time",
    }
    table = read_entity_table(config, "items", log_world.folder / "items.parquet")
    assert table.columns == ["id", "vector", "title", "row"]


def test_row_block_cell_without_a_value_is_missing_and_a_row_without_any_absent():
    config = parse_config({"data": {"form": "judged"}, "modalities": ROWS}, "here.yaml")
    rows = pl.DataFrame({"f1": [1, None, None], "f2": [0.5, float("nan"), 2.0]})
    block = row_blocks(config.modalities, rows)["f"]
    assert block.names == ("f1", "f2")
    np.testing.assert_array_equal(block.values, np.array([[1, 0.5], [np.nan] * 2, [np.nan, 2]], np.float32))
    assert block.present.tolist() == [True, False, True]


def test_validate_lists_every_file_that_cannot_be_read(own_log):
    (own_log.folder / "items.parquet").unlink()
    (own_log.folder / "users.parquet").write_bytes(b"PAR1")
    (own_log.folder / "interactions.parquet").write_bytes(b"")
    failed = {check.name for check in validate(load_config(own_log.config)) if not check.passed}
    assert failed == {"interactions readable", "items readable", "users readable"}
