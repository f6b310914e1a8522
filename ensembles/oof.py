"""Out-of-fold scores: what each base says of queries that it has not learned from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ensembles.score_frame import ScoreFrame
from features.frame import FloatArray, IntArray, RankingFrame
from rankers.protocol import Ranker

logger = logging.getLogger(__name__)

STOPPING_SHARE = 0.15


@dataclass(frozen=True)
class Base:
    """A base model to be trained.

    Attributes
    ----------
    make
        Gives a fresh, unfitted ranker.
    modality
        The modality that it cannot do without, or None.
    """

    name: str
    make: Callable[[], Ranker]
    modality: str | None = None


def fit_base(base: Base, frame: RankingFrame, seed: int) -> Ranker:
    """Fit a base, stopping early on a random share of its own training queries.

    The queries that decide when to stop come out of the training part: stopping on the queries that are
    scored afterwards would leak their labels into the scores.
    """
    order = np.random.default_rng(seed).permutation(frame.n_queries)
    n_stopping = int(STOPPING_SHARE * frame.n_queries)
    stopping, training = np.sort(order[:n_stopping]), np.sort(order[n_stopping:])
    valid = frame.take_queries(stopping) if n_stopping else None
    return base.make().fit(frame.take_queries(training), valid)


def out_of_fold(
    bases: Sequence[Base],
    frame: RankingFrame,
    folds: IntArray,
    *,
    scheme: Literal["cross", "forward"],
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> NDArray[np.float64]:
    """Return (n_rows, n_bases) scores of every base for queries it was not trained on.

    Parameters
    ----------
    folds
        (n_queries,) int64 fold of each query.
    scheme
        `cross` trains on all other folds; `forward` on earlier folds only, so that fold 0 has no scores
        (NaN) and is left out by the caller.
    """
    scores = np.full((frame.n_rows, len(bases)), np.nan)
    for fold in np.unique(folds):
        training = np.flatnonzero(folds < fold if scheme == "forward" else folds != fold)
        held = np.flatnonzero(folds == fold)
        if not len(training):
            continue
        train_frame, held_frame = frame.take_queries(training), frame.take_queries(held)
        rows = np.repeat(folds == fold, frame.group_sizes)
        for number, base in enumerate(bases):
            progress(f"base {base.name}, fold {fold}")
            scores[rows, number] = fit_base(base, train_frame, seed).score(held_frame)
    return scores


def to_score_frame(
    frame: RankingFrame,
    scores: NDArray[np.float64],
    bases: Sequence[str],
    base_modality: Mapping[str, str],
    context: Sequence[str],
) -> ScoreFrame:
    """Put scores beside what the frame knows; `context` names the features that weights may depend on."""
    columns = [frame.feature_names.index(name) for name in context if name in frame.feature_names]
    facts: FloatArray = np.nan_to_num(frame.features[:, columns], nan=0.0)
    return ScoreFrame(
        scores=scores,
        bases=tuple(bases),
        labels=frame.labels,
        offsets=frame.offsets,
        modalities=frame.modalities,
        present=frame.present,
        base_modality=base_modality,
        context=facts,
        context_names=tuple(frame.feature_names[column] for column in columns),
        query_weights=frame.query_weights,
    )
