"""What an objective sees of a trial, and what it hands back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from optuna.exceptions import TrialPruned
from optuna.trial import Trial

from tuning.spaces import Value

Result = TypeVar("Result")
# Steps of one part of a trial (a fold, or a base in a fold): rounds below its last step, which is its end.
STRIDE = 10_000
# Rounds at which a boosting run is compared with those of other trials; each costs a write.
ROUNDS = (25, 50, 100, 200, 400, 800, 1600)
# The objectives by name, with the direction in which they are better.
DIRECTIONS = {"ndcg": "maximize", "latency": "minimize"}


@dataclass(frozen=True)
class Measured:
    """What a trial is worth.

    Attributes
    ----------
    ndcg
        Mean NDCG@k.
    latency
        Milliseconds of scoring a query.
    """

    ndcg: float
    latency: float

    def values(self, objectives: Sequence[str]) -> list[float]:
        """Return the values of the objectives by name."""
        return [float(getattr(self, name)) for name in objectives]


@dataclass
class Attempt:
    """A trial under way: suggests values, notes what is measured, and gives up what lags behind.

    Attributes
    ----------
    trial
        Optuna's trial.
    prunes
        Whether it may be given up.
    parts
        The value of every part so far, by its name.
    scoring
        Seconds of scoring so far.
    """

    trial: Trial
    prunes: bool
    parts: dict[str, float] = field(default_factory=dict)
    scoring: float = 0.0

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Suggest a whole number."""
        found: int = self.trial.suggest_int(name, low, high, log=log)
        return found

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Suggest a number."""
        found: float = self.trial.suggest_float(name, low, high, log=log)
        return found

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        """Suggest one of the choices."""
        found: Value = self.trial.suggest_categorical(name, list(choices))
        return found

    def part(self, place: int, name: str, value: float, so_far: float) -> None:
        """Note the value of a part that has ended, and give up if the value so far lags behind.

        `place` counts the parts of a trial from 0; it is the same for the same part of every trial.
        """
        self.parts[name] = value
        self._report((place + 1) * STRIDE - 1, so_far)

    def on_round(self, place: int) -> Callable[[int, float], None]:
        """Return what is told the value after every boosting round of a part."""
        start = place * STRIDE

        def told(number: int, value: float) -> None:
            if number in ROUNDS:
                self._report(start + number, value)

        return told

    def timed(self, score: Callable[[], Result]) -> Result:
        """Return what a call returns, and add its seconds to the time of scoring."""
        start = time.perf_counter()
        found = score()
        self.scoring += time.perf_counter() - start
        return found

    def _report(self, step: int, value: float) -> None:
        if not self.prunes or value != value:
            return
        self.trial.report(value, step)
        if self.trial.should_prune():
            raise TrialPruned
