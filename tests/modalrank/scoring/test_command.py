"""The command score: its names, what it says, and its exit codes."""

from __future__ import annotations

import json
import zlib

import polars as pl
import pytest

from features.errors import UsageError
from modalrank.scoring import Options
from modalrank.scoring.staging import only_writer
from modalrank.scoring_command import bytes_of, score_files
from modalrank.store import URI_VARIABLE, registry
from tests.modalrank.conftest import register
from tests.modalrank.scoring.conftest import content, saved, scores_in, silent, with_meta


@pytest.fixture(autouse=True)
def _in_store(registered, registered_judged, monkeypatch):
    monkeypatch.setenv(URI_VARIABLE, registered.uri)


@pytest.fixture
def pairs(tmp_path):
    file = tmp_path / "pairs.csv"
    file.write_text("user_id,item_id\nu01,i02\nu01,i03\nu02,i02\nu03,i04\n")
    return file


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("2GB", 2 << 30), ("512MiB", 512 << 20), ("1.5 g", 3 << 29), ("64k", 64 << 10), ("4096", 4096)],
)
def test_memory_is_read_in_the_units_people_write(text, n_bytes):
    assert bytes_of(text) == n_bytes


@pytest.mark.parametrize("text", ["", "much", "2 apples", "-1GB"])
def test_memory_that_is_no_size_is_refused(text, cli, registered, pairs):
    with pytest.raises(UsageError, match="--memory: got"):
        bytes_of(text)
    code, _, err = cli(
        "score", "--model", registered.model, "--candidates", pairs, "--out", "x", f"--memory={text}"
    )
    assert code == 2 and "--memory: got" in err


def test_tracking_a_model_without_a_training_run_is_refused_before_any_work(cli, judged_model, pairs):
    code, _, err = cli(
        "score", "--model", judged_model.folder, "--candidates", pairs, "--out", "x", "--track"
    )
    assert code == 2 and "give models:/NAME@champion, not a folder" in err


def test_alias_that_moves_during_the_job_changes_nothing_of_it(log_result, log_bundle, tmp_path, pairs):
    """What is registered first is scored with, though the alias leads to a second version in the middle."""
    store = f"sqlite:///{tmp_path / 'moving.db'}"
    first = register(log_result, log_bundle, store)
    moved = []

    def move(said: str) -> None:
        if said == "look at the input":
            moved.append(register(log_result, log_bundle, store).record.version)

    result = score_files(first.model, Options("candidates", str(pairs)), tmp_path / "out", store, move)
    with registry(store) as client:
        now = client.get_model_version_by_alias(first.record.model, "challenger").version
    assert [str(now)] == moved != [first.record.version]
    assert result.manifest["model"]["version"] == first.record.version
    assert set(scores_in(result.out)["model_version"]) == {first.record.version}
    again = score_files(first.model, Options("candidates", str(pairs)), tmp_path / "out", store, silent)
    assert not again.done_before and again.manifest["model"]["version"] == moved[0]


def test_command_given_twice_does_nothing_the_second_time_and_says_so(cli, registered, pairs, tmp_path):
    wanted = ["score", "--model", registered.model, "--candidates", pairs, "--out", tmp_path / "out"]
    code, out, _ = cli(*wanted)
    assert code == 0 and "4 rows by tiny-log (version " in out and "already" not in out
    before = content(tmp_path / "out")
    code, out, _ = cli(*wanted)
    assert code == 0 and "all of it was there already" in out
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize(("top_k", "is_said"), [(3, False), (1000, True)])
def test_lists_that_are_shorter_than_asked_are_told(cli, registered, tmp_path, top_k, is_said):
    (tmp_path / "users.csv").write_text("user_id\nu01\nu02\n")
    code, out, _ = cli(
        "score",
        "--model",
        registered.model,
        "--users",
        tmp_path / "users.csv",
        "--out",
        tmp_path / "x",
        "--top-k",
        top_k,
    )
    assert code == 0
    assert (f"items on average, not {top_k}: the sources know no more" in out) == is_said


def test_second_writer_of_an_output_gets_exit_code_5(cli, registered, pairs, tmp_path):
    wanted = ["score", "--model", registered.model, "--candidates", pairs, "--out", tmp_path / "out"]
    with only_writer(tmp_path / "out"):
        code, _, err = cli(*wanted)
    assert code == 5 and "another process is writing" in err and "run the command again" in err
    assert not (tmp_path / "out").exists()
    assert cli(*wanted)[0] == 0


def test_quarantine_partitions_and_newer_tables_by_their_names(
    cli, log_result, log_bundle, log_world, tmp_path
):
    """Everything that a night job may be given, in one command, to a model that reads all modalities."""
    model = saved(with_meta(log_result, log_bundle, "rank_fusion"), tmp_path / "model", "fusion")
    (tmp_path / "users.csv").write_text("user_id,age\nnewcomer,33\n")
    item = {"item_id": ["fresh"], "title": ["harbour tide"], "vector": [[1.0, 0.5, -0.5, 0.25]]}
    pl.DataFrame(item, schema_overrides={"vector": pl.List(pl.Float32)}).write_parquet(
        tmp_path / "items.parquet"
    )
    log = log_world.table("interactions.parquet")
    log.head(3 * len(log) // 4).write_parquet(tmp_path / "log.parquet")
    rows = [("newcomer", "fresh"), ("newcomer", "i02"), ("u01", "fresh"), ("u02", "i03"), ("u02", "i03")]
    rows += [("u03", "nobody"), (None, "i02")]
    given = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    given.write_parquet(tmp_path / "given.parquet")
    wanted = [
        *("score", "--model", model.folder, "--candidates", tmp_path / "given.parquet", "--json"),
        *("--items", tmp_path / "items.parquet", "--users-table", tmp_path / "users.csv"),
        *("--interactions", tmp_path / "log.parquet", "--partitions", 7, "--memory", "512MB"),
        *("--on-error", "quarantine", "--out", tmp_path / "out", "--max-errors"),
    ]
    code, out, err = cli(*wanted, 2)
    assert code == 3 and "got more than 2 bad rows" in err and not (tmp_path / "out").exists()
    code, out, _ = cli(*wanted, 3)
    assert code == 0
    told = json.loads(out)
    assert told["counts"]["skipped"] == {"duplicate": 1, "null key": 1, "unknown item": 1}
    assert told["options"]["partitions"] == 7 and set(told["options"]["fresh"]) == {
        "items", "users", "history"
    }  # fmt: skip
    scores = scores_in(tmp_path / "out")
    assert sorted(scores.select("query", "item").rows()) == sorted(set(rows[:5]))
    assert scores["score"].is_finite().all()
    used = {(query, item): modalities for query, item, modalities in scores.select(
        "query", "item", "modalities_used"
    ).rows()}  # fmt: skip
    assert "profile" in used["newcomer", "i02"] and "taste" in used["u01", "fresh"]
    skipped = pl.read_parquet(tmp_path / "out" / "skipped" / "*.parquet")
    assert skipped["row"].to_list() == [5, 6, 7] and json.loads(skipped["input"][1])["item_id"] == "nobody"
    folders = {file.parent.name for file in (tmp_path / "out").rglob("part-*.parquet")} - {"skipped"}
    assert folders == {f"bucket={zlib.crc32(query.encode()) % 7}" for query in ("newcomer", "u01", "u02")}
    assert len(folders) > 1
