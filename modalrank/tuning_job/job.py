"""The job behind `modalrank tune`: stages of studies, their record, and what they gain."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from features.errors import ConfigError
from modalrank.bases import learned_bases
from modalrank.config import Config, load_config
from modalrank.dataset import load_dataset
from modalrank.lists import Lists
from modalrank.store import require_store
from modalrank.tuning_job.command import Part
from modalrank.tuning_job.gain import Arm, Gain, fit_arm, gains, hold_out
from modalrank.tuning_job.joint import JointObjective
from modalrank.tuning_job.objectives import BaseObjective, EnsembleObjective, Prepared
from modalrank.tuning_job.record import SearchRecord
from modalrank.tuning_job.settings import (
    base_defaults,
    ensemble_defaults,
    parts_defaults,
    with_base,
    with_ensemble,
    with_parts,
)
from modalrank.tuning_job.tuned_file import tuned_text, write_whole
from tuning.spaces import Given, Value
from tuning.storage import SQLITE, open_storage
from tuning.study import Found, Objective, Plan, run_study

Say = Callable[[str], None]
# Keys on which the values of a trial do not depend.
ELSEWHERE = {"tracking", "threads", "device", "name"}
# Sections that decide what the bases see.
FEATURES = ("modalities", "candidates", "labels")


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes
    ----------
    source, overrides
        The config file and its `a.b=c`.
    bases
        Names of the learned bases to tune; none means all.
    trials, timeout
        Of each study, and seconds of all of them together.
    out
        The tuned config file.
    """

    source: Path
    overrides: tuple[str, ...]
    out: Path
    parts: tuple[Part, ...]
    joint: bool = False
    bases: tuple[str, ...] = ()
    trials: int = 50
    timeout: float | None = None
    objectives: tuple[str, ...] = ("ndcg",)
    workers: int = 1
    storage: str = "sqlite:///mlruns/optuna.db"
    study: str | None = None


@dataclass(frozen=True)
class StudySummary:
    """A study in plain numbers."""

    name: str
    trials: int
    complete: int
    pruned: int
    failed: int
    default_ndcg: float
    best_ndcg: float
    changed: bool
    params: dict[str, Value]


@dataclass(frozen=True)
class TuneResult:
    """What a search found."""

    config_file: Path
    run_id: str
    studies: list[StudySummary]
    gains: list[Gain]
    seconds: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "config": str(self.config_file),
            "run": self.run_id,
            "studies": [asdict(study) for study in self.studies],
            "gains": [{**asdict(gain), "shown": gain.shown} for gain in self.gains],
            "seconds": self.seconds,
        }


def tune(request: Request, say: Say) -> TuneResult:
    """Search, record, measure the gain on the outer hold-out and write the tuned config.

    The search learns from the train split alone, whatever the protocol: validation is the outer hold-out,
    and the labels of test are not read. Settings that are not searched are chosen as in `train`.

    Raises
    ------
    DataError
        If the config or the data breaks the contract, or no trial of a study came to an end.
    TryAgainError
        If the tracking store or the storage of studies does not answer.
    """
    config = load_config(request.source, request.overrides)
    search = _Search(request, config, say)
    record = SearchRecord.begin(config, search.study, request.storage)
    try:
        return search.run(record)
    except BaseException:
        record.fail()
        raise


