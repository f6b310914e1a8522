from __future__ import annotations

import inspect
from dataclasses import dataclass, field

import pytest
from optuna.trial import FixedTrial

from rankers.registry import FAMILIES, make_ranker, parameter_types
from tuning.spaces import SPACES

every_space = pytest.mark.parametrize("family", SPACES)


@dataclass
class AtShare:
    """A trial that suggests the value at a share of every range, and writes the ranges down."""

    share: float
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    kinds: dict[str, type] = field(default_factory=dict)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self._note(name, low, high, float)
        return self._value(low, high, log)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self._note(name, low, high, int)
        return round(self._value(low, high, log))

    def _value(self, low: float, high: float, log: bool) -> float:
        value = low * (high / low) ** self.share if log else low + self.share * (high - low)
        return min(max(value, low), high)

    def _note(self, name: str, low: float, high: float, kind: type) -> None:
        assert 0 <= low < high
        assert name not in self.ranges
        self.ranges[name], self.kinds[name] = (low, high), kind


def test_spaces_cover_every_family():
    assert set(SPACES) == set(FAMILIES)


@every_space
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_space_any_value_makes_a_ranker_with_it(family, share):
    params = SPACES[family](AtShare(share))
    ranker = make_ranker(family, params=params)
    assert params
    assert {name: getattr(ranker, name) for name in params} == params


@every_space
def test_space_names_and_kinds_are_those_of_the_family(family):
    trial = AtShare(0.5)
    params = SPACES[family](trial)
    assert set(params) == set(trial.ranges)
    known = parameter_types(family)
    assert trial.kinds == {name: known[name] for name in params}


@every_space
def test_space_values_are_what_the_trial_suggests(family):
    trial = AtShare(0.5)
    fixed = SPACES[family](trial)
    assert SPACES[family](FixedTrial(fixed)) == fixed


@every_space
def test_space_value_out_of_range_is_reported_by_optuna(family):
    trial = AtShare(0.5)
    fixed = SPACES[family](trial)
    name, (_, high) = next(iter(trial.ranges.items()))
    with pytest.warns(UserWarning, match="out of the range"):
        SPACES[family](FixedTrial({**fixed, name: high * 2}))


@every_space
def test_space_untuned_setting_lies_within(family):
    trial = AtShare(0.5)
    SPACES[family](trial)
    defaults = inspect.signature(FAMILIES[family]).parameters
    for name, (low, high) in trial.ranges.items():
        assert low <= defaults[name].default <= high, name
