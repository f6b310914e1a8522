"""A study: trials of an objective, kept in a storage so that the same command goes on where it stopped."""

from __future__ import annotations

import copy
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from features.errors import ConfigError, DataError
from tuning.attempt import DIRECTIONS, Attempt, Measured
from tuning.memory import peak_mib, reset_peak
from tuning.sampling import NumberedSampler, pruner
from tuning.spaces import Value
from tuning.storage import GRACE, HEARTBEAT, open_storage, quiet_optuna, retry

Objective = Callable[[Attempt], Measured]
# Attributes of studies and trials.
FACTS, DEFAULT, FINGERPRINT, SURPLUS = "facts", "default", "fingerprint", "surplus"
POLL_SECONDS = 1.0
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
# Of two settings as good as each other the faster one is taken: it may lose this share of the best NDCG.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Plan:
    """What is to be searched, and how long.

    Attributes
    ----------
    name, storage
        Of the study; the same name in the same storage goes on.
    fingerprint
        Of all that the values depend on beside the settings; a study of another one is not gone on with.
    defaults
        Settings that are tried before any other.
    n_trials
        Trials in all, those of earlier runs and of other processes included.
    until
        `time.time()` after which no trial begins.
    objectives
        Of `DIRECTIONS`; with several the study looks for the Pareto front.
    heartbeat, grace
        Seconds between signs of life, and without one until a trial counts as failed.
    """

    name: str
    storage: str
    seed: int
    n_trials: int
    fingerprint: str = ""
    defaults: tuple[Mapping[str, Value], ...] = ({},)
    until: float | None = None
    objectives: tuple[str, ...] = ("ndcg",)
    workers: int = 1
    heartbeat: int = HEARTBEAT
    grace: int = GRACE


@dataclass(frozen=True)
class Outcome:
    """A trial that has ended.

    Attributes
    ----------
    state
        `complete`, `pruned` or `fail`.
    default
        It is one of the plan's defaults.
    values
        Of the objectives; None unless complete.
    parts
        The value of every part (fold) that ended.
    error
        Why it failed.
    started, seconds, peak_mib
        `time.time()` at the beginning, wall time and peak memory of its process.
    """

    number: int
    state: str
    params: dict[str, Value]
    default: bool
    values: tuple[float, ...] | None
    parts: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    started: float = 0.0
    seconds: float = 0.0
    peak_mib: float = 0.0


@dataclass(frozen=True)
class Found:
    """What a study has found; `best` is one of `outcomes`, which are in the order of their numbers."""

    study: Study
    objectives: tuple[str, ...]
    outcomes: list[Outcome]
    best: Outcome

    @property
    def default_ndcg(self) -> float:
        """NDCG of the best of the untuned settings, NaN if all of them failed."""
        defaults = [o.values[0] for o in self.outcomes if o.default and o.values]
        return max(defaults, default=float("nan"))


Recorder = Callable[[Outcome], None]


def nothing(_: object) -> None:
    """Record nothing."""


def run_study(
    plan: Plan,
    objective: Objective,
    record: Recorder = nothing,
    say: Callable[[str], None] = nothing,
) -> Found:
    """Try settings until the study has the trials of the plan, and return the best.

    `record` is told of every trial that this call ends. With several workers it and the objective must be
    picklable, as they work in processes of their own. A failed trial is tried once more; what fails twice
    is a trial like any other, without a value.

    Raises
    ------
    ConfigError
        If the storage is no URL, or its study of this name is of another fingerprint or other objectives.
    TryAgainError
        If the storage does not answer.
    DataError
        If no trial came to an end with a value.
    """
    storage = open_storage(plan.storage, heartbeat=plan.heartbeat, grace=plan.grace)
    with quiet_optuna():
        _prepared(plan, storage)
        others = [_started(plan, objective, record) for _ in range(plan.workers - 1)]
        try:
            _work(plan, storage, objective, record, say)
        finally:
            for other in others:
                other.join()
        return _found(plan, _loaded(plan, storage))


def outcomes_of(study: Study) -> list[Outcome]:
    """Return the trials of a study that have ended, but for what another process made superfluous."""
    return [
        _outcome(trial)
        for trial in study.get_trials(deepcopy=False, states=ENDED)
        if SURPLUS not in trial.user_attrs
    ]


def _prepared(plan: Plan, storage: BaseStorage) -> None:
    """Make the study, or check that it is the one that is meant."""
    study = optuna.create_study(
        study_name=plan.name,
        storage=storage,
        directions=[DIRECTIONS[name] for name in plan.objectives],
        load_if_exists=True,
    )
    known = study.user_attrs.get(FINGERPRINT)
    if known is None:
        study.set_user_attr(FINGERPRINT, [plan.fingerprint, *plan.objectives])
        for values in plan.defaults:
            study.enqueue_trial(dict(values), user_attrs={DEFAULT: True})
    elif known != [plan.fingerprint, *plan.objectives]:
        raise ConfigError(
            f"the study {plan.name!r} in {plan.storage} is of other data, another config or other objectives",
            fix="name another one with --study, or go on with what it was begun with",
        )


def _loaded(plan: Plan, storage: BaseStorage) -> Study:
    return optuna.load_study(
        study_name=plan.name,
        storage=storage,
        sampler=NumberedSampler(plan.seed),
        pruner=pruner(len(plan.objectives)),
    )


