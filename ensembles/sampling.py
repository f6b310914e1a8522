"""How a meta-learner's training queries are drawn, so that a rare modality is heard."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ensembles.score_frame import ScoreFrame
from features.errors import ConfigError
from features.frame import BoolArray, FloatArray, IntArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draw:
    """What a sampler drew from a frame.

    Attributes
    ----------
    queries
        (n_drawn,) int64 positions of queries, which may repeat.
    weights
        (n_drawn,) float32 of mean 1; the frame's own query weights multiply them.
    keep
        (n_rows,) bool mask of the frame's candidates that stay, or None for all of them.
    base_mask
        (rows drawn, n_bases) bool, true where the score is hidden, or None for nowhere; its rows are
        those of the frame after `keep` and `queries`.
    n_dropped
        Queries left out because they have no positive.
    """

    queries: IntArray
    weights: FloatArray
    keep: BoolArray | None = None
    base_mask: BoolArray | None = None
    n_dropped: int = 0


Sampler = Callable[[ScoreFrame, np.random.Generator], Draw]


def apply_draw(frame: ScoreFrame, draw: Draw) -> ScoreFrame:
    """Return the training frame that a draw describes."""
    kept = frame if draw.keep is None else frame.take_rows(draw.keep)
    weights = draw.weights
    if frame.query_weights is not None:
        weights = weights * frame.query_weights[draw.queries]
    drawn = kept.take_queries(draw.queries, weights)
    if draw.base_mask is None:
        return drawn
    return replace(drawn, scores=np.where(draw.base_mask, np.nan, drawn.scores))


def natural(frame: ScoreFrame, generator: np.random.Generator) -> Draw:
    """Draw every query that has a positive once, with all its candidates."""
    queries, n_dropped = _trainable_queries(frame)
    return Draw(queries=queries, weights=np.ones(len(queries), dtype=np.float32), n_dropped=n_dropped)


def pattern_balanced(
    tau: float = 0.5, clip: float = 5.0, beta: float = 0.7, floor: int = 20, min_kept: float = 0.25
) -> Sampler:
    """Return the sampler that balances availability patterns among positives and matches the negatives.

    A query's pattern p is the availability of its highest-labelled candidate (a random one of several).
    With n_p = max(number of queries, `floor`) and pi_p proportional to n_p ** tau, a query is expected
    clip(N pi_p / n_p, 1 / clip, clip) times, rescaled so that as many queries are drawn as there are.
    Copies are allotted by systematic resampling (Kitagawa, J. Comput. Graph. Stat. 1996): each query gets
    its expected number rounded up or down, so that `tau` = 1 draws each exactly once.

    Negatives are thinned until pattern p has the share beta P(p | positive) + (1 - beta) P(p | catalogue)
    among them. Otherwise the availability bits of the resampled positives would give the label away.
    Positives are those of the draw; the frame's candidates stand for the catalogue.

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
    _check_range("tau", tau, 0.0, 1.0)
    _check_range("clip", clip, 1.0, np.inf)
    _check_range("beta", beta, 0.0, 1.0)
    _check_range("floor", floor, 1, np.inf)
    _check_range("min_kept", min_kept, 0.0, 1.0)

    def draw(frame: ScoreFrame, generator: np.random.Generator) -> Draw:
        queries, n_dropped = _trainable_queries(frame)
        patterns = availability_patterns(frame.present)
        strata = _query_patterns(frame, patterns, queries, generator)
        drawn = queries[_systematic(_expected_copies(strata, tau, clip, floor), strata, generator)]
        keep = _matched_negatives(frame, patterns, drawn, beta, min_kept, generator)
        return Draw(drawn, np.ones(len(drawn), dtype=np.float32), keep=keep, n_dropped=n_dropped)

    return draw


_FACTORIES: Mapping[str, Callable[..., Sampler]] = {
    "natural": lambda: natural,
    "pattern_balanced": pattern_balanced,
}


def make_sampler(name: str, params: Mapping[str, object] | None = None) -> Sampler:
    """Return the sampler of this name; raises ConfigError for an unknown name or parameter."""
    if name not in _FACTORIES:
        raise ConfigError(
            f"got sampler {name!r}, expected one of {', '.join(_FACTORIES)}", fix="correct the sampler's name"
        )
    allowed = list(inspect.signature(_FACTORIES[name]).parameters)
    unknown = sorted(set(params or {}) - set(allowed))
    if unknown:
        raise ConfigError(
            f"sampler {name}: got parameter {unknown[0]!r}, expected {', '.join(allowed) or 'none'}",
            fix="remove or rename the parameter",
        )
    return _FACTORIES[name](**(params or {}))


