"""Inputs of every kind, good and bad."""

from __future__ import annotations

import gzip
import json

import fsspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import DataError, TryAgainError
from modalrank.scoring import batches, spool
from modalrank.scoring.sources import find_files
from tests.modalrank.scoring.conftest import content, scores_in
from tests.modalrank.worlds import with_cell

FEATURES = ("w1", "w2", "w3", "c1", "c2", "c3")


def write(rows: pl.DataFrame, file) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.name.endswith(".parquet"):
        rows.write_parquet(file)
    elif file.name.endswith(".csv"):
        rows.write_csv(file)
    elif file.name.endswith(".csv.gz"):
        file.write_bytes(gzip.compress(rows.write_csv().encode()))
    else:
        rows.write_ndjson(file)


@pytest.fixture
def expected(job, judged_rows):
    return scores_in(job(judged_rows, "expected").out)


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.jsonl", "rows.ndjson", "rows.parquet"])
def test_every_kind_of_file_gives_the_same_scores(name, job, judged_rows, expected, tmp_path):
    write(judged_rows, tmp_path / name)
    assert scores_in(job(tmp_path / name).out).equals(expected)


def test_folder_and_glob_of_mixed_files_give_the_same_scores(job, judged_rows, expected, tmp_path):
    folder = tmp_path / "in"
    for number, ending in enumerate(("parquet", "csv", "jsonl")):
        write(judged_rows[number * 90 : (number + 1) * 90], folder / f"day{number}" / f"rows.{ending}")
    (folder / "_SUCCESS").write_text("")
    (folder / "day0" / "._rows.csv").write_text("not a table")
    (folder / "readme.txt").write_text("not a table")
    result = job(folder)
    assert scores_in(result.out).equals(expected)
    assert [key for key, _ in result.manifest["input"]] == [
        "day0/rows.parquet",
        "day1/rows.csv",
        "day2/rows.jsonl",
    ]
    assert scores_in(job(folder / "day*" / "rows.*", "globbed").out).equals(expected)
    assert content(result.out)["part-00000.parquet"] == content(tmp_path / "globbed")["part-00000.parquet"]


@pytest.mark.parametrize("given", ["memory://lake/rows/a.csv", "memory://lake/rows", "memory://lake/*/*.csv"])
def test_url_is_read_through_fsspec(given, job, judged_rows, expected):
    store = fsspec.filesystem("memory")
    try:
        for name, part in (("a", judged_rows[:160]), ("b", judged_rows[160:])):
            store.pipe(f"/lake/rows/{name}.csv", part.write_csv().encode())
        result = job(given)
        wanted = expected.filter(pl.col("query") < "q20") if given.endswith("a.csv") else expected
        assert scores_in(result.out).equals(wanted)
        assert result.manifest["files"][0]["name"] == "memory:///lake/rows/a.csv"
    finally:
        store.rm("/lake", recursive=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere.csv", "nowhere.csv: there is no such file"),
        ("*.csv", r"got no table among 0 files"),
        ("memory://nowhere/a.csv", "there is no such file; fix: correct the URL"),
        ("nonsense://a.csv", "this kind of URL cannot be read"),
    ],
)
def test_input_that_is_not_there_is_named(given, said, job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=said.replace("*", r"\*")):
        job(given)
    assert list(tmp_path.iterdir()) == []


def test_file_of_another_kind_is_refused(job, tmp_path):
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"got the extension '\.xlsx', expected one of \.parquet"):
        job(tmp_path / "rows.xlsx")


def test_file_that_changes_while_it_is_read_is_no_input(tmp_path, judged_rows):
    write(judged_rows, tmp_path / "rows.csv")
    (source,) = find_files(str(tmp_path / "rows.csv"), tmp_path / "downloads")
    source.require_unchanged()
    write(judged_rows[1:], tmp_path / "rows.csv")
    with pytest.raises(TryAgainError, match="was changed while it was read"):
        source.require_unchanged()


