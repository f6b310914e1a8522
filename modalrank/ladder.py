"""The ladder of meta-learners: fitted, judged on queries they did not learn from, and climbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ensembles import (
    LADDER,
    AverageStack,
    Blend,
    Hedge,
    LambdaMART,
    LinearStack,
    MetaLearner,
    ScoreFrame,
    climb,
    make_meta,
    paired_bootstrap,
)
from ensembles.average import mean_of_z
from ensembles.gate import Step, tied
from ensembles.meta import teaching_queries
from ensembles.samplers import NATURAL, sample
from features.frame import IntArray, rows_of_queries
from features.splits import query_folds
from modalrank.config import AUTO, Config
from modalrank.evaluation import Scored, Values
from modalrank.reserve_choice import Newcomers
from modalrank.sampling_choice import Fitted, SamplerTrial, choose_sampler

# Parts of the judging queries: what is fitted on the others is judged on each.
N_PARTS = 3
# Queries that are scored at a time, to save memory.
QUERIES_AT_ONCE = 500
# Rungs that give no base a weight, and so cannot be made to hear one modality more than another.
UNWEIGHED = ("best_single", "rank_fusion")


@dataclass(frozen=True)
class Ladder:
    """The rungs and the verdict.

    Attributes
    ----------
    metas
        Name to fitted meta-learner.
    scores
        Name to its (n_rows,) scores of the judging queries, each from a fit that did not see the query.
    chosen, steps
        The rung that the gate chose, and its comparisons.
    samplers
        What was tried where the sampler was chosen.
    """

    metas: dict[str, MetaLearner]
    scores: dict[str, Values]
    chosen: str
    steps: list[Step]
    samplers: tuple[SamplerTrial, ...] = ()


def fit_ladder(
    config: Config, learned: ScoreFrame | None, judge: Scored, say: Callable[[str], None]
) -> Ladder:
    """Fit every rung and climb as far as the gate allows.

    Meta-learners that learn a model are fitted on the out-of-fold queries `learned`. Those that only choose
    settings are fitted on the judging queries: held-out interactions can follow another distribution than
    hidden training ones. They are judged by cross-fitting. Without `learned` all rungs learn from the judging
    queries. All of them are fitted on what the sampler of the config draws from their queries; under `auto`
    the ladder is climbed with the queries as they are, and then the sampler is chosen for the rung that was
    reached.
    """
    # What is derived from the frame on the way goes with this copy of it.
    judge = replace(judge, frame=replace(judge.frame))
    apart = [n for n in config.ensemble.ladder if learned and not _made(config, n).settings_only]
    metas: dict[str, MetaLearner] = {}
    scores: dict[str, Values] = {}

    def fitted(told: Config, name: str) -> Fitted:
        if learned is None or name not in apart:
            return Fitted(lambda: fit_rung(told, name, judge.frame), _cross_fitted(told, name, judge.frame))
        meta = fit_rung(told, name, learned)
        return Fitted(lambda: meta, meta_scores({name: meta}, judge.frame)[name])

    for name in config.ensemble.ladder:
        say(f"meta-learner {name}")
        if learned is None or name not in apart:
            found = fitted(config, name)
            metas[name], scores[name] = found.meta(), found.scores
        else:
            metas[name] = _learned(config, name, learned, metas)
    scores |= meta_scores({name: metas[name] for name in apart}, judge.frame)
    k, draws = config.ensemble.k, config.ensemble.bootstrap_draws
    rungs = [(name, judge.ndcg(scores[name], k)) for name in metas]
    chosen, steps = climb(rungs, n_draws=draws, seed=config.seed)
    ladder = Ladder(metas, scores, chosen, steps)
    ladder = _blended(config, ladder, tied(rungs, chosen, n_draws=draws, seed=config.seed), judge)
    newcomers = Newcomers.among(judge, config)
    if config.ensemble.sampling == AUTO:
        ladder = _with_sampler(config, ladder, judge, newcomers, fitted, say)
    return ladder if newcomers is None else _with_reserve(config, ladder, judge, newcomers)


def _blended(config: Config, ladder: Ladder, names: list[str], judge: Scored) -> Ladder:
    """Take the mean of rungs among which the judging queries cannot tell the best one.

    Unless it is no better than the first rung, the best single base.
    """
    if len(names) == 1:
        return ladder
    scores = mean_of_z([ladder.scores[name] for name in names], judge.frame.offsets)
    blended, first = (judge.ndcg(s, config.ensemble.k) for s in (scores, next(iter(ladder.scores.values()))))
    if not np.nanmean(blended) > np.nanmean(first):
        return ladder
    meta = Blend(*(ladder.metas[name] for name in names))
    return _with_rung(config, ladder, judge, Fitted(lambda: meta, scores), ladder.chosen)


def _with_sampler(
    config: Config,
    ladder: Ladder,
    judge: Scored,
    newcomers: Newcomers | None,
    fitted: Callable[[Config, str], Fitted],
    say: Callable[[str], None],
) -> Ladder:
    """Refit the rung that was reached, or the best one with weights, by every sampler, and keep the best.

    They are compared with the places for new items that each would have.
    """

    def with_places(scores: Values) -> Values:
        choice = newcomers.places(scores) if newcomers is not None else None
        return scores if choice is None else choice.scores

    rung = weighing_rung(ladder, ladder.chosen, judge, config.ensemble.k)
    if rung is None:
        return ladder
    before = Fitted(lambda: ladder.metas[ladder.chosen], ladder.scores[ladder.chosen])
    found, trials = choose_sampler(config, rung, before, judge, fitted, with_places, say)
    ladder = replace(ladder, samplers=trials)
    if found is None:
        return ladder
    return _with_rung(config, ladder, judge, found, f"{ladder.chosen}, {NATURAL}")


def weighing_rung(ladder: Ladder, reached: str, judge: Scored, k: int) -> str | None:
    """Return the rung that samplers are tried on: the one reached, or the best one that weighs bases."""
    weighing = [name for name in LADDER if name in ladder.scores and name not in UNWEIGHED]
    if reached in weighing or not weighing:
        return reached if weighing else None
    return max(weighing, key=lambda name: float(np.nanmean(judge.ndcg(ladder.scores[name], k))))


def _with_reserve(config: Config, ladder: Ladder, judge: Scored, newcomers: Newcomers) -> Ladder:
    """Add the reserve as one more rung, and choose it where it shows more of the new items that are liked."""
    choice = newcomers.places(ladder.scores[ladder.chosen])
    if choice is None:
        return ladder
    reserve = newcomers.reserve(ladder.metas[ladder.chosen], choice)
    return _with_rung(config, ladder, judge, Fitted(lambda: reserve, choice.scores), ladder.chosen)


def _with_rung(config: Config, ladder: Ladder, judge: Scored, rung: Fitted, against: str) -> Ladder:
    """Add a rung, called by its kind, and choose it."""
    k, draws, meta = config.ensemble.k, config.ensemble.bootstrap_draws, rung.meta()
    values = judge.ndcg(rung.scores, k)
    difference = paired_bootstrap(values, judge.ndcg(ladder.scores[ladder.chosen], k), draws, config.seed)
    step = Step(meta.name, float(np.nanmean(values)), against, difference, accepted=True)
    metas, scores = ladder.metas | {meta.name: meta}, ladder.scores | {meta.name: rung.scores}
    return Ladder(metas, scores, meta.name, [*ladder.steps, step], ladder.samplers)


def meta_scores(metas: Mapping[str, MetaLearner], frame: ScoreFrame) -> dict[str, Values]:
    """Return the (n_rows,) scores of all meta-learners, a part of the queries at a time to save memory."""
    scores = {name: np.empty(len(frame.labels)) for name in metas}
    for start in range(0, frame.n_queries, QUERIES_AT_ONCE):
        stop = min(start + QUERIES_AT_ONCE, frame.n_queries)
        part = frame.take_queries(np.arange(start, stop))
        said: dict[str, Values] = {}
        for name, meta in metas.items():
            said[name] = _said(meta, part, metas, said)
            scores[name][frame.offsets[start] : frame.offsets[stop]] = said[name]
    return scores


def _said(
    meta: MetaLearner, frame: ScoreFrame, metas: Mapping[str, MetaLearner], said: Mapping[str, Values]
) -> Values:
    """Return the (n_rows,) scores of a meta-learner; a mean whose members have spoken listens to them."""
    if isinstance(meta, AverageStack | Hedge) and all(
        member.name in said and metas[member.name] is member for member in meta.members
    ):
        return meta.mean_of(frame, [said[member.name] for member in meta.members])
    return meta.score(frame)


def _made(config: Config, name: str) -> MetaLearner:
    ensemble = config.ensemble
    params = ensemble.params.get(name)
    return make_meta(name, k=ensemble.k, seed=config.seed, threads=config.threads, params=params)


def _learned(config: Config, name: str, frame: ScoreFrame, fitted: Mapping[str, MetaLearner]) -> MetaLearner:
    """Fit a meta-learner that learns a model; the average is made of members that are fitted already."""
    linear, trees = fitted.get(LinearStack.name), fitted.get(LambdaMART.name)
    if name == AverageStack.name and isinstance(linear, LinearStack) and isinstance(trees, LambdaMART):
        return AverageStack.of(linear, trees)
    return fit_rung(config, name, frame)


def fit_rung(config: Config, name: str, frame: ScoreFrame) -> MetaLearner:
    """Fit a meta-learner of the ladder on what the sampler draws."""
    ensemble, meta = config.ensemble, _made(config, name)
    if ensemble.drawn_by == NATURAL:
        return meta.fit(frame)
    return meta.fit(sample(frame, ensemble.drawn_by, ensemble.sampling_params, config.seed))


def cross_parts(frame: ScoreFrame, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the positions of the queries to fit on, and of those to judge: each query is judged once."""
    parts = query_folds(frame.n_queries, min(N_PARTS, max(frame.n_queries, 2)), seed)
    for part in np.unique(parts):
        yield np.flatnonzero(parts != part), np.flatnonzero(parts == part)


def _cross_fitted(config: Config, name: str, frame: ScoreFrame) -> Values:
    """Return (n_rows,) scores of each part by a fit on the others."""
    scores = np.zeros(len(frame.labels))
    for fitted, judged in cross_parts(frame, config.seed):
        others = frame.take_queries(fitted)
        if len(teaching_queries(others)):
            rows = rows_of_queries(frame.offsets, judged)
            scores[rows] = fit_rung(config, name, others).score(frame.take_queries(judged))
    return scores
