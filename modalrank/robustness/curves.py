"""Quality while more and more vectors of a modality are gone, with intervals over queries and seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from ensembles.gate import Interval
from features.frame import BoolArray
from features.removal import MODES, Mode, gone_from, removal_order
from modalrank.evaluation import Values
from modalrank.robustness.bench import Bench
from modalrank.robustness.contestants import BEHAVIOUR_ONLY, Contestants
from modalrank.robustness.draws import Draws
from modalrank.robustness.parts import parts_ndcg

RATES = tuple(step / 10 for step in range(10))
TOGETHER = "all content"
# The rate at which losses of slices are kept query by query.
HALF = 0.5
METRICS = {"ndcg": "NDCG", "recall": "recall"}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes
    ----------
    k
        Cutoff of both metrics.
    seeds
        Number of removals that are drawn at each rate.
    n_draws, seed
        Bootstrap draws, and the seed of these and of the first removal.
    """

    k: int
    seeds: int = 3
    rates: tuple[float, ...] = RATES
    modes: tuple[Mode, ...] = MODES
    n_draws: int = 2000
    seed: int = 0


class Curve(NamedTuple):
    """What is removed, and how."""

    removed: str
    mode: Mode


class Measured(NamedTuple):
    """The values of one contestant.

    Attributes
    ----------
    ndcg, recall
        (n_queries,) of the whole list.
    slices
        (n_slices, n_queries) NDCG of the positives of each slice, NaN where a query has none.
    """

    ndcg: Values
    recall: Values
    slices: Values


@dataclass(frozen=True)
class Robustness:
    """What was found; intervals are at 95%, over queries and seeds.

    Attributes
    ----------
    curves
        A row for everything removed (`removed`, `mode`, `rate`) and contestant (`name`): both metrics.
    differences
        The same of the paired difference of each ensemble to behaviour only; empty where that is absent.
    areas
        A row a curve and contestant: the mean height of the curves of both metrics.
    slices
        A row for everything removed, contestant and slice: NDCG, `n` queries, the paired `loss` since
        nothing was removed, and whether it is the `worst` of the contestant there.
    half
        (curve, contestant, slice) to the (n_seeds, n_queries) paired losses at the rate HALF.
    """

    plan: Plan
    roles: Mapping[str, str]
    ensembles: tuple[str, ...]
    curves: pl.DataFrame
    differences: pl.DataFrame
    areas: pl.DataFrame
    slices: pl.DataFrame
    half: Mapping[tuple[Curve, str, str], Values]
    draws: Draws = field(repr=False)
    n_queries: int
    seconds: float


def measure(bench: Bench, contestants: Contestants, plan: Plan, say: Say) -> Robustness:
    """Remove vectors of every content modality, and of all together, step by step, and look what is lost.

    Every list is made and scored once for everything removed, for all contestants; what two seeds remove
    alike is measured once.
    """
    started = time.perf_counter()
    meter = _Meter(bench, contestants, plan.k)
    say(f"score {len(bench.truth.every_query)} queries with everything there")
    intact = meter.measured({})
    n_queries = len(bench.truth.every_query)
    draws = Draws(n_queries, plan.seeds, plan.n_draws, plan.seed)
    tables = _Tables(plan, tuple(bench.parts), tuple(contestants.metas), intact, draws)
    clock = _Clock(say, len(_groups(bench)) * len(plan.modes) * len(plan.rates[1:]) * plan.seeds)
    for removed, names in _groups(bench).items():
        presence = {name: bench.presence[name] for name in names}
        for mode in plan.modes:
            curve = Curve(removed, mode)
            steps = _steps(bench, presence, curve, plan, meter, clock)
            tables.add(curve, [[intact], *steps])
    return tables.result(contestants.roles, n_queries, time.perf_counter() - started)


def _groups(bench: Bench) -> dict[str, tuple[str, ...]]:
    """Return what is removed together, by name."""
    names = tuple(name for name, present in bench.presence.items() if present.any())
    groups = {name: (name,) for name in names}
    return groups | ({TOGETHER: names} if len(names) > 1 else {})


def _steps(
    bench: Bench, presence: Mapping[str, BoolArray], curve: Curve, plan: Plan, meter: _Meter, clock: _Clock
) -> Iterator[list[dict[str, Measured]]]:
    """Yield what every seed finds, one rate above 0 after the other."""
    orders = [removal_order(bench.popularity, curve.mode, plan.seed + number) for number in range(plan.seeds)]
    for rate in plan.rates[1:]:
        known: dict[bytes, dict[str, Measured]] = {}
        found = []
        for number, order in enumerate(orders):
            clock.tick(f"{curve.removed} {curve.mode} {rate:.0%} removed, seed {number + 1}")
            gone = gone_from(presence, order, rate)
            key = b"".join(np.packbits(mask).tobytes() for mask in gone.values())
            if key not in known:
                known[key] = meter.measured(gone)
            found.append(known[key])
        yield found


