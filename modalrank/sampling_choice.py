"""Which sampler draws the queries that the chosen meta-learner learns from, and how strongly it samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ensembles import Hedge, MetaLearner
from ensembles.average import mean_of_z
from ensembles.gate import Interval, bootstrap_mean, paired_bootstrap
from ensembles.samplers import NATURAL
from ensembles.slices import WorstSlice, positive_slices, worst_slice
from modalrank.config import Config
from modalrank.evaluation import Scored, Values

# NDCG@k that a sampler must not surely cost: the lower bound of its paired difference is above minus this.
MARGIN = 0.002


class Fitted(NamedTuple):
    """What gives a fitted meta-learner, and (n_rows,) scores of the judging queries by fits without them."""

    meta: Callable[[], MetaLearner]
    scores: Values


@dataclass(frozen=True)
class SamplerTrial:
    """A sampler at one strength, judged on the queries that choose.

    Attributes
    ----------
    sampler, params
        The sampler by name, `natural` for the ladder as it stood before.
    rung
        The meta-learner that learned from what it drew.
    hedged
        Half of the say is left to the ladder before.
    ndcg, gain
        Mean NDCG@k, and its paired difference to that of the ladder before, both with places for new items.
    worst
        The slice with the lowest mean.
    chosen
        The ensemble has it.
    """

    sampler: str
    params: Mapping[str, Any]
    rung: str
    ndcg: Interval
    gain: Interval
    worst: WorstSlice | None
    hedged: bool = False
    chosen: bool = False

    @property
    def named(self) -> str:
        """The sampler with its parameters."""
        words = [self.sampler, *(f"{name}={value}" for name, value in self.params.items())]
        return " ".join([*words, Hedge.name] if self.hedged else words)


def strengths(k: int) -> tuple[tuple[str, dict[str, float]], ...]:
    """Return the samplers and the strengths that are tried, `k` being the cutoff of the NDCG."""
    return (
        ("class_balanced", {}),
        ("pattern_balanced", {"tau": 0.5}),
        ("pattern_balanced", {"tau": 0.0}),
        ("modality_dropout", {"rate": 0.2}),
        ("modality_dropout", {"rate": 0.4}),
        ("shapley", {"kappa": 0.5, "k": k}),
        ("shapley", {"kappa": 1.5, "k": k}),
        ("raking", {"tau": 0.5}),
        ("pattern_balanced+modality_dropout", {"modality_dropout.rate": 0.2}),
    )


def choose_sampler(
    config: Config,
    rung: str,
    before: Fitted,
    judge: Scored,
    fitted: Callable[[Config, str], Fitted],
    with_places: Callable[[Values], Values],
    say: Callable[[str], None],
) -> tuple[Fitted | None, tuple[SamplerTrial, ...]]:
    """Return the rung fitted by the sampler with the surest NDCG@k over a floor, and all that was tried.

    The floor is the worst slice without sampling: only a sampler with a better worst slice (which may be
    another one) is taken, and only if its mean NDCG@k is surely not lower by more than MARGIN. Every sampler
    is tried as it is, and with half of the say left to the ladder before. The lower bound of the gain decides
    among them, as the best of so many means is one that luck was kind to.

    Parameters
    ----------
    before
        The ladder as it stands.
    fitted
        Fits and scores a rung under a config.
    with_places
        Gives (n_rows,) scores after places for new items are kept: all are compared with the places that
        they would have.

    Returns
    -------
    fitted, trials
        None where no sampler is taken.
    """
    k, draws, seed = config.ensemble.k, config.ensemble.bootstrap_draws, config.seed
    slices = positive_slices(judge.frame)
    without = judge.ndcg(with_places(before.scores), k)

    def tried(name: str, params: Mapping[str, Any], inner: Values, hedged: bool = False) -> SamplerTrial:
        scores = with_places(inner)
        values = judge.ndcg(scores, k)
        gain = paired_bootstrap(values, without, draws, seed)
        worst = worst_slice(judge.frame, scores, slices, k)
        return SamplerTrial(name, params, rung, bootstrap_mean(values, draws, seed), gain, worst, hedged)

    natural = tried(NATURAL, {}, before.scores)
    trials, best, found = [natural], natural, None
    for name, params in strengths(k) if natural.worst is not None else ():
        say(f"sampler {name}")
        drawn = {"sampling": name, "sampling_params": params}
        told = config.model_copy(update={"ensemble": config.ensemble.model_copy(update=drawn)})
        one = fitted(told, rung)
        for each in (one, _hedge(before, one, judge)):
            trial = tried(name, params, each.scores, hedged=each is not one)
            trials.append(trial)
            if _admissible(trial, natural) and (found is None or trial.gain.low > best.gain.low):
                best, found = trial, each
    return found, tuple(replace(trial, chosen=trial is best) for trial in trials)


def _hedge(before: Fitted, sampled: Fitted, judge: Scored) -> Fitted:
    scores = mean_of_z([before.scores, sampled.scores], judge.frame.offsets)
    return Fitted(lambda: Hedge(before.meta(), sampled.meta()), scores)


def _admissible(trial: SamplerTrial, natural: SamplerTrial) -> bool:
    if trial.worst is None or natural.worst is None:
        return False
    return trial.gain.low > -MARGIN and trial.worst.mean > natural.worst.mean
