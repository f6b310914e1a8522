"""What a sampler draws, and the few things that all samplers need."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensembles.score_frame import ScoreFrame
from features.errors import ConfigError
from features.frame import BoolArray, FloatArray, IntArray, rows_of_queries

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draw:
    """What a sampler drew from a frame.

    Its drawn rows are those of the drawn queries, one query after the other, with all their candidates.

    Attributes
    ----------
    queries
        (n_drawn,) int64 positions of queries, which may repeat.
    weights
        (n_drawn,) float32 of mean 1; the frame's own query weights multiply them.
    keep
        (n_drawn_rows,) bool mask of the drawn rows to learn from, or None for all of them.
    hidden
        (n_drawn_rows, n_modalities) bool, true where a modality is hidden, or None for nowhere.
    n_dropped
        Queries left out because they have no positive.
    """

    queries: IntArray
    weights: FloatArray
    keep: BoolArray | None = None
    hidden: BoolArray | None = None
    n_dropped: int = 0

    @classmethod
    def unweighted(
        cls,
        queries: IntArray,
        *,
        n_dropped: int,
        keep: BoolArray | None = None,
        hidden: BoolArray | None = None,
    ) -> Draw:
        """Return a draw in which every query weighs the same."""
        return cls(queries, np.ones(len(queries), dtype=np.float32), keep, hidden, n_dropped)


Sampler = Callable[[ScoreFrame, np.random.Generator], Draw]


class Trainable(NamedTuple):
    """Queries that have a positive: their positions, and how many have none."""

    queries: IntArray
    n_dropped: int


def apply_draw(frame: ScoreFrame, draw: Draw) -> ScoreFrame:
    """Return the training frame that a draw describes.

    Where a modality is hidden the per-query views of the scores are made anew; where rows are left out
    the others keep the views that they have in the whole list, as they will at scoring.
    """
    weights = draw.weights
    if frame.query_weights is not None:
        weights = weights * frame.query_weights[draw.queries]
    drawn = frame.take_queries(draw.queries, weights)
    if draw.hidden is not None:
        drawn = drawn.hide(draw.hidden)
    return drawn if draw.keep is None else drawn.thinned(draw.keep)


def drawn_rows(frame: ScoreFrame, queries: IntArray) -> IntArray:
    """Return the (n_drawn_rows,) rows of the frame that are the rows of these queries."""
    return rows_of_queries(frame.offsets, queries)


def trainable(frame: ScoreFrame) -> Trainable:
    """Return the positions of the queries that have a positive, and how many have none."""
    positives = np.concatenate([[0], np.cumsum(frame.labels > 0)])[frame.offsets]
    queries = np.flatnonzero(np.diff(positives) > 0)
    n_dropped = frame.n_queries - len(queries)
    if n_dropped:
        logger.info("left out %d of %d queries: they have no positive", n_dropped, frame.n_queries)
    return Trainable(queries, n_dropped)


def best_positives(frame: ScoreFrame, queries: IntArray, generator: np.random.Generator) -> IntArray:
    """Return the row of the highest label of each of these queries, a random one among equals."""
    owner = np.repeat(np.arange(frame.n_queries), frame.group_sizes)
    order = np.lexsort((generator.random(len(owner)), frame.labels, owner))
    rows: IntArray = order[frame.offsets[1:][queries] - 1]
    return rows


def availability_patterns(present: BoolArray) -> IntArray:
    """Return the (n_rows,) availability pattern of each row: bit m is set where modality m is present."""
    return present.astype(np.int64) @ (1 << np.arange(present.shape[1], dtype=np.int64))


def systematic(
    expected: NDArray[np.float64],
    strata: IntArray,
    rows: NDArray[np.number],
    budget: float,
    generator: np.random.Generator,
) -> IntArray:
    """Return positions, each repeated its expected number of times rounded up or down.

    Systematic resampling (Kitagawa, J. Comput. Graph. Stat. 1996): pointers are equally spaced over the
    queries, sorted by stratum and at random within, so that every stratum gets its expected number to
    within one, and file order has no say.

    Parameters
    ----------
    expected
        (n,) how often each is drawn, up to a common factor.
    strata
        (n,) what is kept in proportion.
    rows, budget
        (n,) training rows that one copy of each brings, and how many rows all copies may bring together:
        the common factor is the one that meets it.
    """
    brought = float(expected @ rows)
    if brought <= 0:
        return np.zeros(0, dtype=np.int64)
    scaled = expected * (budget / brought)
    n_drawn = max(1, round(float(scaled.sum())))
    order = np.lexsort((generator.random(len(scaled)), strata))
    cumulated = np.cumsum(scaled[order])
    pointers = (np.arange(n_drawn) + generator.uniform(0.0, 1.0)) * (cumulated[-1] / n_drawn)
    reached = np.searchsorted(cumulated, pointers, side="right")
    return np.sort(order[np.minimum(reached, len(order) - 1)])


def spare_last_sources(frame: ScoreFrame, hidden: BoolArray, generator: np.random.Generator) -> BoolArray:
    """Return a mask of what to hide that leaves every candidate a source that had one.

    A candidate of which every modality would be hidden keeps a random one; if no base would have an
    opinion on it even so, though one had, it keeps all.
    """
    spared: BoolArray = hidden & frame.present
    bare = np.flatnonzero(frame.present.any(axis=1) & (spared == frame.present).all(axis=1))
    lot = np.where(frame.present[bare], generator.random((len(bare), frame.present.shape[1])), -1.0)
    if len(bare):
        spared[bare, lot.argmax(axis=1)] = False
    had = ~np.isnan(frame.scores).all(axis=1)
    silent = np.isnan(frame.hide(spared).scores).all(axis=1)
    spared[had & silent] = False
    return spared


def check_range(sampler: str, name: str, value: float, low: float, high: float) -> None:
    """Refuse a parameter that is no number from `low` to `high`; raises ConfigError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise ConfigError(
            f"{sampler}: got {name}={value!r}, expected a number from {low} to {high}",
            fix=f"set {name} within its range",
        )
