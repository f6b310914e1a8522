"""What every ranker does with its frames before training."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from features.frame import FloatArray, RankingFrame
from rankers.checks import check_labels, check_scorable, check_trainable, has_contrast

logger = logging.getLogger(__name__)


def prepare(train: RankingFrame, valid: RankingFrame | None) -> tuple[RankingFrame, RankingFrame | None]:
    """Check both frames and put their rows in canonical order, with query weights of mean 1.

    Queries of `valid` whose labels are all equal say nothing about when to stop and are left out; if no
    query remains there is no early stopping, and a warning says so.

    Raises
    ------
    DataError
        If `train` is not trainable, or `valid` has bad labels or other features.
    """
    check_trainable(train)
    if valid is None:
        return canonical(train), None
    check_scorable(valid, train.feature_names)
    check_labels(valid)
    telling = valid.take_queries(np.flatnonzero(has_contrast(valid)))
    if telling.n_queries == 0:
        logger.warning("no validation query holds two different labels: training runs without early stopping")
        return canonical(train), None
    return canonical(train), canonical(telling)


def canonical(frame: RankingFrame) -> RankingFrame:
    """Sort queries by code and their rows by item code, and scale the query weights to a mean of 1.

    The libraries sum in row order and sample by row number, so only a canonical order makes a model
    independent of the order in which the rows came.
    """
    rows = np.lexsort((frame.items, frame.queries))
    order = np.argsort(frame.queries[frame.offsets[:-1]])
    return replace(
        frame,
        features=np.ascontiguousarray(frame.features[rows], dtype=np.float32),
        labels=frame.labels[rows],
        queries=frame.queries[rows],
        items=frame.items[rows],
        present=frame.present[rows],
        query_weights=_canonical_weights(frame),
        sequences=None if frame.sequences is None else frame.sequences.take(order),
    )


def _canonical_weights(frame: RankingFrame) -> FloatArray | None:
    if frame.query_weights is None:
        return None
    weights = frame.query_weights[np.argsort(frame.queries[frame.offsets[:-1]])].astype(np.float64)
    mean = weights.mean()
    return (weights / mean if mean > 0 else np.ones_like(weights)).astype(np.float32)
