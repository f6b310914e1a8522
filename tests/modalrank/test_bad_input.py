"""Every bad input ends in exit code 3 and one line that says where it is, and nothing is written."""

from __future__ import annotations

import json

import polars as pl
import pytest

from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.encoding import fit_encoders
from modalrank.log_form import LogForm
from modalrank.scoring.staging import FORMAT
from tests.modalrank.worlds import with_cell


def listing(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def missing_file(world):
    (world.folder / "items.parquet").unlink()


def truncated_parquet(world):
    file = world.folder / "interactions.parquet"
    file.write_bytes(file.read_bytes()[:-100])


def broken_csv_row(world):
    file = world.folder / "interactions.csv"
    world.table("interactions.parquet").write_csv(file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:4], lines[4] + ",surplus", *lines[5:]]))
    world.configure(data={"interactions": "interactions.csv"})


def empty_table(world):
    world.rewrite("interactions.parquet", world.table("interactions.parquet").clear())


def item_without_features(world):
    log = world.table("interactions.parquet")
    world.rewrite("interactions.parquet", with_cell(log, "item_id", 7, "unheard-of"))


def text_as_label(world):
    log = world.table("interactions.parquet").cast({"rating": pl.String})
    world.rewrite("interactions.parquet", with_cell(log, "rating", 3, "good"))


def list_as_label(world):
    log = world.table("interactions.parquet")
    world.rewrite(
        "interactions.parquet", log.with_columns(pl.concat_list("rating", "rating").alias("rating"))
    )


def nan_label(world):
    log = world.table("interactions.parquet")
    world.rewrite("interactions.parquet", with_cell(log, "rating", 9, float("nan")))


def repeated_pair(world):
    log = world.table("interactions.parquet")
    again = log[:1].with_columns(pl.lit(1).cast(pl.Int64).alias("time"))
    world.rewrite("interactions.parquet", pl.concat([log, again]))


def one_user(world):
    log = world.table("interactions.parquet")
    world.rewrite("interactions.parquet", log.filter(pl.col("user_id") == "u00"))


def unequal_vectors(world):
    # The item is neither the first nor the last by its id, and the file is not in the order of ids.
    items = world.table("items.parquet").reverse()
    world.rewrite("items.parquet", with_cell(items, "vector", 4, [1.0, 2.0]))


def number_where_a_vector_is_expected(world):
    items = world.table("items.parquet")
    world.rewrite("items.parquet", items.with_columns(pl.lit("far away").alias("vector")))


def unknown_key(world):
    world.configure(candidates={"per_sauce": 10})


def value_out_of_range(world):
    world.configure(candidates={"per_source": 0})


def parameter_of_a_base_out_of_range(world):
    world.configure(bases=[{"name": "b", "family": "lightgbm", "params": {"rounds": 0}}])


def unknown_parameter_of_an_encoder(world):
    modality = {"columns": ["vector"], "encoder": "vectors", "params": {"dims": 3}}
    world.configure(modalities={"taste": modality})


LOG_CASES = {
    missing_file: ["items.parquet", "no such file"],
    truncated_parquet: ["interactions.parquet", "not a whole Parquet file"],
    broken_csv_row: ["interactions.csv, row 4:"],
    empty_table: ["interactions.parquet", "no rows"],
    item_without_features: [
        "interactions.parquet, column 'item_id', row 7:",
        "'unheard-of' without features",
    ],
    text_as_label: ["interactions.parquet, column 'rating', row 3: got 'good'"],
    list_as_label: ["interactions.parquet, column 'rating': got values of type List"],
    nan_label: ["interactions.parquet, column 'rating', row 9: got nan"],
    repeated_pair: ["interactions.parquet, row 481:", "a second time"],
    one_user: ["interactions.parquet, column 'user_id': got 1 queries"],
    unequal_vectors: ["items.parquet, column 'vector', row 4: got a vector of length 2, expected 4"],
    number_where_a_vector_is_expected: ["items.parquet, column 'vector': got type String"],
    unknown_key: ["config.yaml: unknown config key 'candidates.per_sauce'", "did you mean 'per_source'?"],
    value_out_of_range: ["config.yaml: config key 'candidates.per_source'", "got 0"],
    parameter_of_a_base_out_of_range: ["config.yaml: lightgbm.rounds: got 0"],
    unknown_parameter_of_an_encoder: ["config.yaml: vectors: got parameter 'dims'"],
}


def infinite_feature(world):
    world.rewrite("judged.parquet", with_cell(world.table("judged.parquet"), "w2", 12, float("inf")))


def list_as_feature(world):
    rows = world.table("judged.parquet")
    world.rewrite("judged.parquet", rows.with_columns(pl.concat_list("w1", "w2").alias("w2")))


def text_as_feature(world):
    rows = world.table("judged.parquet").cast({"c1": pl.String})
    world.rewrite("judged.parquet", with_cell(rows, "c1", 5, "many"))


