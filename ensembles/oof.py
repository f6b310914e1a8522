"""Out-of-fold scores: what each base says of queries that it has not learned from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ensembles.score_frame import ScoreFrame
from features.frame import FloatArray, IntArray, RankingFrame
from rankers.protocol import Ranker
from rankers.threads import granted_threads

logger = logging.getLogger(__name__)

STOPPING_SHARE = 0.15
LARGE = 50_000
Scheme = Literal["cross", "forward"]


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


def fit_bases(
    bases: Sequence[Base],
    frame: RankingFrame,
    seed: int,
    *,
    at_once: int = 1,
    threads: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Ranker]:
    """Return every base by name, fitted `at_once` side by side with so many `threads` each."""

    def fitted(base: Base) -> Ranker:
        progress(f"base {base.name}")
        with granted_threads(threads):
            return fit_base(base, frame, seed)

    pool = ThreadPoolExecutor(at_once)
    try:
        # Those that read everything come last and take longest, so that they had better start first.
        coming = {base.name: pool.submit(fitted, base) for base in reversed(bases)}
        for done in as_completed(coming.values()):
            done.result()  # the first that fails ends them all
        return {base.name: coming[base.name].result() for base in bases}
    finally:
        pool.shutdown(cancel_futures=True)


def oof_parts(folds: Sequence[int], n_rows: int, scheme: Scheme) -> list[list[int]]:
    """Return the folds that are scored together, by bases that learned from the others.

    One by one where that is cheap. A cross scheme over more than LARGE rows scores one half of the folds by
    what was learned from the other: two fits a base instead of one a fold.
    """
    if scheme == "forward" or n_rows <= LARGE or len(folds) < 3:
        return [[fold] for fold in folds]
    return [list(folds[::2]), list(folds[1::2])]


def without_folds(frame: RankingFrame, folds: IntArray, held: Sequence[int], scheme: Scheme) -> RankingFrame:
    """Return the queries that bases may learn from which are to score the folds `held`.

    Parameters
    ----------
    folds
        (n_queries,) int64 fold of each query; a negative one is learned from always.
    scheme
        `cross` leaves out the held folds; `forward` also what is later.
    """
    learned = folds < min(held) if scheme == "forward" else ~np.isin(folds, held)
    return frame.take_queries(np.flatnonzero(learned))


def out_of_fold(
    bases: Sequence[Base],
    frame: RankingFrame,
    folds: IntArray,
    *,
    scheme: Scheme,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> NDArray[np.float64]:
    """Return (n_rows, n_bases) scores of every base for queries it was not trained on.

    Negative folds have no scores (NaN), and under `forward` neither has the first.
    """
    scores = np.full((frame.n_rows, len(bases)), np.nan)
    for fold in np.unique(folds[folds >= 0]):
        train_frame = without_folds(frame, folds, [fold], scheme)
        if not train_frame.n_queries:
            continue
        held_frame = frame.take_queries(np.flatnonzero(folds == fold))
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
    base_reads: Mapping[str, tuple[str, ...]] | None = None,
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
        users=frame.queries[frame.offsets[:-1]],
        base_reads=base_reads or {},
    )
