from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest

from features.errors import DataError, TryAgainError
from modalrank.bundle import Bundle
from modalrank.config import Config, load_config
from modalrank.jobs import train_and_record
from modalrank.plots import figures
from modalrank.scoring import candidates_of, score_table
from modalrank.store import URI_VARIABLE, fetch_model, open_store, require_store, tracking_uri
from modalrank.tracking import record
from tests.modalrank.worlds import LOG_CONFIG

CHECKOUT = Path(__file__).resolve().parents[2]
PICKLES = {".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth"}
LOAD_AND_SCORE = """
import os, sys
from importlib.util import find_spec

checkout, *jobs = sys.argv[1:]
sys.path[:] = [path for path in sys.path if os.path.realpath(path) != checkout]
assert find_spec("modalrank") is None, "the checkout can still be imported"

import mlflow
import pandas

for job in jobs:
    model, candidates, scores = job.split("|")
    mlflow.pyfunc.load_model(model).predict(pandas.read_parquet(candidates)).to_parquet(scores)

import modalrank
print(os.path.realpath(modalrank.__file__))
"""


@pytest.fixture
def in_store(store, monkeypatch):
    monkeypatch.setenv(URI_VARIABLE, store)
    mlflow.set_tracking_uri(store)


@pytest.fixture
def client(registered):
    return mlflow.MlflowClient(registered.uri, registered.uri)


@pytest.fixture
def artifacts(registered, client) -> Path:
    uri = client.get_run(registered.record.run_id).info.artifact_uri
    return Path(uri.removeprefix("file://"))


def log_candidates() -> pl.DataFrame:
    """Pairs in no order, with items that nobody met and a user whom the model does not know."""
    pairs = [
        (user, item) for user in ("u07", "u00", "u39", "stranger") for item in ("i39", "i00", "i12", "i05")
    ]
    return pl.DataFrame(pairs, schema=["query", "item"], orient="row").sample(
        fraction=1, shuffle=True, seed=0
    )


def test_run_has_the_config_as_params(registered, client):
    params = client.get_run(registered.record.run_id).data.params
    assert params["data.form"] == "log" and params["threads"] == "1"
    assert json.loads(params["ensemble.ladder"]) == LOG_CONFIG["ensemble"]["ladder"]
    assert json.loads(params["bases"])[0]["name"] == "taste"


def test_run_has_metrics_of_test_validation_slices_and_sources(registered, client, log_result):
    metrics = client.get_run(registered.record.run_id).data.metrics
    assert metrics["test.ndcg_at_5"] == pytest.approx(log_result.metrics["ndcg@5"].mean)
    by_name = {standing.name: standing.valid.mean for standing in log_result.standings}
    assert metrics["valid.single.taste_neighbours"] == pytest.approx(by_name["taste_neighbours"])
    assert metrics["valid.meta.best_single"] == pytest.approx(by_name["best_single"])
    assert metrics["ceiling.union"] == pytest.approx(log_result.ceilings["union"])
    # Another test may have measured the robustness of this model, which its run holds too.
    kinds = {name.split(".")[0] for name in metrics} - {"robustness"}
    assert kinds == {"test", "valid", "slice", "ceiling", "seconds"}


def test_run_is_tagged_with_the_commit_and_the_choice(registered, client, log_result):
    tags = client.get_run(registered.record.run_id).data.tags
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True)
    expected = commit.stdout.strip() if commit.returncode == 0 else "not in a git work tree"
    assert tags["git_commit"] == expected
    assert tags["chosen"] == log_result.chosen


def test_run_keeps_the_config_that_trains_the_same(registered, artifacts):
    import yaml

    kept = yaml.safe_load((artifacts / "config.yaml").read_text())
    assert Config.model_validate(kept) == registered.config


def test_run_keeps_the_digest_of_every_byte_of_the_inputs(artifacts, log_world):
    files = [log_world.folder / f"{name}.parquet" for name in ("interactions", "items", "users")]
    expected = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert json.loads((artifacts / "inputs_sha256.json").read_text()) == expected


def test_run_keeps_leaderboard_slices_versions_and_plots(artifacts, log_result):
    board = pl.read_csv(artifacts / "leaderboard.csv")
    assert board["name"].to_list() == [standing.name for standing in log_result.standings]
    assert board.filter(pl.col("chosen"))["name"].to_list() == [log_result.chosen]
    slices = pl.read_csv(artifacts / "slices.csv")
    assert slices["n"].to_list() == [part.value.n for part in log_result.slices]
    versions = json.loads((artifacts / "versions.json").read_text())
    assert versions["mlflow"] == mlflow.__version__ and "lightgbm" in versions
    plots = {path.name for path in (artifacts / "plots").iterdir()}
    assert {"leaderboard_valid.png", "leaderboard_test.png", "slices_pattern.png"} <= plots
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (artifacts / "plots").iterdir())


