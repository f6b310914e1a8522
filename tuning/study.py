"""A study: trials of a search space, kept in a journal so that the same command goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tuning.spaces import Space

Objective = Callable[[dict[str, float]], float]


@dataclass(frozen=True)
class Tuned:
    """The best setting of a study.

    Attributes
    ----------
    value
        Objective of the best setting; `default_value` is that of the untuned one.
    n_trials
        Finished trials, earlier runs of the same journal included.
    """

    params: dict[str, float]
    value: float
    default_value: float
    n_trials: int


def run_study(
    name: str,
    space: Space,
    objective: Objective,
    *,
    n_trials: int,
    journal: Path,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Try settings until the study has `n_trials` finished ones, and return the best.

    The objective is to be maximised; it is also asked for the empty setting, the untuned ranker, once a
    study. Trials that a stopped run left open do not count.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        direction="maximize",
        load_if_exists=True,
    )
    # A sampler that started from the same seed again would repeat the trials of the earlier run.
    started = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(multivariate=True, seed=seed + started)
    if "default_value" not in study.user_attrs:
        say("the untuned setting")
        study.set_user_attr("default_value", objective({}))
    done = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    for number in range(done, n_trials):
        say(f"trial {number + 1} of {n_trials}")
        study.optimize(lambda trial: objective(space(trial)), n_trials=1)
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = study.best_trial
    return Tuned(
        dict(best.params), float(best.value or 0.0), study.user_attrs["default_value"], len(finished)
    )
