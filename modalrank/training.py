"""The training run: from tables to a stack, chosen on validation and looked at once on test."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from ensembles import make_meta
from ensembles.gate import Interval, Step, bootstrap_mean
from ensembles.oof import fit_bases as fit_side_by_side
from ensembles.oof import oof_parts, without_folds
from ensembles.score_frame import ACTIVITY, POPULARITY
from ensembles.stack import Stack
from features.builder import CONTEXT as CONTEXT_BLOCK
from features.builder import FeatureModel
from features.frame import RankingFrame
from modalrank.bases import BaseSet, base_set
from modalrank.config import Config
from modalrank.dataset import Dataset
from modalrank.encoding import Encodings, fit_encoders
from modalrank.evaluation import (
    Scored,
    Slice,
    Standing,
    Values,
    activity_slices,
    coldness_slices,
    joined,
    leaderboard,
    pattern_slices,
    query_pattern_slices,
)
from modalrank.filling_choice import with_filling
from modalrank.forms import make_form
from modalrank.judged_form import JudgedForm
from modalrank.ladder import Ladder, fit_ladder, meta_scores
from modalrank.lists import Held, Lists, Training
from modalrank.log_form import LogForm
from modalrank.sampling_choice import SamplerTrial
from rankers.device import cuda_device_count
from rankers.protocol import Ranker
from tuning.grids import Trial

logger = logging.getLogger(__name__)

CONTEXT = (POPULARITY, ACTIVITY)
# Bases that are fitted side by side: each has a copy of the training queries.
MOST_AT_ONCE = 4


@dataclass(frozen=True)
class TrainResult:
    """All that a training run found out.

    Attributes
    ----------
    model
        What is known before the test; scoring starts from it.
    stack
        All bases under the chosen meta-learner, in the state that scored the test.
    valid, test
        Base scores of the held-out splits; `test_scores` and `valid_scores` add the meta-learners'.
    samplers
        What was tried where the sampler was chosen, and the choice.
    metrics
        Test metrics of the chosen ensemble.
    ceilings
        Recall ceiling per candidate source on validation (empty for judged lists).
    seconds
        Wall time of every stage.
    """

    dataset: Dataset
    encodings: Encodings
    model: FeatureModel
    stack: Stack
    blocks: dict[str, tuple[str, ...]]
    valid: Scored
    test: Scored
    test_scores: dict[str, Values]
    standings: list[Standing]
    steps: list[Step]
    samplers: tuple[SamplerTrial, ...]
    metrics: dict[str, Interval]
    slices: list[Slice]
    ceilings: dict[str, float]
    trials: list[Trial]
    seconds: dict[str, float]

    @property
    def chosen(self) -> str:
        """Name of the meta-learner that the gate chose."""
        return self.stack.meta.name


@dataclass
class Stages:
    """Tells the user what is going on and keeps the time."""

    say: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        self.say(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Groundwork:
    """Everything below the meta-learners.

    Attributes
    ----------
    stack
        All bases, fitted; its meta-learner has learned nothing.
    oof
        Out-of-fold scores that meta-learners which learn a model are fitted to; None where `judge` is that.
    judge
        Scores of the queries that choose.
    """

    dataset: Dataset
    encodings: Encodings
    form: LogForm | JudgedForm
    bases: BaseSet
    stack: Stack
    oof: Scored | None
    judge: Scored


def train(dataset: Dataset, say: Callable[[str], None] = logger.info) -> TrainResult:
    """Run the whole line on a data set, in memory: nothing is written.

    Under the strict protocol the rungs of the ladder are judged on the lists of validation, of judged lists
    on those out of fold as well; under the full one on the out-of-fold lists of the newest label windows,
    which are made of validation.

    Raises
    ------
    DataError
        If the data breaks the contract, or there is nothing to learn from.
    """
    stages = Stages(say)
    return finished(lay_groundwork(dataset, stages), dataset.config, stages)


def lay_groundwork(dataset: Dataset, stages: Stages) -> Groundwork:
    """Encode, make the training queries, and fit and score the bases; raises as `train`."""
    config, say = dataset.config, stages.say
    with stages.stage("encode"):
        encodings = fit_encoders(dataset, say)
    form = with_filling(make_form(dataset, encodings, say))
    with stages.stage("fit behaviour models"):
        before_valid = form.model_before("valid")
    with stages.stage("make training queries"):
        training = form.training()
        bases = base_set(config, before_valid, training.frame)
    with stages.stage("score out of fold"):
        oof = scored_out_of_fold(bases, training, config, say)
    with stages.stage("fit bases"):
        frame = training.frame
        del training  # with its windows the largest thing in memory
        rankers = fit_bases(bases, frame, config, say)
        del frame
    untold = Stack(rankers, bases.modality, CONTEXT, make_meta("best_single"))
    with stages.stage("score validation"):
        valid = None
        if config.protocol == "strict":
            valid = score_lists(untold, form.held_out("valid", before_valid, config.ensemble.judges))
    return Groundwork(dataset, encodings, form, bases, untold, *roles_of(config, oof, valid))


def roles_of(config: Config, oof: Scored, valid: Scored | None) -> tuple[Scored | None, Scored]:
    """Return the out-of-fold scores that models learn from, and those of the queries that choose.

    Without `valid`, or where both are alike as judged lists are, one set of queries does both, each query
    judged by fits that did not see it: the more queries, the smaller a gain that the gate can tell from luck.
    """
    if valid is None:
        return None, oof
    return (None, joined([oof, valid])) if config.data.form == "judged" else (oof, valid)


def climbed(ground: Groundwork, config: Config, say: Callable[[str], None]) -> Ladder:
    """Return the ladder of meta-learners; `config` may differ from that of the bases in `ensemble`."""
    return fit_ladder(config, None if ground.oof is None else ground.oof.frame, ground.judge, say)


def finished(ground: Groundwork, config: Config, stages: Stages) -> TrainResult:
    """Climb the ladder and look at the test, once."""
    form, bases, judge = ground.form, ground.bases, ground.judge
    with stages.stage("climb the ladder"):
        ladder = climbed(ground, config, stages.say)
    stack = replace(ground.stack, meta=ladder.metas[ladder.chosen])
    with stages.stage("score test"):
        model = form.model_before("test")
        test = score_lists(stack, form.held_out("test", model))
        test_scores = _base_scores(test) | meta_scores(ladder.metas, test.frame)
    with stages.stage("evaluate"):
        k, draws = config.ensemble.k, config.ensemble.bootstrap_draws
        valid_ndcg = {n: judge.ndcg(s, k) for n, s in (_base_scores(judge) | ladder.scores).items()}
        test_ndcg = {n: test.ndcg(s, k) for n, s in test_scores.items()}
        every = test.all_metrics(test_scores[ladder.chosen], k)
        roles = {n: _role(read) for n, read in bases.blocks.items()} | dict.fromkeys(ladder.metas, "meta")
        result = TrainResult(
            dataset=ground.dataset,
            encodings=ground.encodings,
            model=model,
            stack=stack,
            blocks=dict(bases.blocks),
            valid=judge,
            test=test,
            test_scores=test_scores,
            standings=leaderboard(valid_ndcg, test_ndcg, roles, ladder.chosen, ladder.steps, draws),
            steps=ladder.steps,
            samplers=ladder.samplers,
            metrics={name: bootstrap_mean(values, draws) for name, values in every.items()},
            slices=slices_of(form, model, test, test_scores[ladder.chosen], k),
            ceilings=form.ceilings() if isinstance(form, LogForm) else {},
            trials=form.trials,
            seconds=stages.seconds,
        )
    return result


def slices_of(
    form: LogForm | JudgedForm,
    model: FeatureModel,
    scored: Scored,
    scores: Values,
    k: int,
    split: Held = "test",
) -> list[Slice]:
    """Return the slices of a split: coldness, patterns and activity of a log, patterns of judged lists."""
    values = scored.ndcg(scores, k)
    if isinstance(form, JudgedForm):
        return query_pattern_slices(scored, values, k)
    positives = form.positives(split)
    return [
        *coldness_slices(scored, scores, model, positives, k),
        *pattern_slices(scored, scores, model, positives, k),
        *activity_slices(scored, values, model, k),
    ]


def score_lists(stack: Stack, lists: Lists) -> Scored:
    """Score full lists with the bases of a stack."""
    return gather([(stack, lists)])


def gather(parts: Iterable[tuple[Stack, Lists]]) -> Scored:
    """Score each lists with its own stack, and put the parts behind each other."""
    found: list[Scored] = []
    unreached = []
    for stack, lists in parts:
        here = [_scored(stack, frame, lists) for frame in _ahead(lists.frames())]
        found += here
        unreached.append(np.setdiff1d(lists.queries, [code for part in here for code in part.queries]))
    return replace(joined(found), unreached=np.concatenate(unreached))


def _scored(stack: Stack, frame: RankingFrame, lists: Lists) -> Scored:
    """Score one frame of the lists; a query without a candidate is in none."""
    codes, totals = frame.queries[frame.offsets[:-1]], lists.total_relevant
    known = None if totals is None else totals[np.searchsorted(lists.queries, codes)]
    return Scored(stack.base_scores(frame), codes, frame.items, known)


def _ahead(frames: Iterator[RankingFrame]) -> Iterator[RankingFrame]:
    """Make the next frame while the last one is being scored."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, frames, None)
        while (frame := coming.result()) is not None:
            coming = pool.submit(next, frames, None)
            yield frame