@dataclass(frozen=True)
class _Meter:
    """Scores the lists and measures everybody."""

    bench: Bench
    contestants: Contestants
    k: int

    def measured(self, gone: Mapping[str, BoolArray]) -> dict[str, Measured]:
        parts: dict[str, list[Values]] = {name: [] for name in self.contestants.names}
        for frame in self.bench.frames(gone):
            for name, scores in self.contestants.scores(frame).items():
                parts[name].append(scores)
        return {name: self._values(np.concatenate(scores)) for name, scores in parts.items()}

    def _values(self, scores: Values) -> Measured:
        truth = self.bench.truth
        rows = parts_ndcg(truth.frame, scores, self.bench.parts.values(), self.k)
        slices = np.stack(rows) if rows else np.zeros((0, len(truth.every_query)))
        return Measured(truth.ndcg(scores, self.k), truth.recall(scores, self.k), slices)


class _Clock:
    """Says how far it is and how long it will take."""

    def __init__(self, say: Say, total: int) -> None:
        self.say, self.total, self.done, self.start = say, total, 0, time.perf_counter()

    def tick(self, what: str) -> None:
        left = ""
        if self.done:
            minutes = (time.perf_counter() - self.start) / self.done * (self.total - self.done) / 60
            left = f", about {minutes:.0f} min left"
        self.done += 1
        self.say(f"{self.done} of {self.total}: {what}{left}")


class _Tables:
    """Collects the rows of a result, one curve after the other."""

    def __init__(
        self,
        plan: Plan,
        slices: Sequence[str],
        ensembles: tuple[str, ...],
        intact: Mapping[str, Measured],
        draws: Draws,
    ) -> None:
        self.plan, self.slices, self.ensembles, self.intact = plan, slices, ensembles, intact
        self.draws = draws
        self.rows: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("curves", "differences", "areas", "slices")
        }
        self.half: dict[tuple[Curve, str, str], Values] = {}

    def add(self, curve: Curve, steps: Sequence[list[dict[str, Measured]]]) -> None:
        """Add what was found at every rate by every seed."""
        for name in self.intact:
            stacked = []
            for rate, found in zip(self.plan.rates, steps, strict=True):
                here = [each[name] for each in found]
                place = {"removed": curve.removed, "mode": curve.mode, "rate": rate, "name": name}
                values = {metric: np.stack([getattr(each, metric) for each in here]) for metric in METRICS}
                stacked.append(values)
                self.rows["curves"].append(place | self._intervals(values))
                self._add_slices(place, curve, np.stack([each.slices for each in here]))
                if name in self.ensembles and BEHAVIOUR_ONLY in self.intact:
                    other = [each[BEHAVIOUR_ONLY] for each in found]
                    gaps = {m: v - np.stack([getattr(o, m) for o in other]) for m, v in values.items()}
                    self.rows["differences"].append(place | self._intervals(gaps))
            place = {"removed": curve.removed, "mode": curve.mode, "name": name}
            heights = {metric: self._height([each[metric] for each in stacked]) for metric in METRICS}
            self.rows["areas"].append(place | self._intervals(heights))

    def result(self, roles: Mapping[str, str], n_queries: int, seconds: float) -> Robustness:
        """Return everything that was added."""
        tables = {name: pl.DataFrame(rows) for name, rows in self.rows.items()}
        return Robustness(
            self.plan,
            roles,
            self.ensembles,
            **tables,
            half=self.half,
            draws=self.draws,
            n_queries=n_queries,
            seconds=seconds,
        )

    def _intervals(self, values: Mapping[str, Values]) -> dict[str, float]:
        row: dict[str, float] = {}
        for metric, each in values.items():
            row |= columns_of(metric, self.draws.interval(each))
        return row

    def _height(self, steps: Sequence[Values]) -> Values:
        """(n_seeds, n_queries) area under each curve over the span of the rates, by the trapezoidal rule."""
        rates = np.array(self.plan.rates)
        full = np.stack([np.broadcast_to(step, (self.plan.seeds, step.shape[1])) for step in steps])
        height: Values = np.trapezoid(full, rates, axis=0) / np.ptp(rates)
        return height

    def _add_slices(self, place: dict[str, Any], curve: Curve, values: Values) -> None:
        rows = []
        name = place["name"]
        for number, part in enumerate(self.slices):
            loss = self.intact[name].slices[number] - values[:, number]
            found = self.draws.interval(values[:, number])
            lost = columns_of("loss", self.draws.interval(loss))
            rows.append(place | {"slice": part} | columns_of("ndcg", found) | lost | {"n": found.n})
            if np.isclose(place["rate"], HALF):
                self.half[curve, name, part] = loss
        lowest = min((row["ndcg"] for row in rows), default=None)
        self.rows["slices"] += [row | {"worst": row["ndcg"] == lowest} for row in rows]


def columns_of(name: str, interval: Interval) -> dict[str, float]:
    """Return an interval as columns of a table."""
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
