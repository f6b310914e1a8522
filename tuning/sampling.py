"""How trials are drawn and given up: seeded TPE, and the pruner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, NopPruner, PercentilePruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tuning.storage import quiet_optuna

# Trials before anything is pruned, and the best of them among which a trial has to stay.
TRIALS_BEFORE_PRUNING = 8
KEPT_PERCENT = 75.0


class NumberedSampler(BaseSampler):  # type: ignore[misc] # untyped here
    """Multivariate TPE (Bergstra et al., NeurIPS 2011) that draws each trial by a seed of its own number.

    A study that goes on, and the workers of one study, then need not share the state of a generator: the
    same finished trials before it give the same trial.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._inner = self._made(0)

    def _made(self, number: int) -> TPESampler:
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        with quiet_optuna():
            # Grouped, because which parameters there are can depend on a choice.
            return TPESampler(multivariate=True, group=True, seed=seed, constant_liar=True)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take the seed of the trial."""
        self._inner = self._made(trial.number)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what is drawn together."""
        space: dict[str, BaseDistribution] = self._inner.infer_relative_search_space(study, trial)
        return space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw what belongs together."""
        drawn: dict[str, Any] = self._inner.sample_relative(study, trial, search_space)
        return drawn

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - a value of any distribution
        """Draw one parameter by itself."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Tell the sampler that a trial has ended."""
        self._inner.after_trial(study, trial, state, values)


def pruner(n_objectives: int) -> BasePruner:
    """Return what gives up the worst quarter; trials of several objectives are never given up."""
    if n_objectives > 1:
        return NopPruner()
    return PercentilePruner(KEPT_PERCENT, n_startup_trials=TRIALS_BEFORE_PRUNING)