@pytest.mark.parametrize(
    ("header", "column", "said"),
    [
        ("query_id,dok_id,w1", "doc_id", "did you mean 'dok_id'? then rename it to 'doc_id'"),
        ("query_id, DOC_ID,w1", "doc_id", "did you mean ' DOC_ID'? then rename it to 'doc_id'"),
        (
            "query_id,what,w1",
            "doc_id",
            "the file has query_id, what, w1; fix: add the column, or rename one of these",
        ),
        ("query_id;doc_id;w1", "query_id", "separate the columns by commas, not by ';'"),
        ("query_id,doc_id", "w1", "no such column, nor 'w2', 'w3', 'c1', 'c2', 'c3', the file has"),
    ],
)
def test_wrong_column_of_a_file_by_hand_is_named_with_the_fix_before_the_model_is_loaded(
    header, column, said, job, tmp_path, monkeypatch
):
    monkeypatch.setattr("modalrank.bundle.Bundle.load", lambda folder: pytest.fail("loaded"))
    (tmp_path / "rows.csv").write_text(f"{header}\nq1,d1,1\n")
    with pytest.raises(DataError) as told:
        job(tmp_path / "rows.csv")
    assert str(told.value).startswith(f"{tmp_path / 'rows.csv'}, column '{column}': no such column")
    assert said in str(told.value)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]