def _started(plan: Plan, objective: Objective, record: Recorder) -> Any:  # noqa: ANN401 - a process
    """Start another worker; not by a fork, which hangs where a library has started threads."""
    process = multiprocessing.get_context("spawn").Process(
        target=_work_elsewhere, args=(plan, objective, record), daemon=True
    )
    process.start()
    return process


def _work_elsewhere(plan: Plan, objective: Objective, record: Recorder) -> None:
    storage = open_storage(plan.storage, heartbeat=plan.heartbeat, grace=plan.grace)
    with quiet_optuna():
        _work(plan, storage, objective, record, nothing)


def _work(
    plan: Plan, storage: BaseStorage, objective: Objective, record: Recorder, say: Callable[[str], None]
) -> None:
    """Run trials as long as the study lacks some; wait for those that other processes run."""
    study = _loaded(plan, storage)
    while plan.until is None or time.time() < plan.until:
        trials = _counted(study)
        done = sum(trial.state in ENDED for trial in trials)
        if done >= plan.n_trials:
            break
        if len(trials) >= plan.n_trials:
            # Another process may have been killed: its trial then fails, and is tried again.
            time.sleep(POLL_SECONDS)
            fail_stale_trials(study)
            continue
        say(f"{plan.name}: trial {done + 1} of {plan.n_trials}")
        _one_trial(plan, study, objective, record)


def _one_trial(plan: Plan, study: Study, objective: Objective, record: Recorder) -> None:
    numbers = []

    def tried(trial: Trial) -> list[float]:
        numbers.append(trial.number)
        if sum(other.number < trial.number for other in _counted(study)) >= plan.n_trials:
            trial.set_user_attr(SURPLUS, True)
            raise _SurplusError
        return _measured(plan, trial, objective)

    interrupted = False
    try:
        study.optimize(tried, n_trials=1, catch=(Exception,))
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        ended = study.get_trials(deepcopy=False)[numbers[0]] if numbers else None
        if ended is not None and SURPLUS not in ended.user_attrs:
            if ended.state == TrialState.FAIL:
                # The callback writes into what it is given.
                retry()(study, copy.deepcopy(ended))
            if not interrupted:
                record(_outcome(ended))


def _measured(plan: Plan, trial: Trial, objective: Objective) -> list[float]:
    attempt = Attempt(trial, prunes=len(plan.objectives) == 1)
    start, facts = time.time(), dict[str, Any]()
    reset_peak()
    try:
        values = objective(attempt).values(plan.objectives)
        if any(value != value for value in values):
            raise ValueError(f"the value is not a number: {dict(zip(plan.objectives, values, strict=True))}")
    except Exception as error:
        facts["error"] = f"{type(error).__name__}: {error}".strip()
        raise
    finally:
        facts |= {"parts": attempt.parts, "started": start, "seconds": time.time() - start}
        trial.set_user_attr(FACTS, {**facts, "peak_mib": peak_mib()})
    return values


class _SurplusError(Exception):
    """Two processes began a trial at once, and only one was lacking."""


def _counted(study: Study) -> list[FrozenTrial]:
    """Return the trials that were begun, each setting that was tried again only once."""
    trials = study.get_trials(deepcopy=False)
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [
        trial
        for trial in trials
        if trial.state != TrialState.WAITING
        and SURPLUS not in trial.user_attrs
        and not (trial.state == TrialState.FAIL and trial.number in again)
    ]


def _outcome(trial: FrozenTrial) -> Outcome:
    facts = trial.user_attrs.get(FACTS, {})
    complete = trial.state == TrialState.COMPLETE
    failed = trial.state == TrialState.FAIL
    return Outcome(
        number=trial.number,
        state=trial.state.name.lower(),
        params=dict(trial.params),
        default=bool(trial.user_attrs.get(DEFAULT)),
        values=tuple(trial.values) if complete else None,
        parts=facts.get("parts", {}),
        error=facts.get("error", "its process ended without a word") if failed else None,
        started=facts.get("started", 0.0),
        seconds=facts.get("seconds", 0.0),
        peak_mib=facts.get("peak_mib", 0.0),
    )


def _found(plan: Plan, study: Study) -> Found:
    outcomes = outcomes_of(study)
    complete = [outcome for outcome in outcomes if outcome.values]
    if not complete:
        errors = [outcome.error for outcome in outcomes if outcome.error]
        why = f"the last one failed with {errors[-1]}" if errors else "there was no time for any"
        raise DataError(
            f"no trial of the study {plan.name!r} came to an end: {why}", fix="mend this, or give more time"
        )
    return Found(study, plan.objectives, outcomes, _best(complete))


def _best(complete: Sequence[Outcome]) -> Outcome:
    """Return the first of the best; with latency as an objective the fastest of those within TOLERANCE."""

    def values(outcome: Outcome) -> tuple[float, ...]:
        return outcome.values or ()

    top = max(complete, key=lambda outcome: values(outcome)[0])
    if len(values(top)) == 1:
        return top
    near = [o for o in complete if values(o)[0] >= (1 - TOLERANCE) * values(top)[0]]
    return min(near, key=lambda outcome: values(outcome)[1])
