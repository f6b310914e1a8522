"""What the search is worth: both configs on the outer hold-out, which is validation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ensembles import Interval, bootstrap_mean, make_meta, paired_bootstrap
from ensembles.stack import Stack
from features.frame import IntArray
from modalrank.config import Config
from modalrank.evaluation import Scored, Values
from modalrank.ladder import Ladder, fit_ladder
from modalrank.lists import Lists
from modalrank.training import CONTEXT, fit_bases, roles_of, score_lists, scored_out_of_fold
from modalrank.tuning_job.objectives import Prepared

Say = Callable[[str], None]
# Training queries on which the scoring of a base is timed.
TIMED_QUERIES = 200


@dataclass(frozen=True)
class Arm:
    """A config whose bases are fitted on the training queries.

    Attributes
    ----------
    oof
        Training queries, scored by bases that did not learn from them.
    valid
        The hold-out, scored by bases that learned from all training queries.
    latency
        Base to milliseconds of scoring a query.
    """

    config: Config
    oof: Scored
    valid: Scored
    latency: dict[str, float]

    def climb(self, say: Say) -> tuple[Ladder, Scored]:
        """Return the ladder of the config, and the queries that chose."""
        learned, judge = roles_of(self.config, self.oof, self.valid)
        return fit_ladder(self.config, None if learned is None else learned.frame, judge, say), judge


@dataclass(frozen=True)
class Gain:
    """A pair of values on the hold-out and their paired difference, tuned minus default."""

    name: str
    default: Interval
    tuned: Interval
    difference: Interval

    @property
    def shown(self) -> bool:
        """Whether the interval of the difference lies above 0."""
        return self.difference.low > 0

    def sentence(self) -> str:
        """Return what the interval says."""
        d = self.difference
        gain = f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
        if self.shown:
            return f"{gain}: better than the defaults"
        if d.high < 0:
            return f"{gain}: worse than the defaults"
        return f"{gain}: the interval covers 0, no gain is shown"


def hold_out(prepared: Prepared, config: Config) -> Lists:
    """Return the lists of validation on which both arms are judged."""
    form = prepared.form
    return form.held_out("valid", form.model_before("valid"), config.ensemble.judges)


def fit_arm(config: Config, prepared: Prepared, lists: Lists, say: Say) -> Arm:
    """Score training queries out of fold and the hold-out with the bases of a config."""
    bases, training = prepared.bases(config), prepared.training
    oof = scored_out_of_fold(bases, training, config, say)
    rankers = fit_bases(bases, training.frame, config, say)
    few = training.frame.take_queries(np.arange(min(TIMED_QUERIES, training.frame.n_queries)))
    latency = {}
    for name, ranker in rankers.items():
        start = time.perf_counter()
        ranker.score(few)
        latency[name] = 1000 * (time.perf_counter() - start) / few.n_queries
    stack = Stack(rankers, bases.modality, CONTEXT, make_meta("best_single"))
    return Arm(config, oof, score_lists(stack, lists), latency)


def gains(default: Arm, tuned: Arm, say: Say) -> list[Gain]:
    """Return the gain of the ensemble, then that of every base whose setting differs.

    Both arms climb their ladders by the same rule on the same queries. What meta-learners learn from these
    queries is judged by cross-fitting, as in `train`.
    """
    k, draws, seed = default.config.ensemble.k, default.config.ensemble.bootstrap_draws, default.config.seed
    pairs = {"ensemble": (_ensemble(default, k, say), _ensemble(tuned, k, say))}
    for name in default.valid.frame.bases:
        if name in tuned.valid.frame.bases:
            pairs[name] = (_base(default.valid, name, k), _base(tuned.valid, name, k))
    found = []
    for name, (a, b) in pairs.items():
        old, new = _paired(a, b)
        if name == "ensemble" or not np.array_equal(old, new, equal_nan=True):
            difference = paired_bootstrap(new, old, draws, seed)
            found.append(Gain(name, bootstrap_mean(old, draws), bootstrap_mean(new, draws), difference))
    return found


def _ensemble(arm: Arm, k: int, say: Say) -> tuple[IntArray, Values]:
    ladder, judge = arm.climb(say)
    held_out = np.isin(judge.every_query, arm.valid.every_query)
    return judge.every_query[held_out], judge.ndcg(ladder.scores[ladder.chosen], k)[held_out]


def _base(scored: Scored, name: str, k: int) -> tuple[IntArray, Values]:
    column = scored.frame.scores[:, scored.frame.bases.index(name)]
    return scored.every_query, scored.ndcg(np.nan_to_num(column, nan=-np.inf), k)


def _paired(a: tuple[IntArray, Values], b: tuple[IntArray, Values]) -> tuple[Values, Values]:
    """Return the values of the queries that both arms scored, in one order."""
    _, here, there = np.intersect1d(a[0], b[0], return_indices=True)
    return a[1][here], b[1][there]
