from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from features.errors import ConfigError, DataError
from tests.tuning import hills
from tests.tuning.hills import OPTIMUM, Hill
from tuning.attempt import Measured
from tuning.study import Found, Plan, nothing, run_study

ROOT = Path(hills.__file__).resolve().parents[2]


def plan(folder: Path, n_trials: int, **more) -> Plan:
    settings = {"name": "hill", "seed": 0, "defaults": ({"x": -1.0, "n": 1},), **more}
    return Plan(storage=f"sqlite:///{folder / 'optuna.db'}", n_trials=n_trials, **settings)


def tune(folder: Path, objective, n_trials: int, record=nothing, **more) -> Found:
    folder.mkdir(exist_ok=True)
    return run_study(plan(folder, n_trials, **more), objective, record)


def trials(found: Found) -> list[tuple]:
    return [(o.number, o.state, o.params, o.values, o.parts) for o in found.outcomes]


def test_study_finds_the_top_of_a_hill(tmp_path):
    best = tune(tmp_path, Hill(), 30).best
    assert best.values[0] > -0.1
    assert best.params["x"] == pytest.approx(OPTIMUM["x"], abs=0.4)


def test_study_begins_with_the_defaults_and_knows_their_value(tmp_path):
    found = tune(tmp_path, Hill(), 3)
    first = found.outcomes[0]
    assert first.default and first.params == {"x": -1.0, "n": 1}
    assert found.default_ndcg == first.values[0]
    assert [o.default for o in found.outcomes] == [True, False, False]


def test_study_nothing_better_than_the_default_keeps_it(tmp_path):
    best = tune(tmp_path, Hill(), 4, defaults=(OPTIMUM,)).best
    assert best.default and best.params == OPTIMUM


