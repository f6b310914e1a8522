"""Planted base scores of which it is known what each rung should make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from ensembles.average import mean_of_z
from ensembles.score_frame import ScoreFrame
from modalrank.config import Config
from modalrank.evaluation import Scored
from modalrank.ladder import Ladder, fit_ladder, meta_scores
from tests.ensembles.planted import complementary, from_lists

K = 3
SETTINGS = ["best_single", "rank_fusion", "greedy", "tuned_fusion"]


def config_of(ladder: Sequence[str], **ensemble: object) -> Config:
    options = {"k": K, "ladder": list(ladder), "bootstrap_draws": 200, "sampling": "natural", **ensemble}
    return Config.model_validate({"threads": 1, "ensemble": options})


def judged_by(frame: ScoreFrame, total_relevant: np.ndarray | None = None) -> Scored:
    return Scored(frame, np.arange(frame.n_queries), np.arange(len(frame.labels)), total_relevant)


def fitted(config: Config, learned: ScoreFrame | None, judge: ScoreFrame) -> Ladder:
    return fit_ladder(config, learned, judged_by(judge), lambda _: None)


def one_knows(knowing: int, n_queries: int, seed: int = 0) -> ScoreFrame:
    """Two bases, of which one gives the positive of every query the highest score and the other noise."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n_queries, 6, 2))
    labels = np.zeros((n_queries, 6))
    labels[:, 0] = 1
    scores[:, 0, knowing] = 5.0
    return from_lists(scores.tolist(), labels.tolist())


def relabelled(frame: ScoreFrame, query: int) -> ScoreFrame:
    """Move the positive of a query to its candidate with the lowest scores."""
    rows = slice(frame.offsets[query], frame.offsets[query + 1])
    labels = frame.labels.copy()
    labels[rows] = 0
    labels[rows][np.argmin(np.nan_to_num(frame.scores[rows]).sum(axis=1))] = 1
    return replace(frame, labels=labels)


def test_every_rung_is_fitted_scored_and_compared() -> None:
    judge = complementary(40, seed=0)
    ladder = fitted(config_of([*SETTINGS, "linear_stack"]), complementary(60, seed=1), judge)
    assert list(ladder.metas) == list(ladder.scores) == [*SETTINGS, "linear_stack", "blend"]
    assert [step.name for step in ladder.steps] == [*SETTINGS[1:], "linear_stack", "blend"]
    for name, meta in ladder.metas.items():
        assert meta.name == name
        assert np.isfinite(ladder.scores[name]).all() and len(ladder.scores[name]) == len(judge.labels)


def test_better_rung_is_chosen_and_no_better_one_is_not() -> None:
    both_needed = fitted(config_of(["best_single", "tuned_fusion"]), None, complementary(120, seed=0))
    assert both_needed.chosen == "tuned_fusion"
    one_enough = fitted(config_of(["best_single", "tuned_fusion"]), None, one_knows(0, 40))
    assert one_enough.chosen == "best_single"


def test_rungs_that_cannot_be_told_apart_are_taken_together() -> None:
    judge = complementary(120, seed=0)
    ladder = fitted(config_of(["best_single", "greedy", "tuned_fusion"]), None, judge)
    *climbed, last = ladder.steps
    best = next(step.name for step in reversed(climbed) if step.accepted)
    assert (ladder.chosen, last.name, last.against, last.accepted) == ("blend", "blend", best, True)
    members = ladder.metas["blend"].members
    assert members == (ladder.metas["greedy"], ladder.metas["tuned_fusion"])
    expected = mean_of_z([ladder.scores["greedy"], ladder.scores["tuned_fusion"]], judge.offsets)
    np.testing.assert_array_equal(ladder.scores["blend"], expected)
    np.testing.assert_allclose(
        meta_scores(ladder.metas, judge)["blend"], ladder.metas["blend"].score(judge), atol=1e-12
    )


