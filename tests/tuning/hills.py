"""Objectives with a known top; as a program, a study that never gets beyond its fourth trial."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tuning.attempt import Attempt, Measured
from tuning.study import Plan, run_study

OPTIMUM = {"x": 0.3, "n": 7}


@dataclass
class Hill:
    """An objective with its top, 0, at OPTIMUM, told in three parts; the first `fails` calls raise."""

    fails: int = 0
    interrupt_at: int | None = None
    asked: list[dict] = field(default_factory=list)

    def __call__(self, attempt: Attempt) -> Measured:
        x, n = attempt.suggest_float("x", -2.0, 2.0), attempt.suggest_int("n", 1, 20)
        self.asked.append({"x": x, "n": n})
        if len(self.asked) <= self.fails:
            raise RuntimeError("planted")
        if len(self.asked) == self.interrupt_at:
            raise KeyboardInterrupt
        height = -((x - OPTIMUM["x"]) ** 2) - ((n - OPTIMUM["n"]) / 10) ** 2
        for place in range(3):
            attempt.part(place, f"fold_{place}", height, height)
        return Measured(height, 1.0)


@dataclass(frozen=True)
class Meeting:
    """A hill whose first trial in a process waits until two processes are at it; tells its process."""

    folder: str

    def __call__(self, attempt: Attempt) -> Measured:
        (Path(self.folder) / str(os.getpid())).touch()
        until = time.monotonic() + 120
        while len(os.listdir(self.folder)) < 2:
            assert time.monotonic() < until, "no second process came"
            time.sleep(0.05)
        attempt.parts["process"] = float(os.getpid())
        x = attempt.suggest_float("x", -2.0, 2.0)
        # Long enough for the other one to have its turn.
        time.sleep(0.3)
        return Measured(-x * x, 1.0)


def main() -> None:
    """Run three trials, then hang in the fourth and tell so by a file."""
    storage, begun = sys.argv[1:]
    hill = Hill()

    def objective(attempt: Attempt) -> Measured:
        measured = hill(attempt)
        if len(hill.asked) == 4:
            Path(begun).touch()
            time.sleep(600)
        return measured

    first = ({"x": -1.0, "n": 1},)
    run_study(Plan("hill", f"sqlite:///{storage}", 0, 6, defaults=first, heartbeat=1, grace=2), objective)


if __name__ == "__main__":
    main()
