"""What a setting is worth: measured on training queries, out of fold. Validation and test are not read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ensembles.oof import Base, fit_base, without_folds
from features.frame import IntArray, RankingFrame, rows_of_queries
from modalrank.bases import BaseSet, base_set, ranker_maker
from modalrank.config import BaseConfig, Config
from modalrank.dataset import Dataset
from modalrank.encoding import fit_encoders
from modalrank.evaluation import Scored
from modalrank.forms import make_form
from modalrank.judged_form import JudgedForm
from modalrank.ladder import cross_parts, fit_rung
from modalrank.lists import Training
from modalrank.log_form import LogForm
from modalrank.tuning_job.settings import with_base, with_ensemble
from rankers.metrics import mean_of, ndcg
from tuning.attempt import Attempt, Measured
from tuning.spaces import Given, Value

Say = Callable[[str], None]


@dataclass
class Prepared:
    """A data set with its training queries, made once for all trials that leave the features alone."""

    form: LogForm | JudgedForm
    training: Training

    @classmethod
    def of(cls, dataset: Dataset, say: Say) -> Prepared:
        """Encode, fit the behaviour models and make the training queries."""
        form = make_form(dataset, fit_encoders(dataset, say), say)
        return cls(form, form.training())

    def bases(self, config: Config) -> BaseSet:
        """Return the bases of a config that has the features of this one."""
        return base_set(config, self.form.model_before("valid"), self.training.frame)


@dataclass(frozen=True)
class BaseObjective:
    """NDCG@k of one base on the training queries of fixed folds, each scored by what learned from the others.

    Attributes
    ----------
    frame, folds, scheme
        As those of `modalrank.lists.Training`.
    """

    config: Config
    spec: BaseConfig
    frame: RankingFrame
    folds: IntArray
    scheme: Literal["cross", "forward"]

    def __call__(self, attempt: Attempt) -> Measured:
        """Measure a setting; folds and boosting rounds may give it up."""
        spec, k = with_base(self.spec, attempt), self.config.ensemble.k
        values, n_scored = np.zeros(0), 0
        for place, fold in enumerate(np.unique(self.folds[self.folds >= 0])):
            train = without_folds(self.frame, self.folds, [fold], self.scheme)
            if not train.n_queries:
                continue
            held = self.frame.take_queries(np.flatnonzero(self.folds == fold))
            maker, modality = ranker_maker(self.config, spec, self.frame, attempt.on_round(place))
            ranker = fit_base(Base(spec.name, maker, modality), train, self.config.seed)
            scores = attempt.timed(lambda ranker=ranker, held=held: ranker.score(held))  # type: ignore[misc]
            here = ndcg(np.nan_to_num(scores, nan=-np.inf), held.labels, held.offsets, k)
            values, n_scored = np.concatenate([values, here]), n_scored + held.n_queries
            attempt.part(place, f"fold_{fold}", mean_of(here).mean, mean_of(values).mean)
        return Measured(mean_of(values).mean, 1000 * attempt.scoring / max(n_scored, 1))

    def section(self, params: Mapping[str, Value]) -> dict[str, Any]:
        """Return the part of the config that a trial stood for."""
        return {"bases": [with_base(self.spec, Given(params)).model_dump(mode="json")]}


@dataclass(frozen=True)
class EnsembleObjective:
    """NDCG@k of a meta-learner on out-of-fold scores, each part of the queries by a fit on the others.

    Attributes
    ----------
    oof
        What the bases say of training queries that they did not learn from.
    base_latency
        Base to milliseconds a query, for the bases that a meta-learner reads.
    """

    config: Config
    oof: Scored
    base_latency: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, attempt: Attempt) -> Measured:
        """Measure a setting; parts of the queries may give it up."""
        config, name = with_ensemble(self.config, attempt)
        return cross_fitted(attempt, config, name, self.oof, 0, self.base_latency)

    def section(self, params: Mapping[str, Value]) -> dict[str, Any]:
        """Return the part of the config that a trial stood for."""
        config, name = with_ensemble(self.config, Given(params))
        return {"meta": name, "ensemble": config.ensemble.model_dump(mode="json")}


def cross_fitted(
    attempt: Attempt, config: Config, name: str, oof: Scored, place: int, base_latency: Mapping[str, float]
) -> Measured:
    """Return NDCG@k of a meta-learner over all queries; a part after the other is judged."""
    frame, k = oof.frame, config.ensemble.k
    scores, used = np.zeros(len(frame.labels)), set[str]()
    before, so_far = attempt.scoring, np.full(frame.n_queries, np.nan)
    for number, (fitted, judged) in enumerate(cross_parts(frame, config.seed)):
        meta = fit_rung(config, name, frame.take_queries(fitted))
        part = frame.take_queries(judged)
        here = attempt.timed(lambda: meta.score(part))  # noqa: B023
        scores[rows_of_queries(frame.offsets, judged)] = here
        totals = None if oof.total_relevant is None else oof.total_relevant[judged]
        so_far[judged] = ndcg(here, part.labels, part.offsets, k, total_relevant=totals)
        used |= set(meta.bases_used())
        attempt.part(place + number, f"queries_{number}", mean_of(so_far[judged]).mean, mean_of(so_far).mean)
    seconds = (attempt.scoring - before) if base_latency else attempt.scoring
    latency = 1000 * seconds / max(frame.n_queries, 1) + sum(base_latency.get(base, 0.0) for base in used)
    return Measured(mean_of(oof.ndcg(scores, k)).mean, latency)