def availability_patterns(present: BoolArray) -> IntArray:
    """Return the (n_rows,) availability pattern of each row: bit m is set where modality m is present."""
    return present.astype(np.int64) @ (1 << np.arange(present.shape[1], dtype=np.int64))


def _check_range(name: str, value: float, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise ConfigError(
            f"pattern_balanced: got {name}={value!r}, expected a number from {low} to {high}",
            fix=f"set {name} within its range",
        )


def _trainable_queries(frame: ScoreFrame) -> tuple[IntArray, int]:
    """Return the positions of the queries that have a positive, and how many have none."""
    positives = np.concatenate([[0], np.cumsum(frame.labels > 0)])[frame.offsets]
    queries = np.flatnonzero(np.diff(positives) > 0)
    n_dropped = frame.n_queries - len(queries)
    if n_dropped:
        logger.info("left out %d of %d queries: they have no positive", n_dropped, frame.n_queries)
    return queries, n_dropped


def _query_patterns(
    frame: ScoreFrame, patterns: IntArray, queries: IntArray, generator: np.random.Generator
) -> IntArray:
    """Return the pattern of the highest-labelled row of each query, of a random one among equals."""
    order = np.lexsort(
        (
            generator.random(len(patterns)),
            frame.labels,
            np.repeat(np.arange(frame.n_queries), frame.group_sizes),
        )
    )
    return patterns[order[frame.offsets[1:][queries] - 1]]


def _expected_copies(patterns: IntArray, tau: float, clip: float, floor: int) -> NDArray[np.float64]:
    """Return how often each query should be drawn; the sum is the number of queries."""
    if len(patterns) == 0:
        return np.zeros(0)
    _, code, count = np.unique(patterns, return_inverse=True, return_counts=True)
    floored = np.maximum(count, floor).astype(np.float64)
    target = floored**tau / (floored**tau).sum()
    expected = np.clip(len(patterns) * target / floored, 1.0 / clip, clip)[code]
    rescaled: NDArray[np.float64] = expected * (len(expected) / expected.sum())
    return rescaled


def _systematic(expected: NDArray[np.float64], strata: IntArray, generator: np.random.Generator) -> IntArray:
    """Return positions, each repeated its expected number of times rounded up or down; as many as given.

    Pointers are equally spaced over the queries, sorted by stratum and at random within: so every stratum
    too gets its expected number to within one, and file order has no say.
    """
    n = len(expected)
    order = np.lexsort((generator.random(n), strata))
    pointers = np.arange(n) + generator.uniform(0.0, 1.0)
    reached = np.searchsorted(np.cumsum(expected[order]), pointers, side="right")
    return np.sort(order[np.minimum(reached, n - 1)]) if n else order


def _matched_negatives(
    frame: ScoreFrame,
    patterns: IntArray,
    drawn: IntArray,
    beta: float,
    min_kept: float,
    generator: np.random.Generator,
) -> BoolArray:
    """Return the (n_rows,) mask of all positives and the thinned negatives, at least one a query."""
    copies = np.repeat(np.bincount(drawn, minlength=frame.n_queries), frame.group_sizes)
    positive = frame.labels > 0
    values, code = np.unique(patterns, return_inverse=True)
    among_positives = _shares(code, copies * positive, len(values))
    among_negatives = _shares(code, copies * ~positive, len(values))
    catalogue = _shares(code, np.ones(len(code)), len(values))
    target = beta * among_positives + (1.0 - beta) * catalogue
    lottery = generator.random(len(code))
    rate = _keep_rates(target, among_negatives, min_kept)[code]
    keep = positive | (lottery < rate)
    # the negative nearest to being kept stays, so that no query is left with positives alone
    nearest = np.where(positive, np.inf, lottery - rate)
    first = np.lexsort((nearest, np.repeat(np.arange(frame.n_queries), frame.group_sizes)))
    rows = first[frame.offsets[:-1][frame.group_sizes > 0]]
    keep[rows] = True
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
