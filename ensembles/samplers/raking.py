"""Raking: queries weighted until several kinds of queries have their target shares at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembles.samplers.draw import (
    Draw,
    Sampler,
    availability_patterns,
    best_positives,
    check_range,
    systematic,
    trainable,
)
from ensembles.score_frame import ACTIVITY, POPULARITY, ScoreFrame
from features.frame import FloatArray, IntArray

ROUNDS = 50
BANDS = 4


def raking(tau: float = 0.5, clip: float = 5.0, per_user: float = 3.0) -> Sampler:
    """Return the sampler that balances the user's activity, the positive's popularity and its pattern.

    Iterative proportional fitting (Deming and Stephan, Ann. Math. Stat. 1940): weights are scaled to the
    target shares of one margin after the other, in turn. Activity and popularity are cut into quarters of
    the queries as they differ; a margin's target shares are proportional to n ** tau. A frame that does
    not know one of them is balanced by the others.

    Parameters
    ----------
    tau
        1 keeps the natural shares, 0 makes them equal.
    clip
        No query is expected more than `clip` or less than 1 / `clip` times.
    per_user
        No user's queries are expected more than this many times the average number of a user's.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """
    check_range("raking", "tau", tau, 0.0, 1.0)
    check_range("raking", "clip", clip, 1.0, np.inf)
    check_range("raking", "per_user", per_user, 1.0, np.inf)

    def draw(frame: ScoreFrame, generator: np.random.Generator) -> Draw:
        queries, n_dropped = trainable(frame)
        positives = best_positives(frame, queries, generator)
        margins = [availability_patterns(frame.present)[positives]]
        margins += [_bands(facts) for facts in _facts(frame, positives)]
        users = queries if frame.users is None else frame.users[queries]
        expected = _raked(margins, tau)
        expected = np.clip(expected * (len(expected) / max(expected.sum(), 1e-300)), 1.0 / clip, clip)
        expected = _capped(expected, users, per_user)
        sizes = frame.group_sizes[queries]
        drawn = systematic(expected, margins[0], sizes, float(sizes.sum()), generator)
        return Draw.unweighted(queries[drawn], n_dropped=n_dropped)

    return draw


def _facts(frame: ScoreFrame, rows: IntArray) -> list[FloatArray]:
    known = [name for name in (ACTIVITY, POPULARITY) if name in frame.context_names]
    return [frame.context[rows, frame.context_names.index(name)] for name in known]


def _bands(values: FloatArray) -> IntArray:
    """Return the (n,) band of each value, in quarters; equal values share a band."""
    borders = np.unique(np.quantile(values, np.arange(1, BANDS) / BANDS)) if len(values) else np.zeros(0)
    return np.searchsorted(borders, values, side="right").astype(np.int64)


def _raked(margins: list[IntArray], tau: float) -> NDArray[np.float64]:
    """Return (n,) weights of which every margin has nearly its target shares."""
    weights = np.ones(len(margins[0]))
    coded = [np.unique(margin, return_inverse=True, return_counts=True)[1:] for margin in margins]
    for _ in range(ROUNDS):
        for code, count in coded:
            target = count**tau / max((count**tau).sum(), 1.0)
            share = np.bincount(code, weights, minlength=len(count)) / max(float(weights.sum()), 1e-300)
            weights = weights * (target / share)[code]
    return weights


def _capped(expected: NDArray[np.float64], users: IntArray, per_user: float) -> NDArray[np.float64]:
    """Scale down the queries of users who would be drawn too often."""
    _, code = np.unique(users, return_inverse=True)
    total = np.bincount(code, expected)
    most = per_user * total.mean() if len(total) else 0.0
    capped: NDArray[np.float64] = expected * np.minimum(1.0, most / np.maximum(total, 1e-300))[code]
    return capped
