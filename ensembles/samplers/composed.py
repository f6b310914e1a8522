"""Samplers one after the other."""

from __future__ import annotations

from functools import reduce

import numpy as np

from ensembles.samplers.draw import Draw, Sampler, apply_draw
from ensembles.score_frame import ScoreFrame
from features.frame import rows_of_queries


def compose(*samplers: Sampler) -> Sampler:
    """Return the sampler of which each draws from what the one before it drew."""
    return reduce(_after, samplers)


def _after(first: Sampler, second: Sampler) -> Sampler:
    def draw(frame: ScoreFrame, generator: np.random.Generator) -> Draw:
        one = first(frame, generator)
        two = second(apply_draw(frame, one), generator)
        return _joined(frame, one, two)

    return draw


def _joined(frame: ScoreFrame, one: Draw, two: Draw) -> Draw:
    """Return the draw from the frame that is the second draw from what the first drew."""
    sizes = frame.group_sizes[one.queries]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    rows = rows_of_queries(offsets, two.queries)
    keep = np.ones(len(rows), dtype=bool) if one.keep is None else one.keep[rows]
    hidden = np.zeros((len(rows), len(frame.modalities)), dtype=bool)
    if one.hidden is not None:
        hidden |= one.hidden[rows]
    if two.hidden is not None:
        hidden[keep] |= two.hidden
    if two.keep is not None:
        keep[keep] &= two.keep
    weights = one.weights[two.queries] * two.weights
    return Draw(
        queries=one.queries[two.queries],
        weights=(weights / max(float(weights.mean()), 1e-12)).astype(np.float32) if len(weights) else weights,
        keep=keep,
        hidden=hidden,
        n_dropped=one.n_dropped + two.n_dropped,
    )