class _Search:
    """The stages of one command."""

    def __init__(self, request: Request, config: Config, say: Say) -> None:
        self.request, self.say, self.given = request, say, config
        threads = config.threads or max(1, (os.cpu_count() or 1) // request.workers)
        self.config = config.model_copy(update={"protocol": "strict", "threads": threads})
        say("read and check the tables")
        self.dataset = load_dataset(self.config)
        self.digests = list(self.dataset.input_digests().values())
        require_store(config)
        if not request.storage.startswith(SQLITE):
            # A server that does not answer is found now, a file is made when there is something to keep.
            open_storage(request.storage)
        self.study = request.study or config.name
        self.studies: list[StudySummary] = []
        self.seconds: dict[str, float] = {}
        self._made: dict[str, Prepared] = {}
        self._arms: dict[str, Arm] = {}
        self._lists: dict[str, Lists] = {}
        self.specs = learned_bases(self.config, self._prepared_for(self.config).training.frame)
        self.chosen = self._chosen_bases()
        # `auto` gives bases their names, without which they cannot be tuned.
        self.default = self.config.model_copy(update={"bases": self.specs})

    def run(self, record: SearchRecord) -> TuneResult:
        """Go through the stages."""
        parts = self.request.parts
        stages = [parts] if self.request.joint else [(part,) for part in parts]
        self.left = sum(len(self.chosen) if stage == ("bases",) else 1 for stage in stages)
        until = self.request.timeout
        self.until = None if until is None else time.time() + until
        start = time.perf_counter()
        tuned = self.default
        for stage in stages:
            if stage == ("bases",):
                tuned = self._tune_bases(tuned, record)
            elif stage == ("ensemble",):
                tuned = self._tune_ensemble(tuned, record)
            else:
                tuned = self._tune_jointly(tuned, stage, record)
        self.seconds["search"] = time.perf_counter() - start
        self.say("measure the gain on validation")
        start = time.perf_counter()
        measured = self._gains(tuned)
        self.seconds["gain"] = time.perf_counter() - start
        return self._written(tuned, measured, record)

    def _tune_bases(self, config: Config, record: SearchRecord) -> Config:
        """Tune one base after the other on the folds of the training queries."""
        prepared = self._prepared_for(config)
        training, specs = prepared.training, []
        for spec in config.bases if config.bases != "auto" else []:
            if spec.name in self.chosen:
                objective = BaseObjective(config, spec, training.frame, training.folds, training.scheme)
                found = self._study(spec.name, objective, [base_defaults(spec)], config, record)
                if not found.best.default:
                    spec = with_base(spec, Given(found.best.params))
            specs.append(spec)
        return config.model_copy(update={"bases": specs})

    def _tune_ensemble(self, config: Config, record: SearchRecord) -> Config:
        """Tune sampler and meta-learner on the out-of-fold scores of the bases as they are by now."""
        self.say("score out of fold with the tuned bases")
        arm = self._arm(config)
        latency = arm.latency if "latency" in self.request.objectives else {}
        objective = EnsembleObjective(config, arm.oof, latency)
        found = self._study("ensemble", objective, ensemble_defaults(config), config, record)
        return config if found.best.default else with_ensemble(config, Given(found.best.params))[0]

    def _tune_jointly(self, config: Config, parts: tuple[Part, ...], record: SearchRecord) -> Config:
        """Tune parts by whole runs out of fold."""
        name = "joint" if self.request.joint else parts[0]
        objective = JointObjective(config, parts)
        found = self._study(name, objective, parts_defaults(config, parts), config, record)
        return config if found.best.default else with_parts(config, parts, Given(found.best.params))[0]

    def _study(
        self,
        name: str,
        objective: Objective,
        defaults: Sequence[Mapping[str, Value]],
        config: Config,
        record: SearchRecord,
    ) -> Found:
        """Run one study and record it."""
        request = self.request
        fingerprint = self._fingerprint(config, name)
        # What comes before a stage decides its values, so that another outcome there is another study.
        title = f"{self.study}.{name}" + ("" if name in self.chosen else f".{fingerprint[:8]}")
        plan = Plan(
            name=title,
            storage=request.storage,
            seed=self.config.seed,
            n_trials=request.trials,
            fingerprint=fingerprint,
            defaults=tuple(defaults),
            until=self._share_of_time(),
            objectives=request.objectives,
            workers=request.workers,
        )
        section = objective.section  # type: ignore[attr-defined]
        recorder = record.trials_of(title, request.objectives, section)
        start = time.perf_counter()
        found = run_study(plan, objective, recorder, self.say)
        self.seconds[name] = time.perf_counter() - start
        record.end_study(recorder, found)
        self.studies.append(_summary(title, found))
        return found

    def _share_of_time(self) -> float | None:
        """Return when a study has to end, so that those to come have as much time each."""
        left, self.left = max(self.left, 1), self.left - 1
        return None if self.until is None else time.time() + max(0.0, self.until - time.time()) / left

    def _fingerprint(self, config: Config, name: str) -> str:
        raw = config.model_dump(mode="json", exclude=ELSEWHERE)
        raw["data"].pop("root")
        if name in self.chosen:
            raw["bases"] = [spec.model_dump(mode="json") for spec in self.specs if spec.name == name]
            raw.pop("ensemble")
            raw["k"] = config.ensemble.k
        text = json.dumps([raw, self.digests, self.request.parts if name == "joint" else name])
        return hashlib.sha256(text.encode()).hexdigest()

    def _prepared_for(self, config: Config) -> Prepared:
        """Return the training queries of a config, new ones only where its features are others."""
        key = _key(config, FEATURES)
        if key not in self._made:
            self._made[key] = Prepared.of(replace(self.dataset, config=config), self.say)
        return self._made[key]

    def _arm(self, config: Config) -> Arm:
        """Return the fitted bases of a config, fitted anew only where they or their features are others."""
        key = _key(config, (*FEATURES, "bases"))
        if key not in self._arms:
            prepared = self._prepared_for(config)
            features = _key(config, FEATURES)
            if features not in self._lists:
                self._lists[features] = hold_out(prepared, config)
            self._arms[key] = fit_arm(config, prepared, self._lists[features], self.say)
        return replace(self._arms[key], config=config)

    def _gains(self, tuned: Config) -> list[Gain]:
        return gains(self._arm(self.default), self._arm(tuned), self.say)

    def _written(self, tuned: Config, measured: list[Gain], record: SearchRecord) -> TuneResult:
        request = self.request
        changed = tuned.model_copy(
            update={name: getattr(self.given, name) for name in ("protocol", "threads")}
        )
        if changed.bases == self.default.bases:
            changed = changed.model_copy(update={"bases": self.given.bases})
        text = tuned_text(request.source, request.overrides, self.given, changed, request.out)
        write_whole(request.out, text)
        result = TuneResult(request.out, record.run_id, self.studies, measured, self.seconds)
        numbers = {f"seconds.{name}": value for name, value in self.seconds.items()}
        for gain in measured:
            d = gain.difference
            numbers |= {f"gain.{gain.name}": d.mean, f"gain.{gain.name}.low": d.low}
            numbers |= {f"gain.{gain.name}.high": d.high}
        summary = json.dumps(result.as_dict(), indent=1, default=str)
        record.end(numbers, {"tuned.yaml": text, "summary.json": summary})
        return result

    def _chosen_bases(self) -> list[str]:
        known = [spec.name for spec in self.specs]
        for name in self.request.bases:
            if name not in known:
                raise ConfigError(f"no learned base {name!r}", fix=f"name one of {', '.join(known)}")
        return list(self.request.bases) or known


def _summary(title: str, found: Found) -> StudySummary:
    states = [outcome.state for outcome in found.outcomes]
    best = found.best
    return StudySummary(
        name=title,
        trials=len(states),
        complete=states.count("complete"),
        pruned=states.count("pruned"),
        failed=states.count("fail"),
        default_ndcg=found.default_ndcg,
        best_ndcg=best.values[0] if best.values else float("nan"),
        changed=not best.default,
        params={} if best.default else best.params,
    )


def _key(config: Config, sections: Sequence[str]) -> str:
    return config.model_dump_json(include=set(sections))
