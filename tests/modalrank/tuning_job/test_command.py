"""`modalrank tune` from the command line to the record, the tuned config and a training with it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import mlflow
import pytest
import yaml

from modalrank.config import load_config
from modalrank.store import URI_VARIABLE
from modalrank.tuning_job.job import Request, tune
from modalrank.tuning_job.record import PARENT, STUDY, TRIAL
from tests.modalrank.worlds import make_judged

QUICK = ("--set", "ensemble.bootstrap_draws=100")


@pytest.fixture(autouse=True)
def _in_store(monkeypatch, store):
    monkeypatch.setenv(URI_VARIABLE, store)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, store):
    """Tune a base and the ensemble in three trials each: the world, the words and the summary."""
    folder = tmp_path_factory.mktemp("tuned")
    world = make_judged(folder)
    storage = f"sqlite:///{folder / 'optuna.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URI_VARIABLE, store)
        request = Request(
            world.config,
            QUICK[1:],
            folder / "config.tuned.yaml",
            ("bases", "ensemble"),
            bases=("words",),
            trials=3,
            storage=storage,
        )
        summary = tune(request, lambda _: None).as_dict()
    words = ("tune", world.config, "--base", "words", "--trials", "3", "--storage", storage, *QUICK, "--json")
    return world, words, json.loads(json.dumps(summary))


def below(run_id: str) -> list:
    """Return the runs nested in a run."""
    client = mlflow.MlflowClient(os.environ[URI_VARIABLE])
    experiment = client.get_experiment_by_name("modalrank").experiment_id
    return client.search_runs([experiment], f"tags.`{PARENT}` = '{run_id}'")


def study_of(summary: dict, number: int = 0):
    """Return the run of a study of a search."""
    name = summary["studies"][number]["name"]
    [found] = [run for run in below(summary["run"]) if run.data.tags[STUDY] == name]
    return found


def artifacts(run_id: str, path: str | None = None) -> set[str]:
    client = mlflow.MlflowClient(os.environ[URI_VARIABLE])
    return {item.path for item in client.list_artifacts(run_id, path)}


def test_tune_records_a_run_a_study_and_nested_runs_of_trials(tuned):
    _, _, summary = tuned
    studies = below(summary["run"])
    assert {run.data.tags[STUDY] for run in studies} == {study["name"] for study in summary["studies"]}
    words = study_of(summary)
    trials = below(words.info.run_id)
    assert sorted(run.data.tags[TRIAL] for run in trials) == ["0", "1", "2"]
    for run in trials:
        assert {"ndcg", "fold_0", "fold_1", "seconds", "peak_mib"} <= set(run.data.metrics)
        assert run.data.metrics["peak_mib"] > 1 and run.info.status == "FINISHED"
        [base] = yaml.safe_load(run.data.tags["config"])["bases"]
        assert base["name"] == "words" and base["params"]["rounds"] == 20
        assert str(base["params"]["num_leaves"]) == run.data.params["num_leaves"]
    assert words.data.metrics["best_ndcg"] == max(run.data.metrics["ndcg"] for run in trials)
    plots = artifacts(words.info.run_id, "plots")
    assert plots == {f"plots/{name}.png" for name in ("history", "importances", "parallel_coordinates")}
    assert {"tuned.yaml", "config.yaml", "summary.json"} <= artifacts(summary["run"])
    assert mlflow.MlflowClient().get_run(summary["run"]).info.status == "FINISHED"


def test_tune_again_makes_no_trial_and_no_run_more(tuned, cli):
    _, words, first = tuned
    code, out, err = cli(*words)
    assert code == 0, err
    again = json.loads(out)
    assert all(again[key] == first[key] for key in ("run", "studies", "gains"))
    assert len(below(first["run"])) == len(first["studies"])
    for number, study in enumerate(first["studies"]):
        assert len(below(study_of(first, number).info.run_id)) == study["trials"]


def test_tune_writes_a_config_that_train_takes(tuned, cli):
    world, _, summary = tuned
    written = Path(summary["config"])
    assert written == world.folder / "config.tuned.yaml"
    best = summary["studies"][0]
    given, found = load_config(world.config), load_config(written)
    changed = {**given.bases[0].params, **best["params"]}
    assert found.bases[0].params == changed and found.bases[1:] == given.bases[1:]
    assert (found.protocol, found.data, found.name) == (given.protocol, given.data, given.name)
    code, out, err = cli("train", written, "--json")
    assert code == 0, err
    assert json.loads(out)["record"]["model"] == "tiny-judged"


def test_tune_tells_gains_with_intervals_and_says_where_none_is_shown(cli, own_judged):
    code, out, err = cli("tune", own_judged.config, "--base", "linear", "--trials", "1", *QUICK)
    assert code == 0, err
    assert "the interval covers 0, no gain is shown" in out.replace("\n", " ")
    assert "the defaults may be as good" in out and "Next: " in out


def test_tune_with_latency_draws_a_pareto_front(cli, own_judged):
    words = ("tune", own_judged.config, "--base", "linear", "--trials", "4", *QUICK, "--json")
    code, out, err = cli(*words, "--parts", "bases", "--objectives", "ndcg,latency")
    assert code == 0, err
    study = study_of(json.loads(out)).info.run_id
    assert "plots/pareto_front.png" in artifacts(study, "plots")
    trials = below(study)
    assert len(trials) == 4 and all(run.data.metrics["latency"] > 0 for run in trials)


def test_tune_jointly_sets_every_part(cli, own_log):
    code, out, err = cli("tune", own_log.config, "--joint", "--trials", "3", *QUICK, "--json")
    assert code == 0, err
    summary = json.loads(out)
    [study] = summary["studies"]
    assert study["name"].startswith("tiny-log.joint.") and study["complete"] + study["pruned"] == 3
    trials = below(study_of(summary).info.run_id)
    tried = {name.split(".")[0] for run in trials for name in run.data.params}
    assert tried == {"encoders", "candidates", "bases", "ensemble"}
    load_config(Path(summary["config"]))


def test_tune_by_the_stage_of_candidates_sets_only_these(cli, own_log):
    words = ("tune", own_log.config, "--parts", "candidates", "--trials", "2", *QUICK, "--json")
    code, out, err = cli(*words)
    assert code == 0, err
    found, given = load_config(Path(json.loads(out)["config"])), load_config(own_log.config)
    assert (found.bases, found.modalities, found.ensemble.ladder) == (
        given.bases,
        given.modalities,
        given.ensemble.ladder,
    )


def test_tune_of_an_unknown_base_names_the_known_ones_and_writes_nothing(cli, judged_world, tmp_path):
    code, _, err = cli("tune", judged_world.config, "--base", "wrods", "--trials", "1")
    assert code == 3 and "no learned base 'wrods'; fix: name one of words, linear" in err
    assert not (judged_world.folder / "config.tuned.yaml").exists()
    assert list((tmp_path / "working_folder").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--parts", "basses"), 2, "--parts: got 'basses', expected some of encoders"),
        (("--objectives", "latency"), 2, "ndcg is always one of them"),
        (("--storage", "nonsense"), 3, "--storage 'nonsense'"),
        (("--storage", "postgresql+psycopg://nobody@127.0.0.1:9/none"), 5, "does not answer"),
    ],
)
def test_tune_asked_for_nonsense_says_so(cli, judged_world, words, code, message):
    got, _, err = cli("tune", judged_world.config, "--trials", "1", *words)
    assert got == code and message in err


def test_tune_of_changed_data_does_not_go_on_with_the_old_study(tuned, cli):
    world, words, _ = tuned
    table = world.table("judged.parquet")
    world.rewrite("judged.parquet", table.with_columns(w1=-table["w1"]))
    try:
        code, _, err = cli(*words)
    finally:
        world.rewrite("judged.parquet", table)
    assert code == 3 and "is of other data, another config" in err
