"""The training run: from tables to a stack, chosen on validation and looked at once on test."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from ensembles import MetaLearner, apply_draw, climb, make_meta, make_sampler
from ensembles.gate import Interval, Step, bootstrap_mean
from ensembles.meta import teaching_queries
from ensembles.oof import fit_base, out_of_fold, to_score_frame
from ensembles.score_frame import ScoreFrame
from ensembles.score_frame import concatenate as concatenate_scores
from ensembles.stack import Stack
from features.builder import CONTEXT as CONTEXT_BLOCK
from features.builder import FeatureModel
from features.frame import RankingFrame, concatenate
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
    leaderboard,
    pattern_slices,
    query_pattern_slices,
)
from modalrank.forms import Form, Held, JudgedForm, LogForm, Training, make_form
from tuning.grids import Trial

logger = logging.getLogger(__name__)

CONTEXT = ("behaviour.log_popularity", "context.log_activity")


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


def train(dataset: Dataset, say: Callable[[str], None] = logger.info) -> TrainResult:
    """Run the whole line on a data set, in memory: nothing is written.

    Raises
    ------
    DataError
        If the data breaks the contract, or there is nothing to learn from.
    """
    stages, config = Stages(say), dataset.config
    with stages.stage("encode the modalities"):
        encodings = fit_encoders(dataset, say)
    with stages.stage("tune the retrievers"):
        form = make_form(dataset, encodings, say)
        before_valid = form.model_before("valid")
    with stages.stage("make the training queries"):
        training = form.training()
        bases = base_set(config, before_valid, training.frame)
    with stages.stage("train the bases"):
        oof = _out_of_fold_scores(bases, training, config, say)
        fitted = _fit_stack(bases, training.frame, make_meta("best_single"), config, say)
    full = config.protocol == "full"
    lessons = [training.frame] if full else []
    del training  # the largest thing in memory, and of no more use under the strict protocol
    with stages.stage("score validation"):
        frames = form.held_out("valid", before_valid)
        valid = _scored(fitted, _also_taught(frames, form, lessons) if full else frames, form, "valid")
    with stages.stage("climb the ladder"):
        metas = _fit_metas(config, oof, valid, say)
        valid_scores = _scores_of(valid, metas)
        valid_ndcg = {name: valid.ndcg(scores, config.ensemble.k) for name, scores in valid_scores.items()}
        ladder = [(name, valid_ndcg[name]) for name in metas]
        chosen, steps = climb(ladder, n_draws=config.ensemble.bootstrap_draws, seed=config.seed)
    stack = replace(fitted, meta=metas[chosen])
    if full:
        with stages.stage("refit with validation"):
            stack, metas = _refit(config, bases, concatenate(lessons), oof, valid, metas, chosen, say)
    with stages.stage("score test"):
        model = form.model_before("test")
        test = _scored(stack, form.held_out("test", model), form, "test")
        test_scores = _scores_of(test, metas)
        test_ndcg = {name: test.ndcg(scores, config.ensemble.k) for name, scores in test_scores.items()}
    with stages.stage("evaluate"):
        draws = config.ensemble.bootstrap_draws
        every = test.all_metrics(test_scores[chosen], config.ensemble.k)
        roles = {name: _role(read) for name, read in bases.blocks.items()} | dict.fromkeys(metas, "meta")
        result = TrainResult(
            dataset=dataset,
            encodings=encodings,
            model=model,
            stack=stack,
            blocks=dict(bases.blocks),
            valid=valid,
            test=test,
            test_scores=test_scores,
            standings=leaderboard(valid_ndcg, test_ndcg, roles, chosen, steps, draws),
            steps=steps,
            metrics={name: bootstrap_mean(values, draws) for name, values in every.items()},
            slices=slices_of(form, model, test, test_scores[chosen], config.ensemble.k),
            ceilings=form.ceilings() if isinstance(form, LogForm) else {},
            trials=form.trials if isinstance(form, LogForm) else [],
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


def scored_split(stack: Stack, form: Form, model: FeatureModel, split: Held) -> Scored:
    """Score a held-out split with a stack."""
    return _scored(stack, form.held_out(split, model), form, split)


def _scored(stack: Stack, frames: Iterable[RankingFrame], form: Form, split: Held) -> Scored:
    parts, queries, items = [], [], []
    for frame in frames:
        parts.append(stack.base_scores(frame))
        queries.append(frame.queries[frame.offsets[:-1]])
        items.append(frame.items)
    codes = np.concatenate(queries)
    return Scored(
        concatenate_scores(parts),
        codes,
        np.concatenate(items),
        form.total_relevant(split, codes),
        np.setdiff1d(form.queries(split), codes),
    )


def _also_taught(
    frames: Iterable[RankingFrame], form: Form, lessons: list[RankingFrame]
) -> Iterator[RankingFrame]:
    """Pass frames on, and keep of each what it has to teach."""
    for frame in frames:
        lessons.append(form.teaching(frame))
        yield frame


def _out_of_fold_scores(
    bases: BaseSet, training: Training, config: Config, say: Callable[[str], None]
) -> ScoreFrame:
    frame, folds = training.frame, training.folds
    scores = out_of_fold(bases.bases, frame, folds, scheme=training.scheme, seed=config.seed, progress=say)
    names = tuple(base.name for base in bases.bases)
    oof = to_score_frame(frame, scores, names, bases.modality, CONTEXT)
    if training.scheme == "forward":
        return oof.take_queries(np.flatnonzero(folds > folds.min()))
    return oof


def _fit_stack(
    bases: BaseSet, frame: RankingFrame, meta: MetaLearner, config: Config, say: Callable[[str], None]
) -> Stack:
    fitted = {}
    for base in bases.bases:
        say(f"base {base.name}, all folds")
        fitted[base.name] = fit_base(base, frame, config.seed)
    return Stack(fitted, bases.modality, CONTEXT, meta)


def _fit_metas(
    config: Config, oof: ScoreFrame, valid: Scored, say: Callable[[str], None]
) -> dict[str, MetaLearner]:
    """Fit the rungs of the ladder, simplest first.

    The best single base is chosen on validation (with the out-of-fold queries where both are alike, as in
    judged lists), because hidden training interactions can follow another distribution than later ones;
    the others learn from sampled out-of-fold queries only, so that validation can judge them.
    """
    ensemble = config.ensemble
    sampler = make_sampler(ensemble.sampling, ensemble.sampling_params)
    drawn = apply_draw(oof, sampler(oof, np.random.default_rng(config.seed)))
    judged = config.data.form == "judged"
    metas: dict[str, MetaLearner] = {}
    for name in ensemble.ladder:
        say(f"meta-learner {name}")
        meta = make_meta(name, k=ensemble.k, seed=config.seed, threads=config.threads)
        if name == "best_single":
            metas[name] = meta.fit(concatenate_scores([oof, valid.frame]) if judged else valid.frame)
        else:
            metas[name] = meta.fit(drawn)
    return metas


def _refit(
    config: Config,
    bases: BaseSet,
    taught: RankingFrame,
    oof: ScoreFrame,
    valid: Scored,
    metas: dict[str, MetaLearner],
    chosen: str,
    say: Callable[[str], None],
) -> tuple[Stack, dict[str, MetaLearner]]:
    """Learn from validation too, now that it has chosen: its scores are out of fold for the first bases."""
    everything = concatenate_scores([oof, valid.frame.take_queries(teaching_queries(valid.frame))])
    best = metas["best_single"]
    metas = _fit_metas(config, everything, valid, say) | {"best_single": best}
    return _fit_stack(bases, taught, metas[chosen], config, say), metas


def _scores_of(scored: Scored, metas: dict[str, MetaLearner]) -> dict[str, Values]:
    """Return the (n_rows,) scores of all bases and meta-learners by name."""
    frame = scored.frame
    scores = {name: frame.scores[:, column] for column, name in enumerate(frame.bases)}
    return scores | {name: meta.score(frame) for name, meta in metas.items()}


def _role(blocks: tuple[str, ...]) -> str:
    own = [name for name in blocks if name != CONTEXT_BLOCK]
    return f"single: {own[0]}" if len(own) == 1 else "fused"