def test_model_is_the_challenger_with_signature_and_example(registered, registered_judged, client, in_store):
    version = client.get_model_version_by_alias(registered.record.model, "challenger")
    assert version.run_id == registered.record.run_id
    info = mlflow.models.get_model_info(registered.model)
    assert info.signature.inputs.input_names() == ["query", "item"]
    assert info.signature.outputs.input_names() == [
        *("query", "item", "score", "rank", "modalities_used", "fallback")
    ]
    assert info.saved_input_example_info is not None
    judged = mlflow.models.get_model_info(registered_judged.model).signature.inputs
    assert judged.input_names() == ["query", "item", "w1", "w2", "w3", "c1", "c2", "c3"]
    assert judged.required_input_names() == ["query", "item"]


def test_second_training_is_version_two_and_takes_the_alias(
    registered_judged, judged_result, client, in_store
):
    name = registered_judged.record.model
    before = client.get_model_version_by_alias(name, "challenger")
    again = record(open_store(registered_judged.config), registered_judged.config, judged_result, {})
    assert int(again.version) == int(before.version) + 1
    now = client.get_model_version_by_alias(name, "challenger")
    assert (str(now.version), now.run_id) == (again.version, again.run_id)
    assert client.get_model_version(name, before.version).aliases == []


def test_nothing_that_was_recorded_is_a_pickle(registered, registered_judged, artifacts):
    store = artifacts.parents[1]
    files = [path for path in store.rglob("*") if path.is_file()]
    assert any(path.name == "manifest.json" for path in files)
    assert [path for path in files if path.suffix in PICKLES] == []


def test_model_in_a_clean_process_gives_the_same_bits(registered, registered_judged, judged_world, tmp_path):
    judged = (
        judged_world.table("judged.parquet").rename({"query_id": "query", "doc_id": "item"}).drop("grade")
    )
    candidates = {"log": log_candidates(), "judged": judged[::-1]}
    models = {"log": registered, "judged": registered_judged}
    jobs = []
    for name, frame in candidates.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
        jobs.append(f"{models[name].model}|{name}.parquet|{name}_scores.parquet")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "OMP_WAIT_POLICY": "passive",
        URI_VARIABLE: registered.uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOAD_AND_SCORE, str(CHECKOUT), *jobs],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    code = Path(done.stdout.splitlines()[-1])
    assert not code.is_relative_to(CHECKOUT), "the model did not bring its own code"
    for name, frame in candidates.items():
        expected = score_table(models[name].bundle, candidates_of(models[name].bundle, frame.to_pandas()))
        there = pl.read_parquet(tmp_path / f"{name}_scores.parquet")
        assert len(there) == len(frame)
        assert np.array_equal(
            there["score"].to_numpy().view(np.int64), expected["score"].to_numpy().view(np.int64)
        )
        assert there.drop("score").equals(expected.drop("score"))


def test_fetched_model_is_a_folder_with_a_bundle_by_alias_number_or_path(registered, in_store):
    by_alias, version = fetch_model(registered.uri, registered.model)
    by_number, _ = fetch_model(registered.uri, f"models:/{registered.record.model}/{version}")
    assert version == registered.record.version
    for folder in (by_alias, by_number, fetch_model(registered.uri, str(by_alias))[0]):
        assert (folder / "manifest.json").is_file()


@pytest.mark.parametrize(
    "model", ["models:/nobody@challenger", "models:/tiny-log@nothing", "models:/tiny-log/99", "no/folder"]
)
def test_unknown_model_is_a_data_error(model, registered, in_store):
    with pytest.raises(DataError, match=r"no .*model"):
        fetch_model(registered.uri, model)


def test_variable_comes_before_the_config(monkeypatch):
    config = Config.model_validate({"tracking": {"uri": "sqlite:///here.db"}})
    assert tracking_uri(config) == "sqlite:///here.db"
    monkeypatch.setenv(URI_VARIABLE, "http://there:5000")
    assert tracking_uri(config) == "http://there:5000"


def test_store_that_cannot_be_opened_asks_to_try_again(tmp_path):
    broken = tmp_path / "mlflow.db"
    broken.write_bytes(b"this is no database, but it is long enough to look like a file of one" * 20)
    config = Config.model_validate({"tracking": {"uri": f"sqlite:///{broken}"}})
    with pytest.raises(TryAgainError, match=r"mlflow\.db does not answer.*not a database"):
        require_store(config)
    with pytest.raises(TryAgainError, match="not a database"):
        fetch_model(config.tracking.uri, "models:/tiny-log@challenger")


def test_looking_for_a_store_that_is_not_there_yet_makes_none(tmp_path):
    require_store(Config.model_validate({"tracking": {"uri": f"sqlite:///{tmp_path}/new/mlflow.db"}}))
    assert list(tmp_path.iterdir()) == []


