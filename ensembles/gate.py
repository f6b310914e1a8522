"""How far up the ladder to go: paired bootstrap over held-out queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# the bootstrap holds this many drawn values at a time, 32 MB with their positions
_CHUNK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A mean over `n` queries and its percentile bootstrap interval; NaN where there is too little data."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Step:
    """One comparison on the way up the ladder.

    Attributes
    ----------
    name, mean
        The candidate and its mean over its own queries.
    against
        The candidate that was chosen until then.
    difference
        Paired difference of `name` minus `against`.
    accepted
        The candidate became the chosen one.
    """

    name: str
    mean: float
    against: str
    difference: Interval
    accepted: bool


def bootstrap_mean(
    values: NDArray[np.float64], n_draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Return the mean of (n_queries,) values and its percentile interval (Efron & Tibshirani, 1993, ch. 13).

    NaN values are left out. Without a value everything is NaN, and with one the bounds are.
    """
    counted = values[~np.isnan(values)]
    n = len(counted)
    if n < 2:
        return Interval(float(counted[0]) if n else float("nan"), float("nan"), float("nan"), n)
    generator = np.random.default_rng(seed)
    means = np.empty(n_draws)
    step = max(1, _CHUNK // n)
    for start in range(0, n_draws, step):
        stop = min(start + step, n_draws)
        means[start:stop] = counted[generator.integers(0, n, (stop - start, n))].mean(axis=1)
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(counted.mean()), float(low), float(high), n)


def paired_bootstrap(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    n_draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Return the mean of a - b over queries and its interval; queries where either is NaN are left out.

    Parameters
    ----------
    a, b
        (n_queries,) values of the same queries in the same order.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    if len(a) != len(b):
        raise ValueError(f"got {len(a)} and {len(b)} values, expected those of the same queries")
    return bootstrap_mean(a - b, n_draws, seed, level)


def climb(
    candidates: Sequence[tuple[str, NDArray[np.float64]]],
    *,
    n_draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    min_queries: int = 20,
) -> tuple[str, list[Step]]:
    """Choose among candidates, simplest first, by their (n_queries,) values on held-out queries.

    The first is chosen to begin with. Each of the others takes the place of the chosen one if the lower bound
    of the paired difference to it is above 0, or if it is better on average and the lower bound of its
    difference to the first is above 0: of two that are surely better than the first, the mean decides, or the
    one that happens to be tried earlier would keep out the better one. One candidate that is no better than
    the first is accepted in (1 - level) / 2 of the cases, so m of them in at most m times that. Below
    `min_queries` paired values nothing is accepted, because the bootstrap's bounds are too narrow there.

    Returns
    -------
    chosen, steps
        The name, and one step for every candidate after the first.

    Raises
    ------
    ValueError
        If there is no candidate.
    """
    if not candidates:
        raise ValueError("got no candidate, expected at least one")
    chosen, best = candidates[0]
    first = best
    steps = []

    def is_sure(difference: Interval) -> bool:
        return difference.n >= min_queries and difference.low > 0.0

    for name, values in candidates[1:]:
        difference = paired_bootstrap(values, best, n_draws, seed, level)
        accepted = is_sure(difference) or (
            difference.mean > 0.0 and is_sure(paired_bootstrap(values, first, n_draws, seed, level))
        )
        steps.append(Step(name, _mean(values), chosen, difference, accepted))
        if accepted:
            chosen, best = name, values
    return chosen, steps


def tied(
    candidates: Sequence[tuple[str, NDArray[np.float64]]],
    chosen: str,
    *,
    n_draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    min_queries: int = 20,
) -> list[str]:
    """Return what `climb` chose and what cannot be told apart from it, in the order of the candidates.

    These are the others that are better than the first on average, and not surely below the chosen one. Below
    `min_queries` paired values there are none.
    """
    values, (_, first) = dict(candidates), candidates[0]

    def is_tied(each: NDArray[np.float64]) -> bool:
        difference = paired_bootstrap(each, values[chosen], n_draws, seed, level)
        return difference.n >= min_queries and difference.high >= 0.0 and bool(np.nanmean(each - first) > 0.0)

    return [name for name, each in candidates if name == chosen or is_tied(each)]


def _mean(values: NDArray[np.float64]) -> float:
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if len(counted) else float("nan")
