from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tuning.study import Tuned, run_study

OPTIMUM = {"x": 0.3, "n": 7}


def space(trial) -> dict[str, float]:
    return {"x": trial.suggest_float("x", -2.0, 2.0), "n": trial.suggest_int("n", 1, 20)}


@dataclass
class Hill:
    """An objective with its top, 0, at OPTIMUM; the untuned setting is worth -9. Writes down every call."""

    fails_at: int | None = None
    asked: list[dict[str, float]] = field(default_factory=list)

    def __call__(self, params: dict[str, float]) -> float:
        self.asked.append(params)
        if len(self.asked) == self.fails_at:
            raise KeyboardInterrupt
        if not params:
            return -9.0
        return -((params["x"] - OPTIMUM["x"]) ** 2) - ((params["n"] - OPTIMUM["n"]) / 10) ** 2


def tune(folder, objective, n_trials, *, name="hill", seed=0, say=lambda _: None) -> Tuned:
    return run_study(
        name, space, objective, n_trials=n_trials, journal=folder / "journal.log", seed=seed, say=say
    )


def test_study_finds_the_top_of_a_hill(tmp_path):
    tuned = tune(tmp_path, Hill(), 50)
    assert tuned.value > -0.03
    assert tuned.params["x"] == pytest.approx(OPTIMUM["x"], abs=0.2)
    assert tuned.params["n"] == pytest.approx(OPTIMUM["n"], abs=2)


def test_study_returns_the_best_of_what_it_tried(tmp_path):
    hill = Hill()
    tuned = tune(tmp_path, hill, 8)
    tried = hill.asked[1:]
    best = max(tried, key=Hill())
    assert (tuned.params, tuned.value, tuned.n_trials) == (best, Hill()(best), 8)


def test_study_same_seed_same_trials(tmp_path):
    asked = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        hill = Hill()
        tune(tmp_path / folder, hill, 4, seed=seed)
        asked.append(hill.asked)
    assert asked[0] == asked[1]
    assert asked[0] != asked[2]


def test_study_second_call_goes_on(tmp_path):
    first, second = Hill(), Hill()
    before = tune(tmp_path, first, 3)
    after = tune(tmp_path, second, 7)
    assert len(second.asked) == 4
    assert after.n_trials == 7
    assert after.value == max(map(Hill(), first.asked[1:] + second.asked))
    assert after.value >= before.value


def test_study_second_call_does_not_repeat_the_trials_of_the_first(tmp_path):
    first, second = Hill(), Hill()
    tune(tmp_path, first, 4)
    tune(tmp_path, second, 8)
    tried = [params["x"] for params in first.asked[1:] + second.asked]
    assert len(set(tried)) == 8


def test_study_that_is_done_asks_nothing(tmp_path):
    before = tune(tmp_path, Hill(), 3)
    again = Hill()
    assert tune(tmp_path, again, 3) == before
    assert again.asked == []


def test_study_untuned_value_is_asked_once_and_kept(tmp_path):
    first, second = Hill(), Hill()
    assert tune(tmp_path, first, 2).default_value == -9.0
    assert tune(tmp_path, second, 4).default_value == -9.0
    assert first.asked.count({}) == 1
    assert second.asked.count({}) == 0


def test_study_trial_that_was_interrupted_does_not_count(tmp_path):
    stopped = Hill(fails_at=4)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, stopped, 5)
    tuned = tune(tmp_path, later := Hill(), 5)
    assert tuned.n_trials == 5
    assert len(later.asked) == 3
    assert len({params["x"] for params in stopped.asked[1:] + later.asked}) == 6


def test_study_others_in_the_same_journal_are_apart(tmp_path):
    tune(tmp_path, Hill(), 3, name="one")
    other = Hill()
    assert tune(tmp_path, other, 2, name="other").n_trials == 2
    assert len(other.asked) == 3


def test_study_says_what_it_is_at(tmp_path):
    said: list[str] = []
    tune(tmp_path, Hill(), 2, say=said.append)
    tune(tmp_path, Hill(), 3, say=said.append)
    assert said == ["the untuned setting", "trial 1 of 2", "trial 2 of 2", "trial 3 of 3"]
