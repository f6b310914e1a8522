from __future__ import annotations

import gzip
import json
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import DataError
from features.tables import Columns, read_entities, read_interactions, scan_interactions

COLUMNS = Columns("user", "movie", "stars", "when")
LOG = pl.DataFrame(
    {
        "user": ["b", "a", "b", "a"],
        "movie": ["x", "y", "z", "x"],
        "stars": [5, 3, 4, 0],
        "when": [datetime(2024, 1, day) for day in (2, 1, 1, 3)],
    }
)
EXPECTED = [
    ("a", "y", 3.0, 1704067200000000, 2),
    ("a", "x", 0.0, 1704240000000000, 4),
    ("b", "z", 4.0, 1704067200000000, 3),
    ("b", "x", 5.0, 1704153600000000, 1),
]


def write(frame: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.name.endswith(".csv.gz"):
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    elif path.suffix == ".csv":
        frame.write_csv(path)
    else:
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in frame.rows(named=True)))
    return path


def read(path: Path, columns: Columns = COLUMNS, **options):
    return read_interactions({None: [path]}, columns, **options)


def error_of(path: Path, columns: Columns = COLUMNS, **options) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path, columns, **options)
    return caught.value


@pytest.mark.parametrize("name", ["log.parquet", "log.csv", "log.csv.gz", "log.jsonl", "log.ndjson"])
def test_interactions_in_each_format_give_the_same_canonical_frame(tmp_path, name):
    frame = read(write(LOG, tmp_path / name))
    assert frame.schema == {
        "query": pl.String,
        "item": pl.String,
        "label": pl.Float32,
        "time": pl.Int64,
        "row": pl.Int64,
        "file": pl.String,
    }
    assert frame.drop("file").rows() == EXPECTED
    assert frame["file"].unique().to_list() == [str(tmp_path / name)]