@pytest.mark.parametrize("name", ["best_single", "tuned_fusion", "greedy"])
def test_settings_are_chosen_on_the_judging_queries_of_a_log(name: str) -> None:
    learned = one_knows(0, n_queries=90, seed=1)
    ladder = fitted(config_of(dict.fromkeys(["best_single", name])), learned, one_knows(1, n_queries=30))
    assert ladder.metas[name].bases_used()[0] == "base1"


@pytest.mark.parametrize("query", [0, 17])
def test_query_is_scored_by_fits_that_did_not_see_its_labels(query: int) -> None:
    ladder = [*SETTINGS, "linear_stack", "lambdamart"]
    before = complementary(30, seed=3)
    after = relabelled(before, query)
    assert not np.array_equal(after.labels, before.labels)
    own = slice(before.offsets[query], before.offsets[query + 1])
    first, second = (fitted(config_of(ladder), None, frame) for frame in (before, after))
    for name in ladder:
        np.testing.assert_array_equal(second.scores[name][own], first.scores[name][own], err_msg=name)
    stacks = [ladder.metas["linear_stack"].score(before) for ladder in (first, second)]
    assert not np.array_equal(*stacks), "the one that serves learns from all"
    crossed = [ladder.scores["linear_stack"] for ladder in (first, second)]
    assert not np.array_equal(*crossed), "the other parts learn from it"


def test_learned_rungs_learn_from_the_out_of_fold_queries_alone() -> None:
    learned, judge = complementary(60, seed=1), complementary(30, seed=3)
    spoiled = replace(judge, labels=np.roll(judge.labels, 1))
    config = config_of(["best_single", "linear_stack"])
    first, second, other = (
        fitted(config, learned, judge),
        fitted(config, learned, spoiled),
        fitted(config, complementary(60, seed=2), judge),
    )
    np.testing.assert_array_equal(first.scores["linear_stack"], second.scores["linear_stack"])
    assert not np.array_equal(first.scores["linear_stack"], other.scores["linear_stack"])


@pytest.mark.parametrize("name", ["tuned_fusion", "linear_stack"])
def test_sampling_reaches_what_learns_weights_wherever_it_learns(name: str) -> None:
    learned, judge = complementary(60, seed=1, missing=0.3), complementary(30, seed=3, missing=0.3)
    plain, balanced = (
        fitted(config_of(["best_single", name], sampling=sampling), learned, judge)
        for sampling in ("natural", "class_balanced")
    )
    assert not np.array_equal(plain.scores[name], balanced.scores[name])


def test_same_seed_gives_the_same_ladder() -> None:
    config = config_of([*SETTINGS, "linear_stack", "average"])
    first, second = (fitted(config, complementary(40, seed=1), complementary(30, seed=2)) for _ in range(2))
    assert (first.chosen, first.steps) == (second.chosen, second.steps)
    for name, scores in first.scores.items():
        np.testing.assert_array_equal(second.scores[name], scores)


def test_part_without_anything_to_learn_from_is_left_unranked() -> None:
    judge = one_knows(0, n_queries=6)
    labels = judge.labels.copy()
    labels[judge.offsets[1] :] = 0
    ladder = fitted(config_of(["best_single"]), None, replace(judge, labels=labels))
    own = ladder.scores["best_single"][: judge.offsets[1]]
    np.testing.assert_array_equal(own, np.zeros(len(own)))
    assert ladder.metas["best_single"].bases_used()[0] == "base0"


def test_the_average_is_made_of_members_that_are_fitted_already() -> None:
    rungs = ["best_single", "linear_stack", "lambdamart", "average"]
    learned, judge = complementary(60, seed=1), complementary(40, seed=0)
    ladder = fitted(config_of(rungs), learned, judge)
    metas = ladder.metas
    assert (metas["average"].linear_, metas["average"].trees_) == (metas["linear_stack"], metas["lambdamart"])
    alone = fitted(config_of(["best_single", "average"]), learned, judge).metas["average"]
    np.testing.assert_array_equal(alone.score(judge), metas["average"].score(judge))
    np.testing.assert_array_equal(ladder.scores["average"], metas["average"].score(judge))