def test_wrong_column_in_the_second_file_is_found_before_any_row_is_read(job, judged_rows, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    write(judged_rows, folder / "a.csv")
    write(judged_rows.rename({"w3": "w_3"}), folder / "b.csv")
    with pytest.raises(DataError, match=r"b\.csv, column 'w3': no such column.*did you mean 'w_3'"):
        job(folder)


def bad_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows as texts, of which 3, 10, 20, 30 and 41 are bad, in this order of reasons."""
    text = rows.with_columns(pl.col(pl.Float64).cast(pl.String))
    text = with_cell(text, "doc_id", 3, None)
    text = with_cell(text, "query_id", 10, None)
    text = with_cell(text, "w2", 20, "twelve")
    text = with_cell(text, "c1", 30, "inf")
    return pl.concat([text[:40], text[:1], text[40:]])


REASONS = {3: "null key", 10: "null key", 20: "wrong type", 30: "infinite value", 41: "duplicate"}


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_quarantine_keeps_input_and_reason_and_scores_the_others(name, job, judged_rows, tmp_path):
    write(bad_rows(judged_rows), tmp_path / name)
    result = job(tmp_path / name, on_error="quarantine", shard_rows=60)
    kept = pl.read_parquet(result.out / "skipped" / "*.parquet")
    assert dict(kept.select("row", "reason").rows()) == REASONS
    assert set(kept["file"]) == {str(tmp_path / name)}
    assert json.loads(kept.filter(pl.col("row") == 20)["input"].item())["w2"] == "twelve"
    assert kept.filter(pl.col("row") == 20)["column"].item() == "w2"
    assert result.manifest["counts"]["skipped"] == {
        "duplicate": 1, "infinite value": 1, "null key": 2, "wrong type": 1
    }  # fmt: skip
    good = [row for row in range(240) if row not in (2, 9, 19, 29)]
    assert scores_in(result.out).equals(scores_in(job(judged_rows[good], "good").out))
    assert job(tmp_path / name, on_error="quarantine", shard_rows=60).done_before


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (3, "column 'doc_id', row 3: got nothing, expected an id; fix: fill it in or drop the row"),
        (10, "column 'query_id', row 10: got nothing, expected an id"),
        (20, "column 'w2', row 20: got 'twelve', expected a number"),
        (30, "column 'c1', row 30: got 'inf', expected a finite number or nothing"),
        (41, "row 41: got query 'q00' with item '.*' a second time, expected each once"),
    ],
)
def test_fail_names_file_column_row_and_fix(row, said, job, judged_rows, tmp_path):
    rows = bad_rows(judged_rows)
    others = [number - 1 for number in REASONS if number != row]
    good = bad_rows(judged_rows).with_row_index().filter(~pl.col("index").is_in(others)).drop("index")
    shift = sum(other < row - 1 for other in others)
    assert len(good) == len(rows) - 4
    write(good, tmp_path / "rows.csv")
    with pytest.raises(DataError, match=said.replace(f"row {row}", f"row {row - shift}")):
        job(tmp_path / "rows.csv")
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.job").exists()


def test_more_bad_rows_than_allowed_end_the_job(job, judged_rows, tmp_path):
    write(bad_rows(judged_rows), tmp_path / "rows.csv")
    with pytest.raises(DataError, match=r"got more than 2 bad rows, the last one: .*row 20: got 'twelve'"):
        job(tmp_path / "rows.csv", on_error="quarantine", max_errors=2)
    assert job(tmp_path / "rows.csv", on_error="quarantine", max_errors=5).rows == 236


def test_many_bad_rows_are_put_on_disk_in_several_files_that_resume_and_are_mended(
    job, judged_rows, tmp_path, monkeypatch
):
    write(bad_rows(judged_rows), tmp_path / "rows.csv")
    whole = job(tmp_path / "rows.csv", "whole", on_error="quarantine")
    monkeypatch.setattr("modalrank.scoring.checks.MOST_HELD", 2)
    with monkeypatch.context() as patch:
        patch.setattr("modalrank.scoring.job.score_chunk", lambda *a, **k: pytest.fail("the power is out"))
        with pytest.raises(pytest.fail.Exception):
            job(tmp_path / "rows.csv", on_error="quarantine")
    with monkeypatch.context() as patch:
        patch.setattr("modalrank.scoring.job.spool_input", lambda *a, **k: pytest.fail("read again"))
        result = job(tmp_path / "rows.csv", on_error="quarantine")
    names = [part["file"] for part in result.manifest["skipped_files"]]
    assert names == [f"skipped/part-{number:05d}.parquet" for number in range(3)]
    parts = pl.concat([pl.read_parquet(result.out / name) for name in names])
    together = pl.read_parquet(whole.out / "skipped" / "*.parquet")
    assert parts.sort("row").equals(together) and parts.height == 5
    assert result.manifest["counts"] == whole.manifest["counts"]
    assert scores_in(result.out).equals(scores_in(whole.out))
    assert job(tmp_path / "rows.csv", on_error="quarantine").done_before
    before = (result.out / names[1]).read_bytes()
    (result.out / names[1]).write_bytes(before[:-1])
    assert not job(tmp_path / "rows.csv", on_error="quarantine").done_before
    assert (result.out / names[1]).read_bytes() == before


def test_broken_rows_of_text_files_are_quarantined_with_their_number(job, judged_rows, tmp_path):
    lines = judged_rows.write_csv().splitlines()
    lines[5] += ",surplus"
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="row 5: got 10 values, expected 9"):
        job(tmp_path / "rows.csv")
    lines[9] = lines[9].replace(lines[9].split(",")[3], "twelve")
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    kept = pl.read_parquet(job(tmp_path / "rows.csv", on_error="quarantine").out / "skipped" / "*.parquet")
    assert kept.select("row", "reason").rows() == [(5, "broken row"), (9, "wrong type")]
    assert kept["input"][0].endswith(",surplus")
    objects = judged_rows.write_ndjson().splitlines()
    objects[3] = objects[3][:-1]
    objects[7] = "[1, 2]"
    (tmp_path / "rows.jsonl").write_text("\n".join(objects) + "\n")
    kept = pl.read_parquet(job(tmp_path / "rows.jsonl", on_error="quarantine").out / "skipped" / "*.parquet")
    assert kept.select("row", "reason").rows() == [(4, "broken row"), (8, "broken row")]


@pytest.mark.parametrize("harm", ["cut", "latin", "empty", "no_rows", "all_bad"])
def test_file_that_is_no_table_is_refused(harm, job, judged_rows, tmp_path):
    name = "rows.parquet" if harm == "cut" else "rows.csv"
    write(judged_rows, tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    told = {
        "cut": (raw[:-100], "this is not a whole Parquet table"),
        "latin": (raw.replace(b"q00", b"q\xe90"), "fix: save it as UTF-8"),
        "empty": (b"", "the table has no rows"),
        "no_rows": (raw.split(b"\n")[0] + b"\n", "the table has no rows"),
        "all_bad": (raw.split(b"\n")[0] + b"\n,,,,,,,,,\n", "or no good one"),
    }
    (tmp_path / name).write_bytes(told[harm][0])
    with pytest.raises(DataError, match=told[harm][1]):
        job(tmp_path / name, on_error="quarantine")
    assert not (tmp_path / "out").exists()


def test_ids_of_floats_are_refused_and_whole_numbers_are_texts(job, judged_rows, tmp_path):
    floats = judged_rows.with_columns(query_id=pl.col("query_id").str.slice(1).cast(pl.Float64))
    with pytest.raises(DataError, match="column 'query_id': got values of type Float64, expected strings"):
        job(floats)
    numbers = judged_rows.with_columns(query_id=pl.col("query_id").str.slice(1).cast(pl.Int64))
    write(numbers, tmp_path / "rows.csv")
    one, other = scores_in(job(numbers).out), scores_in(job(tmp_path / "rows.csv", "other").out)
    assert one.equals(other) and "7" in set(one["query"])


def test_unknown_items_are_refused_or_quarantined(job, log_model, tmp_path):
    pairs = pl.DataFrame({"user_id": ["u01", "u01"], "item_id": ["i01", "unheard-of"]})
    with pytest.raises(DataError, match=r"row 2: got 'unheard-of', expected an item .* with --items"):
        job(pairs, model=log_model)
    result = job(pairs, model=log_model, on_error="quarantine")
    assert result.rows == 1 and result.manifest["counts"]["skipped"] == {"unknown item": 1}


def test_user_twice_in_a_list_of_users(job, log_model, tmp_path):
    (tmp_path / "users.csv").write_text("user_id\nu01\nu02\nu01\n")
    with pytest.raises(DataError, match="row 3: got query 'u01' a second time"):
        job(tmp_path / "users.csv", model=log_model, kind="users")
    assert (
        job(tmp_path / "users.csv", model=log_model, kind="users", top_k=5, on_error="quarantine").rows == 10
    )


@given(st.lists(st.integers(1, 30), max_size=6, unique=True), st.integers(0, 24))
def test_row_numbers_around_skipped_rows(skipped, n_rows):
    left = [number for number in range(1, 100) if number not in skipped][:n_rows]
    found = batches._around(np.arange(1, n_rows + 1), sorted(skipped))
    assert found.tolist() == left


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=12),
    st.integers(1, 9),
    st.integers(1, 7),
)
def test_whole_queries_never_split_and_never_lose_a_row(sizes, chunk_rows, part_rows):
    queries = [f"{number:02d}" for number, (_, size) in enumerate(sizes) for _ in range(size)]
    rows = pl.DataFrame(
        {"bucket": [0] * len(queries), "query": queries}, schema={"bucket": pl.UInt32, "query": pl.String}
    )
    parts = [rows[start : start + part_rows] for start in range(0, len(rows), part_rows)]
    found = list(spool._whole_queries(iter(parts), 0, chunk_rows))
    if found:
        assert pl.concat([part for _, part in found]).equals(rows)
    seen: set[str] = set()
    place = 0
    for start, part in found:
        assert start == place and seen.isdisjoint(part["query"])
        place += len(part)
        seen |= set(part["query"])
        later = part["query"].unique(maintain_order=True)
        assert len(part) < chunk_rows + 5 or later.len() == 1
