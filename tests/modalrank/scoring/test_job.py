"""What a job publishes, whoever interrupts it and however the input comes."""

from __future__ import annotations

import json
import os
import shutil

import polars as pl
import pyarrow.parquet as pq
import pytest

from features.errors import DataError, GateError, TryAgainError
from features.tables import sha256_of_file
from modalrank.scoring import Fresh, score_candidates, score_users
from modalrank.scoring import job as module
from modalrank.scoring.scorer import score_chunk as real
from modalrank.scoring.staging import only_writer
from tests.modalrank.scoring.conftest import content, scores_in
from tests.modalrank.worlds import user_ids

SMALL = {"shard_rows": 60}


def direct(bundle, rows: pl.DataFrame) -> pl.DataFrame:
    pairs = rows.rename(
        {"query_id": "query", "doc_id": "item", "user_id": "query", "item_id": "item"}, strict=False
    )
    return pl.concat(list(score_candidates(bundle, pairs)))


def test_output_is_what_the_model_says_with_its_version(job, judged_bundle, judged_rows):
    result = job(judged_rows, **SMALL)
    there = scores_in(result.out)
    assert there.drop("model_version").equals(direct(judged_bundle, judged_rows))
    assert set(there["model_version"]) == {"1"}
    assert there.columns == ["query", "item", "score", "rank", "modalities_used", "fallback", "model_version"]


def test_manifest_tells_model_inputs_counts_and_every_shard(job, judged_rows, tmp_path, judged_model):
    result = job(judged_rows, **SMALL)
    told = json.loads((result.out / "_manifest.json").read_text())
    assert told["model"] == judged_model.identity()
    assert told["input"] == [["given.parquet", sha256_of_file(tmp_path / "given.parquet")]]
    assert told["counts"] == {
        "read": 240, "queries": 30, "scored": 240, "written": 240, "fallback": 48, "skipped": {}
    }  # fmt: skip
    assert told["ignored_columns"] == ["grade"]
    assert sum(shard["rows"] for shard in told["shards"]) == 240 and len(told["shards"]) == 4
    for shard in told["shards"]:
        assert sha256_of_file(result.out / shard["file"]) == shard["sha256"]
        statistics = pq.ParquetFile(result.out / shard["file"]).metadata.row_group(0).column(2).statistics
        assert statistics.has_min_max
    assert set(content(result.out)) == {"_manifest.json", "_SUCCESS", *(s["file"] for s in told["shards"])}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.parquet", "out"]


@pytest.mark.parametrize("chunk_rows", [1, 56, 8000])
def test_chunks_change_no_byte(chunk_rows, job, judged_rows):
    expected = content(job(judged_rows, "whole").out)
    assert content(job(judged_rows, "chunked", chunk_rows=chunk_rows).out) == expected


@pytest.mark.parametrize("chunk_rows", [1, 280, 40_000])
def test_chunks_of_a_log_change_no_byte(chunk_rows, job, log_rows, log_model, log_bundle):
    result = job(log_rows, "chunked", log_model, chunk_rows=chunk_rows)
    assert scores_in(result.out).drop("model_version").equals(direct(log_bundle, log_rows))


def test_order_of_the_rows_changes_no_byte_of_the_scores(job, judged_rows):
    expected = content(job(judged_rows, "sorted", **SMALL).out)
    for seed in (1, 2):
        shuffled = judged_rows.sample(fraction=1, shuffle=True, seed=seed)
        found = content(job(shuffled, f"shuffled{seed}", memory=64 << 20, **SMALL).out)
        assert {n: c for n, c in found.items() if n.endswith("parquet")} == {
            n: c for n, c in expected.items() if n.endswith("parquet")
        }


def test_partitions_divide_the_queries_and_change_no_score(job, judged_rows):
    whole = scores_in(job(judged_rows, "whole").out)
    result = job(judged_rows, "divided", partitions=4, **SMALL)
    files = [shard["file"] for shard in result.manifest["shards"]]
    assert {name.split("/")[0] for name in files} == {f"bucket={number}" for number in range(4)}
    parts = {
        name: set(pl.read_parquet(result.out / name, hive_partitioning=False)["query"]) for name in files
    }
    for name, queries in parts.items():
        others = [q for other, q in parts.items() if other != name]
        assert queries.isdisjoint(*others) if len(others) == 1 else not queries & set.union(*others)
    assert scores_in(result.out).sort("query", "rank").equals(whole)


