"""Modality dropout on scores: what a candidate would look like with less known about it."""

from __future__ import annotations

import numpy as np

from ensembles.samplers.draw import (
    Draw,
    Sampler,
    apply_draw,
    check_range,
    spare_last_sources,
    trainable,
)
from ensembles.score_frame import ScoreFrame
from features.frame import BoolArray, IntArray


def modality_dropout(rate: float = 0.3, copies: float = 1.0) -> Sampler:
    """Return the sampler that hides each modality with probability `rate` in some of the queries.

    After Neverova et al. (ModDrop, IEEE TPAMI 2016), on out-of-fold scores: of every 1 + `copies` queries
    `copies` have modalities hidden, in half of these the same ones for all candidates (a source that is
    down) and in the other half candidate by candidate (an item that lacks them). The scores of all bases
    that read a hidden modality are gone and per-query views are made anew. Behaviour is a modality too: an
    item without it is a new one. No candidate loses its last source.

    Parameters
    ----------
    rate
        Probability with which each modality is hidden.
    copies
        Queries with hidden modalities for one without.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """
    check_range("modality_dropout", "rate", rate, 0.0, 1.0)
    check_range("modality_dropout", "copies", copies, 0.0, 100.0)

    def draw(frame: ScoreFrame, generator: np.random.Generator) -> Draw:
        queries, n_dropped = trainable(frame)
        lot = generator.permutation(len(queries)) / max(len(queries), 1)
        masked = lot < copies / (1.0 + copies)
        whole = masked & (lot < 0.5 * copies / (1.0 + copies))
        seen = apply_draw(frame, Draw.unweighted(queries, n_dropped=n_dropped))
        hidden = _drawn_mask(seen, whole, masked & ~whole, rate, generator)
        return Draw.unweighted(
            queries, n_dropped=n_dropped, hidden=spare_last_sources(seen, hidden, generator)
        )

    return draw


def _drawn_mask(
    frame: ScoreFrame, by_query: BoolArray, by_item: BoolArray, rate: float, generator: np.random.Generator
) -> BoolArray:
    """Return the (n_rows, n_modalities) mask that is drawn once a query, or once a candidate."""
    n_modalities = len(frame.modalities)
    sizes: IntArray = frame.group_sizes
    of_query = np.repeat(generator.random((frame.n_queries, n_modalities)) < rate, sizes, axis=0)
    of_item = generator.random((len(frame.labels), n_modalities)) < rate
    mask: BoolArray = of_query & np.repeat(by_query, sizes)[:, None]
    mask |= of_item & np.repeat(by_item, sizes)[:, None]
    return mask
