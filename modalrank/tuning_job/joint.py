"""The whole line as one objective, for searches that change what the bases see, or everything at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ensembles import make_meta
from ensembles.oof import Base, fit_base, oof_parts, without_folds
from ensembles.score_frame import concatenate
from ensembles.stack import Stack
from features.frame import RankingFrame
from modalrank.bases import BaseSet, ranker_maker
from modalrank.config import Config
from modalrank.dataset import Dataset, load_dataset
from modalrank.evaluation import Scored
from modalrank.training import CONTEXT, gather
from modalrank.tuning_job.command import Part
from modalrank.tuning_job.objectives import Prepared, cross_fitted
from modalrank.tuning_job.settings import with_parts
from rankers.metrics import mean_of
from rankers.protocol import Ranker
from tuning.attempt import Attempt, Measured
from tuning.spaces import Given, Value
from tuning.study import nothing


@dataclass
class JointObjective:
    """NDCG@k of the whole line on training queries with all their candidates, out of fold.

    Parameters
    ----------
    config
        With named bases.
    parts
        What the trials set; with the meta-learner not among them it is the one named by `meta`.
    """

    config: Config
    parts: tuple[Part, ...]
    meta: str = "best_single"
    _dataset: Dataset | None = field(default=None, repr=False)
    _prepared: Prepared | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the data behind: another process reads them by itself."""
        return {**self.__dict__, "_dataset": None, "_prepared": None}

    def __call__(self, attempt: Attempt) -> Measured:
        """Measure a setting; folds and boosting rounds may give it up."""
        config, meta = with_parts(self.config, self.parts, attempt)
        prepared = self._ready(config)
        bases, training = prepared.bases(config), prepared.training
        parts = oof_parts(list(training.lists), training.frame.n_rows, training.scheme)
        scored: list[Scored] = []
        for number, folds in enumerate(parts):
            frame = without_folds(training.frame, training.folds, folds, training.scheme)
            if not frame.n_queries:
                continue
            start = number * (len(bases.bases) + 1)
            stack = self._stack(attempt, config, bases, frame, start)
            lists = [training.lists[fold] for fold in folds]
            here = attempt.timed(lambda: gather((stack, part) for part in lists))  # noqa: B023
            scored.append(here)
            value = _best_base(here, config.ensemble.k)
            so_far = _best_base(_joined(scored), config.ensemble.k)
            attempt.part(start + len(bases.bases), f"part_{number}", value, so_far)
        end = len(parts) * (len(bases.bases) + 1)
        return cross_fitted(attempt, config, meta or self.meta, _joined(scored), end, {})

    def section(self, params: Mapping[str, Value]) -> dict[str, Any]:
        """Return the part of the config that a trial stood for."""
        config, meta = with_parts(self.config, self.parts, Given(params))
        sections = {"modalities", "candidates", "labels", "bases", "ensemble"}
        return {"meta": meta or self.meta, **config.model_dump(mode="json", include=sections)}

    def _ready(self, config: Config) -> Prepared:
        if self._dataset is None:
            self._dataset = load_dataset(self.config)
        if {"encoders", "candidates"} & set(self.parts):
            return Prepared.of(replace(self._dataset, config=config), nothing)
        if self._prepared is None:
            self._prepared = Prepared.of(self._dataset, nothing)
        return self._prepared

    def _stack(
        self, attempt: Attempt, config: Config, bases: BaseSet, frame: RankingFrame, start: int
    ) -> Stack:
        """Fit all bases on the training queries of a part, the learned ones under watch."""
        specs = {} if config.bases == "auto" else {spec.name: spec for spec in config.bases}
        rankers: dict[str, Ranker] = {}
        for place, base in enumerate(bases.bases):
            if base.name in specs:
                watch = attempt.on_round(start + place)
                maker, modality = ranker_maker(config, specs[base.name], frame, watch)
                base = Base(base.name, maker, modality)
            rankers[base.name] = fit_base(base, frame, config.seed)
        return Stack(rankers, bases.modality, CONTEXT, make_meta("best_single"))


def _joined(parts: Sequence[Scored]) -> Scored:
    """Put parts of the same bases behind each other."""
    totals = [part.total_relevant for part in parts]
    known = [total for total in totals if total is not None]
    return Scored(
        concatenate([part.frame for part in parts]),
        np.concatenate([part.queries for part in parts]),
        np.concatenate([part.items for part in parts]),
        np.concatenate(known) if len(known) == len(parts) else None,
        np.concatenate([part.unreached for part in parts]),
    )


def _best_base(scored: Scored, k: int) -> float:
    """Return the mean NDCG@k of the base that ranks these queries best, no opinion ranked last."""
    columns = np.nan_to_num(scored.frame.scores, nan=-np.inf).T
    return max(mean_of(scored.ndcg(column, k)).mean for column in columns)
