from __future__ import annotations

import json
import subprocess
import sys

import polars as pl
import pytest
import yaml

from modalrank.config import load_config, parse_config
from modalrank.scoring import score_candidates
from modalrank.store import URI_VARIABLE, registry
from tests.modalrank.worlds import N_USERS, user_ids

COMMANDS = ("demo", "validate", "train", "evaluate", "score", "tune", "judge", "doctor")


@pytest.fixture
def in_store(registered, registered_judged, monkeypatch):
    monkeypatch.setenv(URI_VARIABLE, registered.uri)


def written(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_help_of_the_program_lists_the_commands_without_heavy_imports(tmp_path):
    code = (
        "import sys; from modalrank.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print('heavy:', sorted({'mlflow', 'lightgbm', 'sklearn', 'polars'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_says_what_it_does(command, cli):
    code, out, err = cli(command, "--help")
    assert (code, err) == (0, "")
    assert f" {command} [OPTIONS]" in out
    assert "--help" in out and "--json" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "Missing argument"),
        (["predict"], "predict"),
        (["train", "config.yaml", "--trials", "3"], "--trials"),
        (["evaluate", "config.yaml", "--split", "train"], "train"),
        (["evaluate", "config.yaml", "--robustness", "--seeds", "0"], "--seeds"),
        (["score", "--out", "x"], "--model"),
        (["score", "--model", "m", "--out", "x", "--users", "u", "--top-k", "0"], "equal to 1"),
        (["score", "--model", "m", "--out", "x"], "give either --candidates or --users"),
        (
            ["score", "--model", "m", "--out", "x", "--users", "u", "--candidates", "c"],
            "give either --candidates or --users",
        ),
    ],
)
def test_wrong_usage_exits_two_and_says_why(words, said, cli, tmp_path):
    code, _, err = cli(*words)
    assert code == 2
    assert said in err
    assert written(tmp_path) == {"working_folder"}


def test_print_config_shows_every_default_and_writes_nothing(cli, log_world, tmp_path):
    code, out, _ = cli("train", log_world.config, "--set", "seed=5", "--print-config")
    assert code == 0
    shown = yaml.safe_load(out)
    assert shown["seed"] == 5 and shown["device"] == "auto"
    assert parse_config(shown, "shown") == load_config(log_world.config, ["seed=5"])
    assert written(tmp_path) == {"working_folder"}


def test_validate_good_tables_prints_a_line_a_check(cli, log_world):
    code, out, err = cli("validate", log_world.config)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert all(line.split()[0] in ("PASS", "WARN") for line in lines)
    assert "PASS  items known  37 of 37 items of the interactions are in the item table" in lines
    assert any(
        line.startswith("PASS  coverage of title  75.0% of items (30 of 40) (e.g. i00, ") for line in lines
    )


def test_validate_json_is_the_same_for_machines(cli, judged_world):
    code, out, _ = cli("validate", judged_world.config, "--json")
    assert code == 0
    checks = {check["name"]: check for check in json.loads(out)}
    assert all(check["passed"] or check["level"] == "warn" for check in checks.values())
    assert checks["coverage of clicks"]["detail"] == "80.0% of interactions (192 of 240)"


