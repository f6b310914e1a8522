"""Which sampler is taken, on queries of which it is known what sampling does to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from ensembles import Hedge
from modalrank import sampling_choice
from modalrank.config import Config
from modalrank.evaluation import Scored
from modalrank.ladder import fit_ladder
from modalrank.sampling_choice import MARGIN, Fitted, choose_sampler
from tests.ensembles.samplers.test_imbalance import halves

CONFIG = Config.model_validate({"threads": 1, "ensemble": {"k": 10, "bootstrap_draws": 200}})
JUDGE = halves(300, 1)
TRUTH = JUDGE.labels.astype(np.float64)
HAS_IMAGE = np.repeat(JUDGE.present[JUDGE.labels > 0, 1], JUDGE.group_sizes)


def scored(*, with_image: float, without: float) -> np.ndarray:
    """Scores that rank a share of the queries right, by whether the positive has an image."""
    generator = np.random.default_rng(0)
    lucky = np.repeat(generator.random(300), JUDGE.group_sizes) < np.where(HAS_IMAGE, with_image, without)
    return np.where(lucky, TRUTH, -TRUTH)


def chosen_among(
    monkeypatch: pytest.MonkeyPatch,
    outcomes: Mapping[str, np.ndarray],
    before: np.ndarray | None = None,
    with_places: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> str | None:
    """Return the sampler that is taken where a rung fitted by each has these scores."""
    monkeypatch.setattr(sampling_choice, "strengths", lambda k: tuple((name, {}) for name in outcomes))

    def fitted(config: Config, rung: str) -> Fitted:
        return Fitted(lambda: rung, outcomes[config.ensemble.sampling])

    before = scored(with_image=0.5, without=0.6) if before is None else before
    judge = Scored(JUDGE, np.arange(JUDGE.n_queries), np.arange(len(JUDGE.labels)), None)
    as_it_stands = Fitted(lambda: "before", before)
    found, trials = choose_sampler(CONFIG, "greedy", as_it_stands, judge, fitted, with_places, str)
    (taken,) = [trial for trial in trials if trial.chosen]
    tried = [f"{name}{half}" for name in outcomes for half in ("", " hedge")]
    assert [trial.named for trial in trials] == ["natural", *tried]
    assert (found is None) == (taken.sampler == "natural")
    if found is None:
        return None
    assert isinstance(found.meta(), Hedge) == taken.hedged
    return taken.named


def test_surest_gain_is_taken_of_those_that_serve_the_worst_slice_better(monkeypatch) -> None:
    outcomes = {
        "raking": scored(with_image=0.6, without=0.6),
        "shapley": scored(with_image=0.7, without=0.7),
        "class_balanced": scored(with_image=0.4, without=1.0),
    }
    assert chosen_among(monkeypatch, outcomes) == "shapley"


def test_samplers_are_compared_with_the_places_that_each_would_have(monkeypatch) -> None:
    outcomes = {
        "raking": scored(with_image=0.6, without=0.6),
        "shapley": scored(with_image=0.7, without=0.7),
    }

    def with_places(scores: np.ndarray) -> np.ndarray:
        return TRUTH if np.array_equal(scores, outcomes["raking"]) else scores

    assert chosen_among(monkeypatch, outcomes, with_places=with_places) == "raking"


def test_half_of_a_sampler_is_taken_where_the_errors_of_both_are_not_the_same(monkeypatch) -> None:
    before, sampled = (TRUTH + np.random.default_rng(seed).normal(size=len(TRUTH)) for seed in (0, 1))
    assert chosen_among(monkeypatch, {"raking": sampled}, before) == "raking hedge"
    assert chosen_among(monkeypatch, {"raking": TRUTH}, before) == "raking"


def test_nothing_is_taken_that_surely_costs_ndcg(monkeypatch) -> None:
    # better where there is an image, much worse elsewhere
    assert chosen_among(monkeypatch, {"raking": scored(with_image=0.55, without=0.5)}) is None
    assert chosen_among(monkeypatch, {"raking": scored(with_image=0.5, without=0.6)}) is None, (
        "no better slice"
    )


def test_ladder_takes_a_sampler_and_says_what_was_tried() -> None:
    told = CONFIG.model_copy(
        update={"ensemble": CONFIG.ensemble.model_copy(update={"ladder": ["best_single", "linear_stack"]})}
    )
    assert told.ensemble.sampling == "auto"
    judge = Scored(JUDGE, np.arange(JUDGE.n_queries), np.arange(len(JUDGE.labels)), None)
    ladder = fit_ladder(told, halves(400, 0), judge, str)
    natural, *others = ladder.samplers
    assert len(others) == 2 * len(sampling_choice.strengths(10))
    assert {trial.rung for trial in ladder.samplers} == {"linear_stack"}
    assert sum(trial.chosen for trial in ladder.samplers) == 1
    for trial in others:
        if trial.chosen:
            assert trial.gain.low > -MARGIN and trial.worst.mean > natural.worst.mean
            assert ladder.steps[-1].against.endswith("natural")
            assert ladder.chosen == ("hedge" if trial.hedged else "linear_stack")
