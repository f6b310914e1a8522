"""What a search space sees of a trial, and two stand-ins for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Value = float | int | str | bool | None


class Suggests(Protocol):
    """The part of an Optuna trial that a space uses."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Suggest a whole number."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Suggest a number."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        """Suggest one of the choices."""
        ...


Space = Callable[[Suggests], dict[str, Value]]


@dataclass(frozen=True)
class Scoped:
    """A trial in which every name begins with `prefix`, so that one study can hold many spaces."""

    trial: Suggests
    prefix: str

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Suggest a whole number."""
        return self.trial.suggest_int(self.prefix + name, low, high, log=log)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Suggest a number."""
        return self.trial.suggest_float(self.prefix + name, low, high, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        """Suggest one of the choices."""
        return self.trial.suggest_categorical(self.prefix + name, choices)


@dataclass(frozen=True)
class Given:
    """A trial that suggests what it was given, and writes down what was asked for.

    Attributes
    ----------
    values
        Name to value.
    asked
        The values that a space asked for, those put back into its range included: a given value that lies
        outside becomes the nearest border, or the first choice.
    """

    values: Mapping[str, Value]
    asked: dict[str, Value] = field(default_factory=dict)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Give the whole number."""
        value = round(self._within(name, low, high))
        self.asked[name] = value
        return value

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Give the number."""
        value = self._within(name, low, high)
        self.asked[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        """Give the choice."""
        given = self.values.get(name, choices[0])
        value = given if given in choices else choices[0]
        self.asked[name] = value
        return value

    def _within(self, name: str, low: float, high: float) -> float:
        given = self.values.get(name)
        return float(min(max(given, low), high)) if isinstance(given, int | float) else float(low)


def settings_of(space: Space, values: Mapping[str, Value]) -> dict[str, Value]:
    """Return what a trial is called in a study: the names that a space asks for, with these values."""
    given = Given(values)
    space(given)
    return given.asked
