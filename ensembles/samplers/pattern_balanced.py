"""Pattern-balanced resampling: a rare availability pattern is heard, and its bits give nothing away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembles.samplers.draw import (
    Draw,
    Sampler,
    availability_patterns,
    best_positives,
    check_range,
    drawn_rows,
    systematic,
    trainable,
)
from ensembles.score_frame import ScoreFrame
from features.frame import BoolArray, IntArray


def pattern_balanced(
    tau: float = 0.5, clip: float = 5.0, beta: float = 0.7, floor: int = 20, min_kept: float = 0.25
) -> Sampler:
    """Return the sampler that balances availability patterns among positives and matches the negatives.

    A query's pattern p is the availability of its highest-labelled candidate (a random one of several).
    With n_p = max(number of queries, `floor`) and pi_p proportional to n_p ** tau, a query is expected
    clip(N pi_p / n_p, 1 / clip, clip) times, rescaled so that there are as many rows to learn from as in all
    queries once. Each query gets its expected number of copies rounded up or down.

    Negatives are thinned until pattern p has the share beta P(p | positive) + (1 - beta) P(p | catalogue)
    among them. Otherwise the availability bits of the resampled positives would give the label away.
    Positives are those of the draw; the frame's candidates stand for the catalogue. Every copy of a query
    draws its own negatives.

    Parameters
    ----------
    tau
        1 keeps the natural shares of patterns, 0 makes them equal.
    clip
        Before rescaling no query is expected more than `clip` or less than 1 / `clip` times.
    beta
        How far the negatives follow the positives.
    floor
        Patterns with fewer queries are treated as having this many.
    min_kept
        Share of the negatives that stays even where the target shares ask for fewer.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """
    check_range("pattern_balanced", "tau", tau, 0.0, 1.0)
    check_range("pattern_balanced", "clip", clip, 1.0, np.inf)
    check_range("pattern_balanced", "beta", beta, 0.0, 1.0)
    check_range("pattern_balanced", "floor", floor, 1, np.inf)
    check_range("pattern_balanced", "min_kept", min_kept, 0.0, 1.0)

    def draw(frame: ScoreFrame, generator: np.random.Generator) -> Draw:
        queries, n_dropped = trainable(frame)
        patterns = availability_patterns(frame.present)
        strata = patterns[best_positives(frame, queries, generator)]
        expected = _expected_copies(strata, tau, clip, floor)
        chance = _chance_to_stay(frame, patterns, queries, expected, beta, min_kept)
        owner = np.repeat(np.arange(frame.n_queries), frame.group_sizes)
        rows = np.bincount(owner, chance, minlength=frame.n_queries)[queries]
        budget = float(frame.group_sizes[queries].sum())
        drawn = queries[systematic(expected, strata, rows, budget, generator)]
        keep = _lottery(frame, drawn, chance, generator)
        return Draw.unweighted(drawn, n_dropped=n_dropped, keep=keep)

    return draw


def _expected_copies(patterns: IntArray, tau: float, clip: float, floor: int) -> NDArray[np.float64]:
    """Return how often each query should be drawn, up to a common factor."""
    _, code, count = np.unique(patterns, return_inverse=True, return_counts=True)
    floored = np.maximum(count, floor).astype(np.float64)
    target = floored**tau / max((floored**tau).sum(), 1.0)
    expected: NDArray[np.float64] = np.clip(len(patterns) * target / floored, 1.0 / clip, clip)[code]
    return expected


def _chance_to_stay(
    frame: ScoreFrame,
    patterns: IntArray,
    queries: IntArray,
    expected: NDArray[np.float64],
    beta: float,
    min_kept: float,
) -> NDArray[np.float64]:
    """Return the (n_rows,) probability with which a row of a drawn query is learned from: 1 for positives."""
    copies = np.zeros(frame.n_queries)
    copies[queries] = expected
    weights = np.repeat(copies, frame.group_sizes)
    positive = frame.labels > 0
    values, code = np.unique(patterns, return_inverse=True)
    among_positives = _shares(code, weights * positive, len(values))
    among_negatives = _shares(code, weights * ~positive, len(values))
    catalogue = _shares(code, np.ones(len(code)), len(values))
    target = beta * among_positives + (1.0 - beta) * catalogue
    rates = _keep_rates(target, among_negatives, min_kept)
    return np.where(positive, 1.0, rates[code])


def _lottery(
    frame: ScoreFrame, drawn: IntArray, chance: NDArray[np.float64], generator: np.random.Generator
) -> BoolArray:
    """Return the (n_drawn_rows,) mask of the rows that stay, at least one negative a query.

    Every copy of a query draws its own negatives. The one nearest to being kept stays, so that no query is
    left with positives alone.
    """
    rows = drawn_rows(frame, drawn)
    luck = chance[rows] - generator.random(len(rows))
    keep: BoolArray = (frame.labels[rows] > 0) | (luck > 0)
    sizes = frame.group_sizes[drawn]
    unlucky = np.where(frame.labels[rows] > 0, np.inf, -luck)
    order = np.lexsort((unlucky, np.repeat(np.arange(len(drawn)), sizes)))
    keep[order[np.cumsum(sizes) - sizes]] = True
    return keep


def _shares(code: IntArray, weights: NDArray[np.number], n_patterns: int) -> NDArray[np.float64]:
    total: NDArray[np.float64] = np.bincount(code, weights=weights, minlength=n_patterns).astype(np.float64)
    shares: NDArray[np.float64] = total / max(float(total.sum()), 1.0)
    return shares


def _keep_rates(
    target: NDArray[np.float64], natural_share: NDArray[np.float64], min_kept: float
) -> NDArray[np.float64]:
    """Return the probability of keeping a negative of each pattern.

    Rates are min(1, t target / natural share) for the smallest t that keeps the scarcest pattern whole;
    where this keeps less than `min_kept` of all negatives, t grows until it does (bisection).
    """
    ratio = np.divide(target, natural_share, out=np.zeros_like(target), where=natural_share > 0)
    if not ratio.any():
        return np.ones_like(ratio)

    def rates(factor: float) -> NDArray[np.float64]:
        capped: NDArray[np.float64] = np.minimum(1.0, factor * ratio)
        return capped

    low, high = 1.0 / ratio.max(), 1.0 / ratio[ratio > 0].min()
    if rates(low) @ natural_share >= min_kept:
        return rates(low)
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (low, middle) if rates(middle) @ natural_share >= min_kept else (middle, high)
    return rates(high)