def test_four_processes_may_open_a_fresh_store_at_once(tmp_path):
    uri = f"sqlite:///{tmp_path / 'fresh' / 'mlflow.db'}"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", "modalrank.store"])
    with context.Pool(4) as pool:
        experiments = pool.map_async(experiment_of_opened_store, [uri] * 4, chunksize=1).get(timeout=120)
    assert len(set(experiments)) == 1
    with sqlite3.connect(tmp_path / "fresh" / "mlflow.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        assert database.execute("select count(*) from alembic_version").fetchone() == (1,)
    database.close()
    assert experiment_of_opened_store(uri) == experiments[0]


def experiment_of_opened_store(uri: str) -> str:
    config = Config.model_validate({"tracking": {"uri": uri}})
    return open_store(config).get_experiment_by_name("modalrank").experiment_id


def test_training_that_fails_records_nothing(own_judged, monkeypatch, tmp_path):
    monkeypatch.setenv(URI_VARIABLE, f"sqlite:///{tmp_path / 'none' / 'mlflow.db'}")
    rows = own_judged.table("judged.parquet")
    # Grades that differ between queries only: sound tables from which nothing can be learned.
    flat = rows.with_columns(grade=pl.col("query_id").rank("dense") % 2)
    own_judged.rewrite("judged.parquet", flat.cast({"grade": pl.Float64}))
    with pytest.raises(DataError, match="no query holds two different labels"):
        train_and_record(load_config(own_judged.config), str)
    assert not (tmp_path / "none").exists()


@pytest.fixture
def breaking_store(own_judged, monkeypatch, tmp_path):
    """What trains a model and then finds its store broken, in a working folder of its own."""
    store = tmp_path / "mlflow.db"
    monkeypatch.setenv(URI_VARIABLE, f"sqlite:///{store}")
    monkeypatch.chdir(tmp_path)

    def say(text: str) -> None:
        if text.startswith("record"):
            store.write_bytes(b"this is no database, but it is long enough to look like a file of one" * 20)

    return lambda: train_and_record(load_config(own_judged.config), say)


def test_a_model_that_the_store_does_not_take_is_kept(breaking_store, judged_result, tmp_path):
    with pytest.raises(TryAgainError, match="not a database") as told:
        breaking_store()
    [folder] = (tmp_path / "mlruns" / "unrecorded").iterdir()
    assert f"--model {folder.relative_to(tmp_path)}," in str(told.value)
    stack, frame = Bundle.load(folder).stack, judged_result.test.frame
    np.testing.assert_array_equal(stack.meta.score(frame), judged_result.test_scores[judged_result.chosen])


def test_a_model_that_can_be_kept_nowhere_does_not_hide_what_the_store_said(breaking_store, tmp_path):
    (tmp_path / "mlruns").write_text("a file where the folder should be")
    with pytest.raises(TryAgainError, match=r"not a database.*the model is lost, as it cannot be kept"):
        breaking_store()


def test_figures_show_every_standing_and_kind_of_slice(judged_result):
    plots = figures(judged_result)
    assert set(plots) == {"leaderboard_valid", "leaderboard_test", "slices_pattern"}
    labels = [text.get_text() for text in plots["leaderboard_valid"].axes[0].get_yticklabels()]
    assert labels == [standing.name for standing in judged_result.standings]


def test_config_of_many_params_and_metrics_is_recorded_whole(log_result, log_bundle, store, monkeypatch):
    monkeypatch.setenv(URI_VARIABLE, store)
    config = log_bundle.config
    more = {f"title_{n}": config.modalities["title"] for n in range(40)}
    update = {"name": "wide", "modalities": {**config.modalities, **more}}
    wide = config.model_copy(update=update)
    slices = [replace(log_result.slices[0], name=f"part {n}") for n in range(1200)]
    recorded = record(open_store(wide), wide, replace(log_result, slices=slices), {})
    run = mlflow.MlflowClient(store, store).get_run(recorded.run_id)
    assert "modalities.title_39.encoder" in run.data.params and len(run.data.params) > 160
    assert sum(name.startswith("slice.") for name in run.data.metrics) == 1200


@pytest.fixture
def kept_in_a_bucket(request, store, monkeypatch) -> Config:
    """A config whose experiment keeps its artefacts in a bucket behind a port that nobody serves."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    name = request.node.name
    mlflow.MlflowClient(store, store).create_experiment(name, artifact_location="s3://shop/mlflow")
    return Config.model_validate({**LOG_CONFIG, "tracking": {"uri": store, "experiment": name}})


def test_a_bucket_that_does_not_answer_is_found_before_the_training(kept_in_a_bucket):
    with pytest.raises(TryAgainError, match="does not answer"):
        require_store(kept_in_a_bucket)


def test_a_missing_library_of_artefacts_is_found_before_the_training(kept_in_a_bucket, monkeypatch):
    # MLflow keeps the client of an address that it has met.
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:10")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(DataError, match="pip install boto3"):
        require_store(kept_in_a_bucket)
