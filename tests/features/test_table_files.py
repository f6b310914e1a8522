from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import DataError
from features.table_files import read_table, sha256_of_file

LOG = pl.DataFrame({"user": ["b", "a", "b", "a"], "movie": ["x", "y", "z", "x"], "stars": [5, 3, 4, 0]})


def write(frame: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_ndjson(path)
    return path


def error_of(path: Path, *columns: str) -> DataError:
    with pytest.raises(DataError) as caught:
        read_table(path, columns)
    return caught.value


def test_missing_column_lists_what_is_there_and_the_nearest(tmp_path):
    for name in ("log.parquet", "log.csv", "log.jsonl"):
        error = error_of(write(LOG, tmp_path / name), "movies")
        assert error.column == "movies"
        assert "user, movie, stars" in error.problem
        assert "'movie'" in error.fix


def test_missing_file_and_folder_and_unknown_kind_are_refused(tmp_path):
    assert "no such file" in error_of(tmp_path / "none.parquet").problem
    assert "folder" in error_of(tmp_path).problem
    (tmp_path / "log.xlsx").write_text("x")
    assert "'.xlsx'" in error_of(tmp_path / "log.xlsx").problem


def test_error_names_the_file_as_the_user_wrote_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert error_of(Path("data/log.csv")).file == os.path.join("data", "log.csv")


@pytest.mark.parametrize("damage", ["cut", "empty", "garbled"])
def test_broken_parquet_is_refused(tmp_path, damage):
    path = tmp_path / "log.parquet"
    table = pa.table({"user": list(range(5000)), "movie": list(range(5000))})
    pq.write_table(table, path, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content.clear()
    else:
        content[200:2000] = b"\xff" * 1800
    path.write_bytes(content)
    error = error_of(path, "user", "movie")
    assert error.file == str(path)
    assert "no rows" in error.problem if damage == "empty" else "not a whole Parquet" in error.problem


def test_broken_csv_row_is_named(tmp_path):
    (tmp_path / "log.csv").write_text("user,movie\na,x\n\nb,y\nc\nd,z\n")
    assert error_of(tmp_path / "log.csv", "user", "movie").row == 3


def test_truncated_gzip_is_refused(tmp_path):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(LOG.write_csv().encode())[:30])
    assert error_of(path).file == str(path)


def test_csv_text_with_line_breaks_and_empty_text_is_read(tmp_path):
    (tmp_path / "items.csv").write_text('id,text,n\n1,"two\nlines",NA\n2,,3\n3,NA,4\n')
    frame = read_table(tmp_path / "items.csv", ["text", "n"])
    assert frame["text"].to_list() == ["two\nlines", None, "NA"]
    assert frame["n"].to_list() == [None, 3, 4]


@pytest.mark.parametrize(
    ("line", "column"),
    [('{"user": "c", "movie":', None), ("[1]", None), ('{"user": {}, "movie": "z"}', "user")],
)
def test_broken_json_line_is_named(tmp_path, line, column):
    good = '{"user": "a", "movie": "x"}\n\n{"user": "b", "movie": "y"}\n'
    (tmp_path / "log.jsonl").write_text(good + line + "\n" + good)
    error = error_of(tmp_path / "log.jsonl", "user", "movie")
    assert error.row == 3
    assert column is None or error.column == column


@pytest.mark.parametrize("name", ["log.parquet", "log.csv", "log.jsonl"])
def test_table_without_rows_is_refused(tmp_path, name):
    error = error_of(write(LOG.clear(), tmp_path / name))
    assert "no rows" in error.problem


def test_duplicate_column_names_are_refused(tmp_path):
    (tmp_path / "log.csv").write_text("user,user\na,x\n")
    pq.write_table(pa.table([["a"], ["x"]], names=["user", "user"]), tmp_path / "log.parquet")
    (tmp_path / "log.jsonl").write_text('{"user": "a", "user": "x"}\n')
    for name in ("log.csv", "log.parquet", "log.jsonl"):
        error = error_of(tmp_path / name, "user")
        assert error.column == "user"
        assert "twice" in error.problem


def test_table_keeps_the_order_of_the_file_and_of_the_request(tmp_path):
    frame = read_table(write(LOG, tmp_path / "log.parquet"), ["stars", "user"])
    assert frame.columns == ["stars", "user"]
    assert frame["stars"].to_list() == [5, 3, 4, 0]


def test_digest_covers_the_whole_content(tmp_path):
    content = b"x" * 3_000_000
    path = tmp_path / "file"
    path.write_bytes(content)
    assert sha256_of_file(path) == hashlib.sha256(content).hexdigest()
    path.write_bytes(content[:-1] + b"y")
    assert sha256_of_file(path) != hashlib.sha256(content).hexdigest()
    with pytest.raises(DataError):
        sha256_of_file(tmp_path / "none")


@pytest.mark.parametrize("name", ["log.parquet", "log.csv", "log.jsonl"])
def test_value_far_beyond_the_first_block_is_read_with_its_type(tmp_path, name):
    values = [1.0] * 200_000 + [0.5]
    frame = pl.DataFrame({"f": values, "text": ["padding" * 12] * len(values)})
    assert read_table(write(frame, tmp_path / name), ["f"])["f"].to_list() == values