def test_second_run_is_a_no_op(job, judged_rows, monkeypatch):
    first = job(judged_rows, **SMALL)
    before = {file: file.stat().st_mtime_ns for file in first.out.rglob("*")}
    monkeypatch.setattr(
        "modalrank.bundle.Bundle.load", lambda folder: pytest.fail("a finished job loads nothing")
    )
    again = job(judged_rows, **SMALL)
    assert again.done_before and not first.done_before
    assert again.as_dict()["counts"] == first.as_dict()["counts"]
    assert {file: file.stat().st_mtime_ns for file in first.out.rglob("*")} == before


@pytest.mark.parametrize("harm", ["truncate", "edit", "remove", "no_success"])
def test_harmed_output_is_mended_to_the_same_bytes(harm, job, judged_rows, monkeypatch):
    first = job(judged_rows, **SMALL)
    expected = content(first.out)
    shard = first.out / first.manifest["shards"][1]["file"]
    if harm == "truncate":
        shard.write_bytes(shard.read_bytes()[:-7])
    elif harm == "edit":
        raw = bytearray(shard.read_bytes())
        raw[len(raw) // 2] ^= 1
        shard.write_bytes(raw)
    elif harm == "remove":
        shard.unlink()
    else:
        (first.out / "_SUCCESS").unlink()
    scored = []
    monkeypatch.setattr(
        module, "score_chunk", lambda b, rows, **how: scored.append(len(rows)) or real(b, rows, **how)
    )
    again = job(judged_rows, **SMALL)
    assert content(again.out) == expected and not again.done_before
    assert sum(scored) == (0 if harm == "no_success" else first.manifest["shards"][1]["rows"])


def test_change_of_input_options_model_or_table_is_a_new_job(
    job, judged_rows, judged_model, log_model, log_rows, tmp_path, log_world
):
    jobs = [job(judged_rows).manifest["job"]]
    other = judged_rows.with_columns(w1=pl.when(pl.int_range(pl.len()) == 7).then(0.5).otherwise("w1"))
    jobs.append(job(other).manifest["job"])
    jobs.append(job(judged_rows, on_error="quarantine").manifest["job"])
    changed = shutil.copytree(judged_model.folder, tmp_path / "other_model")
    (changed / "manifest.json").write_text((changed / "manifest.json").read_text() + "\n")
    jobs.append(job(judged_rows, model=type(judged_model)("tiny-judged", "1", changed)).manifest["job"])
    jobs.append(
        job(judged_rows, model=type(judged_model)("tiny-judged", "2", judged_model.folder)).manifest["job"]
    )
    jobs.append(job(log_rows, "log", log_model).manifest["job"])
    items = Fresh(items=log_world.folder / "items.parquet")
    jobs.append(job(log_rows, "log", log_model, fresh=items).manifest["job"])
    assert len(set(jobs)) == len(jobs)


def test_crash_leaves_the_old_output_and_the_next_run_goes_on(job, judged_rows, monkeypatch, tmp_path):
    old = job(judged_rows.head(80), **SMALL)
    before = content(old.out)
    expected = content(job(judged_rows, "other", **SMALL).out)
    calls = []

    def failing(bundle, rows, **how):
        calls.append(len(rows))
        if len(calls) == 3:
            raise RuntimeError("the power is out")
        return real(bundle, rows, **how)

    monkeypatch.setattr(module, "score_chunk", failing)
    with pytest.raises(RuntimeError, match="the power is out"):
        job(judged_rows, **SMALL)
    assert content(old.out) == before
    assert content(job(judged_rows, **SMALL).out) == expected
    assert len(calls) == 5, "two shards were kept"
    assert not (tmp_path / ".out.job").exists()


def test_second_writer_is_told_to_try_again(job, judged_rows, tmp_path):
    with (
        only_writer(tmp_path / "out"),
        pytest.raises(TryAgainError, match="another process is writing") as told,
    ):
        job(judged_rows)
    assert told.value.exit_code == 5
    assert job(judged_rows).rows == 240


@pytest.mark.parametrize("name", ["notes.txt", "part-00009.parquet"])
def test_folder_with_files_of_others_is_refused(name, job, judged_rows, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(DataError, match=f"the folder holds '{name}'"):
        job(judged_rows)
    assert content(tmp_path / "out") == {name: b"mine"}


def test_output_that_is_a_file_is_refused(job, judged_rows, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DataError, match="this is a file, expected a folder"):
        job(judged_rows)


def test_publication_cut_between_two_renames_is_mended(job, judged_rows, tmp_path, monkeypatch):
    """Where folders cannot be exchanged in one step, a crash may leave the old one aside."""
    first = job(judged_rows.head(80))
    before = content(first.out)
    first.out.rename(tmp_path / ".out.old")
    assert job(judged_rows.head(80)).done_before
    assert content(first.out) == before and not (tmp_path / ".out.old").exists()
    monkeypatch.setattr("ctypes.CDLL", lambda *a, **k: object())
    assert job(judged_rows).rows == 240
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.parquet", "out"]


def test_lists_of_users_are_those_of_the_model(job, log_model, log_bundle, log_world):
    users = log_world.folder / "users.parquet"
    result = job(users, "lists", log_model, "users", top_k=7, shard_rows=70)
    expected = pl.concat(list(score_users(log_bundle, user_ids(), 7))).sort("query", "rank")
    assert scores_in(result.out).drop("model_version").equals(expected)
    assert result.manifest["counts"]["scored"] > result.rows == 7 * len(user_ids())
    assert len(result.manifest["shards"]) == 4


def test_judged_model_makes_no_lists(job, tmp_path):
    (tmp_path / "users.csv").write_text("query_id\nq01\n")
    with pytest.raises(DataError, match="no sources to generate any"):
        job(tmp_path / "users.csv", kind="users")


def test_new_item_of_one_modality_is_scored_and_its_fallback_named(job, log_model, tmp_path):
    items = tmp_path / "new_items.csv"
    items.write_text("item_id,title,vector\nnew-item,harbour tide,\n")
    pl.DataFrame(
        {"item_id": ["new-item"], "title": ["harbour tide"], "vector": [None]},
        schema_overrides={"vector": pl.List(pl.Float32)},
    ).write_parquet(tmp_path / "new_items.parquet")
    pairs = pl.DataFrame({"user_id": ["u03", "u03", "stranger"], "item_id": ["new-item", "i01", "i01"]})
    fresh = Fresh(items=tmp_path / "new_items.parquet")
    rows = scores_in(job(pairs, model=log_model, fresh=fresh).out)
    assert rows["score"].is_finite().all()
    told = {(q, i): f for q, i, f in rows.select("query", "item", "fallback").rows()}
    assert "new_item" in told["u03", "new-item"] and "no_taste" in told["u03", "new-item"].split("+")
    assert "new_user" in told["stranger", "i01"] and told["u03", "i01"] == "none"


def test_drift_is_small_on_the_hold_out_and_refused_where_it_is_large(job, judged_rows):
    drift = job(judged_rows).manifest["drift"]
    assert drift["largest"] < 0.25 and set(drift["coverage"]) == {"words", "clicks"}
    assert drift["coverage"]["clicks"]["share"] == pytest.approx(0.8)
    poor = judged_rows.with_columns(pl.lit(None, pl.Float64).alias(c) for c in ("c1", "c2", "c3"))
    with pytest.raises(GateError, match="the drift of coverage of clicks is") as told:
        job(poor, "poor", max_drift=0.25)
    assert told.value.exit_code == 4
    assert job(poor, "poor").manifest["drift"]["coverage"]["clicks"]["share"] == 0


def test_nothing_published_where_drift_is_refused(job, judged_rows, tmp_path):
    old = job(judged_rows)
    before = content(old.out)
    poor = judged_rows.with_columns(pl.lit(None, pl.Float64).alias(c) for c in ("c1", "c2", "c3"))
    with pytest.raises(GateError):
        job(poor, max_drift=0.25)
    assert content(old.out) == before
    assert sorted(os.listdir(tmp_path)) == ["given.parquet", "out"]