def test_validate_bad_tables_prints_every_failure_and_exits_three(cli, own_log):
    log = own_log.table("interactions.parquet")
    broken = log.with_columns(
        rating=pl.when(pl.int_range(pl.len()) == 4).then(-1.0).otherwise("rating"),
        item_id=pl.when(pl.int_range(pl.len()) == 6).then(pl.lit("unheard-of")).otherwise("item_id"),
    )
    own_log.rewrite("interactions.parquet", broken)
    code, out, err = cli("validate", own_log.config)
    assert code == 3
    failed = [line for line in out.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 2
    assert "column 'rating', row 5: got -1.0" in failed[0]
    assert "items known" in failed[1] and "unheard-of" in failed[1] and "row 7" in failed[1]
    assert f"2 of {len(out.splitlines())} checks failed" in err


def test_train_records_in_the_default_store_of_the_working_folder(cli, judged_world, tmp_path):
    code, out, _ = cli("train", judged_world.config, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["record"]["version"] == "1" and found["record"]["uri"] == "sqlite:///mlruns/mlflow.db"
    assert found["chosen"] in [row["name"] for row in found["leaderboard"]]
    assert found["metrics"]["ndcg@5"]["n"] == 6
    assert {path.name for path in (tmp_path / "working_folder").iterdir()} == {"mlruns"}
    assert {path.name for path in (tmp_path / "working_folder" / "mlruns").iterdir()} >= {
        "mlflow.db",
        "artifacts",
    }


def test_evaluate_finds_what_the_training_found(cli, in_store, log_world, log_result):
    code, out, _ = cli("evaluate", log_world.config, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["model"], found["split"], found["left_out"]) == ("models:/tiny-log@challenger", "test", 0)
    for name, interval in log_result.metrics.items():
        assert found["metrics"][name]["mean"] == pytest.approx(interval.mean), name
    assert [part["name"] for part in found["slices"]] == [part.name for part in log_result.slices]


def test_evaluate_shows_a_table_of_valid_and_of_a_numbered_model(cli, in_store, judged_world):
    code, out, _ = cli(
        "evaluate", judged_world.config, "--split", "valid", "--model", "models:/tiny-judged/1"
    )
    assert code == 0
    assert "models:/tiny-judged/1 on valid" in out and "ndcg@5" in out and "0 queries have no positive" in out


def test_score_candidates_writes_what_the_model_says(cli, in_store, registered, tmp_path):
    file = tmp_path / "candidates.csv"
    file.write_text("user_id,item_id\nu09,i38\nu09,i02\nstranger,i02\nu01,i02\n")
    code, out, _ = cli(
        "score", "--model", registered.model, "--candidates", file, "--out", "scores", "--json"
    )
    assert code == 0
    shown = json.loads(out)
    assert (shown["rows"], shown["model"]["version"]) == (4, registered.record.version)
    scores = pl.read_parquet(tmp_path / "working_folder" / "scores" / "*.parquet")
    known = pl.read_csv(file, new_columns=["query", "item"]).filter(pl.col("query") != "stranger")
    expected = pl.concat(list(score_candidates(registered.bundle, known))).sort("query", "rank")
    there = scores.filter(pl.col("query") != "stranger").drop("model_version").sort("query", "rank")
    assert there.equals(expected)


def test_score_users_writes_lists_of_top_k(cli, in_store, registered, log_world, tmp_path):
    users = log_world.folder / "users.parquet"
    code, out, _ = cli(
        "score", "--model", registered.model, "--users", users, "--out", "lists", "--top-k", "3"
    )
    assert code == 0
    assert f"{3 * N_USERS} rows by tiny-log (version " in out
    lists = pl.read_parquet(tmp_path / "working_folder" / "lists" / "*.parquet")
    assert sorted(lists["query"].unique()) == user_ids()
    assert set(lists.group_by("query").agg(pl.col("rank").sort())["rank"].to_list()[0]) == {1, 2, 3}


def test_doctor_tells_versions_devices_and_the_store(cli, monkeypatch):
    monkeypatch.setenv(URI_VARIABLE, "http://store:5000")
    code, out, _ = cli("doctor", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["tracking"] == "http://store:5000"
    assert {"python", "cores", "mlflow", "lightgbm", "device of catboost"} <= set(facts)


def test_error_that_is_no_mistake_of_the_user_keeps_its_traceback(monkeypatch):
    from modalrank import cli as module
    from modalrank import jobs

    def broken():
        raise RuntimeError("a bug")

    monkeypatch.setattr(jobs, "diagnose", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        module.main(["doctor"])


def test_score_tracks_a_job_once_explains_it_and_refuses_drift(cli, in_store, registered, tmp_path):
    file = tmp_path / "pairs.parquet"
    pl.DataFrame({"user_id": ["u000"] * 3, "item_id": ["i00", "i01", "i02"]}).write_parquet(file)
    wanted = ["score", "--model", registered.model, "--candidates", file, "--out", "told"]
    runs = []
    for _ in range(2):
        code, out, _ = cli(*wanted, "--track", "--explain", "--json")
        assert code == 0
        runs.append(json.loads(out)["run"])
    assert runs[0] == runs[1]
    with registry(registered.uri) as client:
        run = client.get_run(runs[0])
        assert [file.path for file in client.list_artifacts(runs[0])] == ["manifest.json"]
    assert run.data.metrics["rows.scored"] == 3.0
    assert {"drift.score_psi", "drift.largest", "coverage.title"} <= set(run.data.metrics)
    assert run.info.status == "FINISHED" and run.data.tags["version"]
    folder = tmp_path / "working_folder"
    scores = pl.read_parquet(folder / "told" / "*.parquet")
    assert any(name.startswith("contribution_") for name in scores.columns)
    code, _, err = cli(*wanted[:-1], "refused", "--max-drift", "0")
    assert code == 4 and "the drift of" in err
    assert not (folder / "refused").exists()