@given(st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_interactions_in_any_file_order_give_the_same_rows(tmp_path_factory, order):
    path = write(LOG[list(order)], tmp_path_factory.mktemp("order") / "log.parquet")
    rows = read(path).drop("file", "row").rows()
    assert rows == [row[:4] for row in EXPECTED]


def test_interactions_without_a_label_column_get_the_label_one(tmp_path):
    frame = read(write(LOG, tmp_path / "log.parquet"), Columns("user", "movie"))
    assert frame["label"].to_list() == [1.0] * 4
    assert "time" not in frame.columns
    assert frame["item"].to_list() == ["x", "y", "x", "z"]


def test_integer_ids_become_texts_and_csv_ids_keep_their_zeros(tmp_path):
    log = pl.DataFrame({"user": [7, 12], "movie": [1, 2]})
    columns = Columns("user", "movie")
    assert read(write(log, tmp_path / "log.parquet"), columns)["query"].to_list() == ["12", "7"]
    (tmp_path / "log.csv").write_text("user,movie\n007,a\n7,a\n")
    assert read(tmp_path / "log.csv", columns)["query"].to_list() == ["007", "7"]


def test_split_files_give_the_split_column_and_extra_columns_stay(tmp_path):
    for name, user in (("train", 1), ("test", 2)):
        pl.DataFrame({"user": [user], "movie": ["x"], "f1": [0.5 * user], "device": ["tv"]}).write_parquet(
            tmp_path / f"{name}.parquet"
        )
    files = {"train": [tmp_path / "train.parquet"], "test": [tmp_path / "test.parquet"]}
    frame = read_interactions(files, Columns("user", "movie"), extra=["f1", "device"])
    assert frame.select("split", "f1", "device", "row").rows() == [
        ("train", 0.5, "tv", 1),
        ("test", 1.0, "tv", 1),
    ]


def test_split_and_weight_columns_are_read(tmp_path):
    log = LOG.with_columns(part=pl.Series(["train", "test", "valid", "train"]), w=pl.Series([1, 2, 3, 4]))
    frame = read(write(log, tmp_path / "log.csv"), Columns("user", "movie", weight="w", split="part"))
    assert frame.select("weight", "split").rows() == [(4, "train"), (2, "test"), (1, "train"), (3, "valid")]
    assert frame["weight"].dtype == pl.Float32


@pytest.mark.parametrize(
    ("values", "expected", "dtype"),
    [
        ([10, 20], [10, 20], pl.Int64),
        ([10.0, 20.0], [10, 20], pl.Int64),
        ([10.5, 20.0], [10.5, 20.0], pl.Float64),
        ([date(1970, 1, 1), date(1970, 1, 2)], [0, 86_400_000_000], pl.Int64),
        (["1970-01-01", "1970-01-01 00:00:01.5"], [0, 1_500_000], pl.Int64),
        (["1970-01-01T00:00:01Z", "1970-01-01T02:00:02+02:00"], [1_000_000, 2_000_000], pl.Int64),
    ],
)
def test_time_of_each_kind_is_read_as_utc_microseconds_or_as_given(tmp_path, values, expected, dtype):
    log = pl.DataFrame({"user": ["u", "u"], "movie": ["a", "b"], "when": values})
    frame = read(write(log, tmp_path / "log.parquet"), Columns("user", "movie", time="when"))
    assert frame["time"].to_list() == expected
    assert frame["time"].dtype == dtype


def test_time_with_a_zone_is_read_as_utc(tmp_path):
    when = pl.Series([datetime(1970, 1, 1, 1)]).dt.replace_time_zone("Europe/Berlin")
    log = pl.DataFrame({"user": ["u"], "movie": ["a"], "when": when})
    frame = read(write(log, tmp_path / "log.parquet"), Columns("user", "movie", time="when"))
    assert frame["time"].to_list() == [0]


@pytest.mark.parametrize(
    ("column", "value", "got"),
    [
        ("user", None, "nothing"),
        ("movie", None, "nothing"),
        ("stars", None, "nothing"),
        ("stars", float("nan"), "nan"),
        ("stars", float("inf"), "inf"),
        ("stars", -1.0, "-1.0"),
        ("when", None, "nothing"),
    ],
)
def test_interactions_with_a_bad_value_name_column_and_row(tmp_path, column, value, got):
    log = LOG.cast({"stars": pl.Float64})
    bad = log.with_columns(
        pl.when(pl.int_range(pl.len()) == 2).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )
    error = error_of(write(bad, tmp_path / "log.parquet"))
    assert (error.column, error.row, error.file) == (column, 3, str(tmp_path / "log.parquet"))
    assert f"got {got}" in error.problem


@pytest.mark.parametrize(("column", "value"), [("stars", "five"), ("when", "yesterday")])
def test_interactions_with_an_unparsable_text_name_it(tmp_path, column, value):
    rows = [["user,movie,stars,when"], ["a,x,1,2024-01-01"], ["a,y,2,2024-01-02"]]
    bad = {"stars": "a,z,five,2024-01-03", "when": "a,z,3,yesterday"}[column]
    (tmp_path / "log.csv").write_text("\n".join([row[0] for row in rows] + [bad]) + "\n")
    error = error_of(tmp_path / "log.csv")
    assert (error.column, error.row) == (column, 3)
    assert repr(value) in error.problem


def test_infinite_weight_and_feature_are_refused_and_nan_feature_is_kept(tmp_path):
    log = LOG.with_columns(
        w=pl.Series([1.0, 1.0, float("inf"), 1.0]), f=pl.Series([float("nan"), 1.0, 2.0, 3.0])
    )
    path = write(log, tmp_path / "log.parquet")
    assert error_of(path, Columns("user", "movie", weight="w")).row == 3
    error = error_of(path, Columns("user", "movie"), extra=["f", "w"])
    assert (error.column, error.row) == ("w", 3)
    assert read(path, Columns("user", "movie"), extra=["f", "f"])["f"].is_nan().sum() == 1


@pytest.mark.parametrize(
    ("column", "values"), [("user", [1.0, 2.0, 3.0, 4.0]), ("stars", [[1], [2], [3], [4]])]
)
def test_interactions_with_a_wrong_type_say_got_and_expected(tmp_path, column, values):
    error = error_of(write(LOG.with_columns(pl.Series(column, values)), tmp_path / "log.parquet"))
    assert error.column == column
    assert "got values of type" in error.problem
    assert "expected" in error.problem


def test_repeated_pair_is_refused_with_its_ids_and_row(tmp_path):
    log = pl.concat([LOG, LOG[1:2]])
    error = error_of(write(log, tmp_path / "log.parquet"))
    assert error.row == 5
    assert "'a'" in error.problem and "'y'" in error.problem


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_repeated_pair_with_last_keeps_the_latest_in_any_order(tmp_path, order):
    log = pl.DataFrame({"user": "u", "movie": ["a", "a", "b"], "stars": [1, 5, 3], "when": [10, 30, 20]})
    frame = read(write(log[order], tmp_path / "log.parquet"), duplicates="last")
    assert frame.select("item", "label", "time").rows() == [("b", 3, 20), ("a", 5, 30)]


def test_repeated_pair_with_last_needs_a_time(tmp_path):
    error = error_of(write(LOG, tmp_path / "log.parquet"), Columns("user", "movie"), duplicates="last")
    assert "time" in error.problem


def test_presorted_file_whose_query_starts_again_is_refused(tmp_path):
    path = write(LOG, tmp_path / "log.parquet")
    error = error_of(path, presorted=True)
    assert (error.column, error.row) == ("user", 3)
    assert read(path).drop("file").rows() == EXPECTED
    sorted_path = write(LOG.sort("user"), tmp_path / "sorted.parquet")
    assert len(read(sorted_path, presorted=True)) == 4


def test_files_of_other_kinds_of_time_or_feature_are_refused(tmp_path):
    first = write(LOG, tmp_path / "a.parquet")
    other = LOG.with_columns(when=pl.Series([1, 2, 3, 4]), user=pl.lit("c"), stars=pl.lit("high"))
    second = write(other, tmp_path / "b.parquet")
    with pytest.raises(DataError) as caught:
        read_interactions({None: [first, second]}, Columns("user", "movie", time="when"))
    assert (caught.value.column, caught.value.file) == ("when", str(second))
    with pytest.raises(DataError) as caught:
        read_interactions({None: [first, second]}, Columns("user", "movie"), extra=["stars"])
    assert caught.value.column == "stars"


def test_integer_float_and_empty_features_of_several_files_join(tmp_path):
    features = {"a": [1, 2], "b": [0.5, 1.5], "c": [None, None]}
    paths = []
    for user, values in features.items():
        log = pl.DataFrame({"user": [user, user], "movie": ["x", "y"], "f": values})
        paths.append(write(log, tmp_path / f"{user}.parquet"))
    frame = read_interactions({None: paths}, Columns("user", "movie"), extra=["f"])
    assert frame["f"].to_list() == [1.0, 2.0, 0.5, 1.5, None, None]


@pytest.mark.parametrize(
    ("files", "extra"),
    [
        ({"training": 1}, []),
        ({"train": 1, None: 1}, []),
        ({}, []),
        ({None: 1}, ["stars"]),
        ({None: 1}, ["row"]),
    ],
)
def test_inconsistent_request_is_refused(tmp_path, files, extra):
    path = write(LOG.with_columns(row=pl.lit(1)), tmp_path / "log.parquet")
    with pytest.raises(DataError):
        read_interactions({key: [path] * count for key, count in files.items()}, COLUMNS, extra=extra)


def test_split_given_by_file_and_by_column_is_refused(tmp_path):
    path = write(LOG.with_columns(part=pl.lit("train")), tmp_path / "log.parquet")
    with pytest.raises(DataError, match="one way"):
        read_interactions({"train": [path]}, Columns("user", "movie", split="part"))


def test_scan_lists_every_problem_and_keeps_the_readable_files(tmp_path):
    good = write(LOG, tmp_path / "good.parquet")
    bad = tmp_path / "bad.csv"
    bad.write_text("user,movie,stars,when\na,x,five,yesterday\n")
    frame, checks = scan_interactions({None: [good, bad, tmp_path / "none.csv"]}, COLUMNS)
    assert len(frame) == 4
    broken = [check.error for check in checks if not check.passed and check.error is not None]
    assert [error.column for error in broken] == ["stars", "when", None]
    nothing, checks = scan_interactions({None: [bad]}, COLUMNS)
    assert nothing.columns == frame.columns and len(nothing) == 0
    assert not any(check.passed for check in checks)


def test_entities_are_sorted_by_id_with_only_the_named_columns(tmp_path):
    items = pl.DataFrame({"key": [12, 7], "text": ["b", "a"], "vector": [[1.0], None], "other": [0, 0]})
    frame = read_entities(write(items, tmp_path / "items.parquet"), "key", ["vector", "text"])
    assert frame.columns == ["id", "vector", "text", "row"]
    assert frame.rows() == [("12", [1.0], "b", 1), ("7", None, "a", 2)]


@pytest.mark.parametrize(("ids", "row"), [(["a", None, "b"], 2), (["a", "b", "a"], 3), (["a", "", "b"], 2)])
def test_entities_with_a_missing_or_repeated_id_are_refused(tmp_path, ids, row):
    path = write(pl.DataFrame({"key": ids, "text": "t"}), tmp_path / "items.parquet")
    with pytest.raises(DataError) as caught:
        read_entities(path, "key", ["text"])
    assert (caught.value.column, caught.value.row, caught.value.file) == ("key", row, str(path))


def test_entities_without_a_column_or_with_a_taken_name_are_refused(tmp_path):
    path = write(pl.DataFrame({"key": ["a"], "row": ["t"]}), tmp_path / "items.parquet")
    with pytest.raises(DataError, match="no such column"):
        read_entities(path, "key", ["text"])
    with pytest.raises(DataError, match="taken"):
        read_entities(path, "key", ["row"])
