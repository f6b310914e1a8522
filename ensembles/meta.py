"""What every meta-learner is, and the few things that all of them need."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ensembles.score_frame import ScoreFrame
from features.errors import DataError
from features.frame import IntArray
from features.per_query import ScoreArray, reduce_queries, weighted_sum
from rankers.metrics import ndcg

STATE_FILE = "meta.json"


class MetaLearner(Protocol):
    """Turns what the bases say about a query's candidates into one score, higher is better.

    Constructors store parameters, `fit` learns, and what is learned ends in an underscore. Scores depend on
    nothing but the candidates of the same query: not on their order, on other queries or on labels.
    """

    name: ClassVar[str]
    # Chooses few settings instead of learning a model: may be fitted to the queries that choose.
    settings_only: ClassVar[bool]

    def fit(self, oof: ScoreFrame) -> Self:
        """Learn from out-of-fold scores; query weights count.

        Raises
        ------
        DataError
            If no query has both a positive and another candidate, or there is no base.
        """
        ...

    def score(self, frame: ScoreFrame) -> NDArray[np.float64]:
        """Return (n_rows,) finite scores.

        A candidate about which no base has an opinion gets 1 less than the lowest other candidate of its
        query, and 0 where no candidate of the query has any. Raises DataError if a base of `bases_used` is
        absent; further bases are ignored.
        """
        ...

    def bases_used(self) -> tuple[str, ...]:
        """Return the bases that `score` reads."""
        ...

    def save(self, folder: Path) -> None:
        """Write `meta.json` and native files, no pickle, into an existing empty folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the loaded meta-learner scores bit for bit as the saved one."""
        ...


def check_trainable(oof: ScoreFrame) -> None:
    """Refuse a frame that teaches nothing about the order of candidates; raises DataError."""
    if not oof.bases:
        raise DataError("got no base, expected at least one", fix="train a base ranker first")
    if len(teaching_queries(oof)) == 0:
        raise DataError(
            f"none of {oof.n_queries} queries has a positive and a lesser candidate, expected at least one",
            fix="check the labels and that the candidates contain positives",
            column="label",
        )


def teaching_queries(frame: ScoreFrame) -> IntArray:
    """Return the positions of the queries that have a positive and a candidate with a lower label."""
    labels = frame.labels.astype(np.float64)
    lowest = reduce_queries(np.fmin, labels, frame.offsets, empty=0.0)
    highest = reduce_queries(np.fmax, labels, frame.offsets, empty=0.0)
    return np.flatnonzero(highest > np.maximum(lowest, 0.0))


def scores_of(frame: ScoreFrame, bases: Sequence[str]) -> ScoreArray:
    """Return the (n_rows, len(bases)) scores of these bases; raises DataError if one is absent."""
    return _columns_of(frame, bases, frame.scores)


def z_of(frame: ScoreFrame, bases: Sequence[str]) -> ScoreArray:
    """Return the (n_rows, len(bases)) z-scores of these bases; raises DataError if one is absent."""
    return _columns_of(frame, bases, frame.views.z)


def _columns_of(frame: ScoreFrame, bases: Sequence[str], matrix: ScoreArray) -> ScoreArray:
    absent = [base for base in bases if base not in frame.bases]
    if absent:
        raise DataError(
            f"got scores of the bases {', '.join(frame.bases)}, expected also {', '.join(absent)}",
            fix="score the candidates with every base that the meta-learner was trained on",
        )
    columns = [matrix[:, frame.bases.index(base)] for base in bases]
    return np.stack(columns, axis=1) if columns else np.zeros((len(frame.labels), 0))


def score_by_weights(frame: ScoreFrame, weights: Mapping[str, float]) -> ScoreArray:
    """Return the (n_rows,) weighted sums of the z-scores of these bases, a missing opinion adding 0."""
    z = z_of(frame, tuple(weights))
    total = weighted_sum(zip(weights.values(), z.T, strict=True), len(z))
    total[np.isnan(z).all(axis=1)] = np.nan
    return place_unknown_last(total, frame.offsets)


def place_unknown_last(scores: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return (n_rows,) finite scores: NaN gets 1 less than the lowest of its query, 0 if all are NaN."""
    lowest = reduce_queries(np.fmin, scores, offsets, empty=np.nan)
    fallback = np.where(np.isnan(lowest), 0.0, lowest - 1.0)
    return np.where(np.isnan(scores), np.repeat(fallback, np.diff(offsets)), scores)


def query_weights(frame: ScoreFrame) -> NDArray[np.float64]:
    """Return the (n_queries,) weights of the queries, 1 where the frame has none."""
    if frame.query_weights is None:
        return np.ones(frame.n_queries)
    return frame.query_weights.astype(np.float64)


def mean_ndcg(scores: ScoreArray, frame: ScoreFrame, k: int, seed: int) -> float:
    """Return the query-weighted mean NDCG@k of (n_rows,) scores; NaN ranks last, and no positive gives 0."""
    values = ndcg(scores, frame.labels, frame.offsets, k, seed=seed)
    weights = query_weights(frame)
    counted = ~np.isnan(values)
    total = float(weights[counted].sum())
    return float((values[counted] * weights[counted]).sum()) / total if total > 0 else 0.0


def base_quality(frame: ScoreFrame, k: int, seed: int) -> dict[str, float]:
    """Return the mean NDCG@k of every base, a missing opinion ranked last."""
    return {
        base: mean_ndcg(column, frame, k, seed)
        for base, column in zip(frame.bases, frame.scores.T, strict=True)
    }


def write_state(folder: Path, kind: str, state: Mapping[str, object]) -> None:
    """Write `meta.json`, which names the kind of meta-learner and holds what it learned."""
    text = json.dumps({"kind": kind, **state}, indent=2, allow_nan=False)
    (folder / STATE_FILE).write_text(text + "\n", encoding="utf-8")


def read_state(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """Return the content of `meta.json`; raises DataError if it is absent, broken or of another kind."""
    path = folder / STATE_FILE
    fix = "load a folder that a meta-learner was saved into"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"got no {STATE_FILE}, expected one", fix=fix, file=str(path)) from None
    except ValueError as error:
        raise DataError(f"got invalid JSON ({error}), expected an object", fix=fix, file=str(path)) from None
    if not isinstance(state, dict) or "kind" not in state:
        raise DataError("got no kind, expected the name of a meta-learner", fix=fix, file=str(path))
    if kind is not None and state["kind"] != kind:
        raise DataError(f"got kind {state['kind']!r}, expected {kind!r}", fix=fix, file=str(path))
    return state