def unsorted_groups(world):
    rows = world.table("judged.parquet")
    world.rewrite("judged.parquet", pl.concat([rows[1:10], rows[:1], rows[10:]]))
    world.configure(data={"presorted": True})


def equal_labels(world):
    rows = world.table("judged.parquet")
    world.rewrite("judged.parquet", rows.with_columns(grade=pl.lit(1.0)))


def one_query(world):
    rows = world.table("judged.parquet")
    world.rewrite("judged.parquet", rows.filter(pl.col("query_id") == "q03"))


def repeated_document(world):
    rows = world.table("judged.parquet")
    world.rewrite("judged.parquet", pl.concat([rows[:3], rows[2:]]))


JUDGED_CASES = {
    infinite_feature: ["judged.parquet, column 'w2', row 12: got inf"],
    list_as_feature: ["judged.parquet, column 'w2', row ", "in a column of type List"],
    text_as_feature: ["judged.parquet, column 'c1', row 5: got 'many'"],
    unsorted_groups: ["judged.parquet, column 'query_id', row 10: got 'q00'"],
    equal_labels: ["judged.parquet, column 'grade': all labels are 1"],
    one_query: ["judged.parquet, column 'query_id': got 1 queries"],
    repeated_document: ["judged.parquet, row 4:", "a second time"],
}


@pytest.mark.parametrize("spoil", LOG_CASES, ids=lambda spoil: spoil.__name__)
def test_train_on_a_bad_log_says_where_and_writes_nothing(spoil, own_log, cli, tmp_path):
    refused_train(own_log, spoil, LOG_CASES[spoil], cli, tmp_path)


@pytest.mark.parametrize("spoil", JUDGED_CASES, ids=lambda spoil: spoil.__name__)
def test_train_on_bad_judged_lists_says_where_and_writes_nothing(spoil, own_judged, cli, tmp_path):
    refused_train(own_judged, spoil, JUDGED_CASES[spoil], cli, tmp_path)


def refused_train(world, spoil, expected, cli, tmp_path):
    spoil(world)
    before = listing(tmp_path)
    code, out, err = cli("train", world.config)
    assert code == 3, err
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ") and "; fix: " in line
    assert all(words in line for words in expected), line
    assert listing(tmp_path) == before


def test_log_of_positives_only_is_legal(own_log):
    log = own_log.table("interactions.parquet")
    own_log.rewrite("interactions.parquet", log.with_columns(rating=pl.lit(5.0)))
    dataset = load_dataset(load_config(own_log.config))
    training = LogForm(dataset, fit_encoders(dataset, str), str).training()
    assert set(training.frame.labels.tolist()) == {0.0, 1.0}


def test_json_tells_machines_of_a_bad_input_too(own_log, cli):
    missing_file(own_log)
    code, out, err = cli("train", own_log.config, "--json")
    assert code == 3
    assert '"exit_code": 3' in out and "no such file" in out and "no such file" in err


def candidates(world, rows):
    file = world.folder / "candidates.parquet"
    pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String}, orient="row").write_parquet(file)
    return file


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (None, ["candidates.parquet", "no such file"]),
        ([("u01", "i01"), ("u02", "i01"), ("u01", "i01")], ["candidates.parquet, row 3:", "a second time"]),
        ([("u01", "i01"), ("u01", None)], ["candidates.parquet, column 'item_id', row 2: got nothing"]),
        ([("u01", "i01"), ("u01", "unheard-of")], ["'unheard-of'", "--items"]),
    ],
    ids=["missing", "duplicate", "null", "unknown_item"],
)
def test_score_of_bad_candidates_leaves_the_old_scores(
    rows, expected, registered, own_log, cli, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registered.uri)
    file = candidates(own_log, rows) if rows is not None else own_log.folder / "candidates.parquet"
    old = tmp_path / "scores" / "part-00000.parquet"
    old.parent.mkdir()
    old.write_bytes(b"the old scores")
    told = {"format": FORMAT, "job": "earlier", "shards": [{"file": old.name}], "skipped_files": []}
    (old.parent / "_manifest.json").write_text(json.dumps(told))
    before = listing(tmp_path)
    code, _, err = cli("score", "--model", registered.model, "--candidates", file, "--out", old.parent)
    assert code == 3
    (line,) = err.splitlines()
    assert all(words in line for words in expected), line
    assert old.read_bytes() == b"the old scores" and listing(tmp_path) == before


def test_score_without_a_store_says_so_and_makes_none(own_log, cli, tmp_path):
    before = listing(tmp_path)
    users = own_log.folder / "users.parquet"
    code, _, err = cli("score", "--model", "models:/nobody@challenger", "--users", users, "--out", "scores")
    assert code == 3 and "no model models:/nobody@challenger" in err
    assert listing(tmp_path) == before