def scored_out_of_fold(
    bases: BaseSet, training: Training, config: Config, say: Callable[[str], None]
) -> Scored:
    """Score the full lists of every part of the folds with bases that did not learn from it."""
    parts = oof_parts(list(training.lists), training.frame.n_rows, training.scheme)

    def scored_parts() -> Iterator[tuple[Stack, Lists]]:
        for number, folds in enumerate(parts):
            frame = without_folds(training.frame, training.folds, folds, training.scheme)
            if frame.n_queries:
                say(f"part {number + 1} of {len(parts)}")
                rankers = fit_bases(bases, frame, config, lambda _: None)
                stack = Stack(rankers, bases.modality, CONTEXT, make_meta("best_single"))
                yield from ((stack, training.lists[fold]) for fold in folds)

    return gather(scored_parts())


def fit_bases(
    bases: BaseSet, frame: RankingFrame, config: Config, say: Callable[[str], None]
) -> dict[str, Ranker]:
    """Return every base by name, fitted on the training queries."""
    cores = config.threads or os.cpu_count() or 1
    at_once = min(cores, MOST_AT_ONCE) if _may_share_process(bases, config) else 1
    return fit_side_by_side(
        bases.bases, frame, config.seed, at_once=at_once, threads=cores // at_once, progress=say
    )


def _may_share_process(bases: BaseSet, config: Config) -> bool:
    """Tell whether bases can be fitted side by side: torch and a GPU are one for the whole process."""
    has_gpu = config.device != "cpu" and cuda_device_count() > 0
    return not has_gpu and "transformer" not in bases.families


def _base_scores(scored: Scored) -> dict[str, Values]:
    """Return the (n_rows,) scores of all bases by name."""
    return {name: scored.frame.scores[:, column] for column, name in enumerate(scored.frame.bases)}


def _role(blocks: tuple[str, ...]) -> str:
    own = [name for name in blocks if name != CONTEXT_BLOCK]
    return f"single: {own[0]}" if len(own) == 1 else "fused"