def test_study_same_seed_and_storage_same_trials(tmp_path):
    found = [tune(tmp_path / name, Hill(), 12, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert trials(found[0]) == trials(found[1])
    assert trials(found[0]) != trials(found[2])


def test_study_in_two_calls_makes_the_trials_of_one(tmp_path):
    tune(tmp_path / "twice", Hill(), 6)
    assert trials(tune(tmp_path / "twice", Hill(), 12)) == trials(tune(tmp_path / "once", Hill(), 12))


def test_study_that_is_done_asks_nothing(tmp_path):
    before = tune(tmp_path, Hill(), 3)
    again = Hill()
    assert trials(tune(tmp_path, again, 3)) == trials(before)
    assert again.asked == []


def test_study_lagging_trials_are_given_up_at_a_fold(tmp_path):
    found = tune(tmp_path, Hill(), 20)
    pruned = [o for o in found.outcomes if o.state == "pruned"]
    assert pruned and all(o.values is None and 1 <= len(o.parts) < 3 for o in pruned)
    worst_complete = min(o.values[0] for o in found.outcomes if o.values)
    assert found.best.values[0] > worst_complete


def test_study_lagging_trials_are_given_up_at_a_round(tmp_path):
    def boosted(attempt):
        height = attempt.suggest_float("height", 0.0, 1.0)
        told = attempt.on_round(0)
        for number in range(1, 101):
            reached.append(number)
            told(number, height * number / 100)
        attempt.part(0, "fold_0", height, height)
        return Measured(height, 0.0)

    reached: list[int] = []
    high, low = tuple({"height": 0.8 + n / 100} for n in range(9)), {"height": 0.1}
    found = tune(tmp_path, boosted, 10, defaults=(*high, low))
    last = found.outcomes[-1]
    assert (last.params, last.state, last.parts) == (low, "pruned", {})
    assert reached[-1] == 25, "the first round at which trials are compared"


def test_study_failed_trial_is_tried_once_more_with_the_same_setting(tmp_path):
    told = []
    hill = Hill(fails=1)
    found = tune(tmp_path, hill, 3, record=told.append, defaults=({"x": 0.5, "n": 7},))
    failed, again = found.outcomes[:2]
    assert (failed.state, failed.error, again.state) == ("fail", "RuntimeError: planted", "complete")
    assert failed.params == again.params == {"x": 0.5, "n": 7}
    assert len(found.outcomes) == 4, "the trial and its second go are one of the three"
    assert told == found.outcomes


def test_study_trial_that_fails_twice_is_recorded_and_counts(tmp_path):
    found = tune(tmp_path, Hill(fails=2), 3)
    assert [o.state for o in found.outcomes] == ["fail", "fail", "complete", "complete"]


def test_study_in_which_all_fail_says_why(tmp_path):
    with pytest.raises(DataError, match="RuntimeError: planted"):
        tune(tmp_path, Hill(fails=99), 2)


def test_study_interrupted_trial_is_tried_again_by_the_next_call(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, Hill(interrupt_at=3), 5)
    later = Hill()
    found = tune(tmp_path, later, 5)
    assert sum(o.state != "fail" for o in found.outcomes) == 5
    assert later.asked[0] == found.outcomes[2].params, "the setting that was interrupted comes first"


def test_study_value_that_is_no_number_is_a_failure(tmp_path):
    with pytest.raises(DataError, match="not a number"):
        tune(tmp_path, lambda attempt: Measured(float("nan"), 0.0), 1, defaults=({},))


def test_study_of_another_fingerprint_is_refused(tmp_path):
    tune(tmp_path, Hill(), 1, fingerprint="a")
    with pytest.raises(ConfigError, match="other data, another config"):
        tune(tmp_path, Hill(), 2, fingerprint="b")


def test_study_no_trial_begins_after_its_time(tmp_path):
    hill = Hill()
    with pytest.raises(DataError, match="no time"):
        tune(tmp_path, hill, 5, until=time.time() - 1)
    assert hill.asked == []


def test_study_pareto_takes_the_fastest_of_the_nearly_best(tmp_path):
    worth = {0: Measured(0.900, 9.0), 1: Measured(0.8999, 1.0), 2: Measured(0.5, 0.1)}

    def objective(attempt):
        attempt.part(0, "fold_0", 0.0, 0.0)  # would be pruned, were there one objective
        return worth[attempt.suggest_int("which", 0, 2)]

    defaults = tuple({"which": which} for which in worth)
    found = tune(tmp_path, objective, 3, defaults=defaults, objectives=("ndcg", "latency"))
    assert found.best.params == {"which": 1}
    assert [o.state for o in found.outcomes] == ["complete"] * 3


def test_study_storage_that_is_no_url_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="--storage 'nonsense'"):
        run_study(Plan("s", "nonsense", 0, 1), Hill())


def test_study_two_workers_share_one_study(tmp_path):
    met = tmp_path / "met"
    met.mkdir()
    found = tune(tmp_path, hills.Meeting(str(met)), 8, workers=2)
    assert [o.state for o in found.outcomes] == ["complete"] * 8
    assert len({o.parts["process"] for o in found.outcomes}) == 2
    settings = [tuple(o.params.values()) for o in found.outcomes]
    assert len(set(settings)) == 8, "no setting twice"


def test_study_killed_goes_on_where_it_stood(tmp_path):
    """A process is killed in the middle of a trial; the next call tries that setting again and ends."""
    storage = tmp_path / "optuna.db"
    begun = tmp_path / "begun"
    words = [sys.executable, "-m", "tests.tuning.hills", str(storage), str(begun)]
    victim = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        while not begun.exists():
            assert victim.poll() is None
            time.sleep(0.05)
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    before = optuna.load_study(study_name="hill", storage=f"sqlite:///{storage}").trials
    killed = before[-1]
    assert killed.state == optuna.trial.TrialState.RUNNING
    found = tune(tmp_path, Hill(), 6, heartbeat=1, grace=2)
    assert [trials(found)[n][:3] for n in range(3)] == [(n, "complete", before[n].params) for n in range(3)]
    assert sum(o.state != "fail" for o in found.outcomes) == 6
    lost = next(o for o in found.outcomes if o.number == killed.number)
    assert (lost.state, lost.error) == ("fail", "its process ended without a word")
    assert [o.params for o in found.outcomes].count(killed.params) == 2
