"""Intervals over queries and over the seeds of what was removed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembles.gate import Interval

LEVEL = 0.95


class Draws:
    """Bootstrap draws of queries and of seeds, the same for everything that is measured.

    Queries and seeds are drawn independently of each other, and a mean is over the drawn seeds of the drawn
    queries: the pigeonhole bootstrap of two crossed factors (Owen, Annals of Applied Statistics 2007).
    """

    def __init__(self, n_queries: int, n_seeds: int, n_draws: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        even = np.full(n_queries, 1.0 / max(n_queries, 1))
        self._queries = generator.multinomial(n_queries, even, n_draws).astype(np.float32)
        self._seeds = generator.multinomial(n_seeds, np.full(n_seeds, 1.0 / n_seeds), n_draws) / n_seeds

    def interval(self, values: NDArray[np.float64]) -> Interval:
        """Return the mean and its 95% percentile interval.

        Parameters
        ----------
        values
            (n_seeds, n_queries), NaN where a query has no value, whatever the seed. One row stands for what
            does not depend on the seed.
        """
        counted = ~np.isnan(values).any(axis=0)
        n = int(counted.sum())
        if n < 2:
            mean = float(values[:, counted].mean()) if n else float("nan")
            return Interval(mean, float("nan"), float("nan"), n)
        drawn = self._queries if counted.all() else self._queries[:, counted]
        size = drawn.sum(axis=1)
        sums = drawn @ values[:, counted].T.astype(np.float32)
        weights = self._seeds if len(values) > 1 else 1.0
        means = (sums * weights).sum(axis=1)[size > 0] / size[size > 0]
        low, high = np.quantile(means, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
        return Interval(float(values[:, counted].mean()), float(low), float(high), n)
