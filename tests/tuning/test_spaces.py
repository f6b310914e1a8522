from __future__ import annotations

import inspect
from dataclasses import dataclass, field

import pytest
from optuna.trial import FixedTrial

from rankers.registry import FAMILIES, make_ranker, parameter_types
from tuning.spaces import RANKERS, Given, Scoped, settings_of

every_space = pytest.mark.parametrize("family", RANKERS)


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
    assert set(RANKERS) == set(FAMILIES)


@every_space
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_space_any_value_makes_a_ranker_with_it(family, share):
    params = RANKERS[family](AtShare(share))
    ranker = make_ranker(family, params=params)
    assert params
    assert {name: getattr(ranker, name) for name in params} == params


@every_space
def test_space_names_and_kinds_are_those_of_the_family(family):
    trial = AtShare(0.5)
    params = RANKERS[family](trial)
    assert set(params) == set(trial.ranges)
    known = parameter_types(family)
    assert trial.kinds == {name: known[name] for name in params}


@every_space
def test_space_values_are_what_the_trial_suggests(family):
    trial = AtShare(0.5)
    fixed = RANKERS[family](trial)
    assert RANKERS[family](FixedTrial(fixed)) == fixed


@every_space
def test_space_value_out_of_range_is_reported_by_optuna(family):
    trial = AtShare(0.5)
    fixed = RANKERS[family](trial)
    name, (_, high) = next(iter(trial.ranges.items()))
    with pytest.warns(UserWarning, match="out of the range"):
        RANKERS[family](FixedTrial({**fixed, name: high * 2}))


@every_space
def test_space_untuned_setting_lies_within(family):
    trial = AtShare(0.5)
    RANKERS[family](trial)
    defaults = inspect.signature(FAMILIES[family]).parameters
    for name, (low, high) in trial.ranges.items():
        assert low <= defaults[name].default <= high, name


@every_space
def test_settings_of_are_the_untuned_values_under_the_names_of_the_study(family):
    defaults = vars(make_ranker(family))
    named = settings_of(RANKERS[family], defaults)
    assert named == {name: defaults[name] for name in RANKERS[family](AtShare(0.5))}
    assert RANKERS[family](FixedTrial(named)) == named


def test_given_value_out_of_range_becomes_the_nearest_border():
    given = Given({"C": 1e6})
    assert RANKERS["linear"](given) == given.asked == {"C": 10.0}


def test_scoped_names_begin_with_the_prefix():
    trial = AtShare(0.5)
    plain = RANKERS["linear"](Scoped(trial, "bases.fused."))
    assert set(trial.ranges) == {"bases.fused.C"} and set(plain) == {"C"}
