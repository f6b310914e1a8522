"""The ScoreFrame: what the base models say about the candidates, which is all a meta-learner sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.frame import BoolArray, FloatArray, IntArray, rows_of_queries
from features.per_query import ScoreArray, average_ranks, min_max, z_scores
from features.retrievers import BEHAVIOUR

# What is known of every item and user beside the scores.
POPULARITY = "behaviour.log_popularity"
ACTIVITY = "context.log_activity"


class Views:
    """The per-query views of a score matrix, each made when it is first asked for.

    Attributes
    ----------
    z, unit, rank
        (n_rows, n_bases) as in `features.per_query.Normalised`.
    """

    def __init__(self, scores: ScoreArray, offsets: IntArray) -> None:
        self._scores = scores
        self._offsets = offsets

    @cached_property
    def z(self) -> ScoreArray:
        """Standard scores."""
        return z_scores(self._scores, self._offsets)

    @cached_property
    def unit(self) -> ScoreArray:
        """Scores scaled to [0, 1]."""
        return min_max(self._scores, self._offsets)

    @cached_property
    def rank(self) -> ScoreArray:
        """Average ranks."""
        return average_ranks(self._scores, self._offsets)


class _PartOfViews(Views):
    """Some rows of other views, as they are in the whole lists."""

    def __init__(self, whole: Views, rows: IntArray | BoolArray) -> None:
        self._whole = whole
        self._rows = rows

    @cached_property
    def z(self) -> ScoreArray:
        part: ScoreArray = self._whole.z[self._rows]
        return part

    @cached_property
    def unit(self) -> ScoreArray:
        part: ScoreArray = self._whole.unit[self._rows]
        return part

    @cached_property
    def rank(self) -> ScoreArray:
        part: ScoreArray = self._whole.rank[self._rows]
        return part


@dataclass(frozen=True)
class ScoreFrame:
    """Out-of-fold (or serving) scores of every base for every candidate, sorted by query.

    Attributes
    ----------
    scores
        (n_rows, n_bases) float64; NaN means that the base has no opinion on this candidate.
    bases
        Names of the bases, one a column of `scores`.
    labels
        (n_rows,) float32 relevance (zeros at serving).
    offsets
        (n_queries + 1,) int64 row borders of the queries.
    modalities, present
        Availability of each modality: names and (n_rows, n_modalities) bool.
    base_modality
        Base name to the modality it needs; bases that need none are absent from the mapping.
    base_reads
        Base name to all modalities that it reads, for bases that read more than the one they need.
    context
        (n_rows, n_context) float32 facts that the weights of bases may depend on (log popularity of the
        item, log activity of the user, ...), NaN-free.
    context_names
        One name a column of `context`.
    query_weights
        (n_queries,) float32, or None for 1.
    users
        (n_queries,) int64 code of who asks, which several queries may share, or None where every query
        has a user of its own.
    """

    scores: NDArray[np.float64]
    bases: tuple[str, ...]
    labels: FloatArray
    offsets: IntArray
    modalities: tuple[str, ...]
    present: BoolArray
    base_modality: Mapping[str, str]
    context: FloatArray
    context_names: tuple[str, ...]
    query_weights: FloatArray | None = None
    users: IntArray | None = None
    base_reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.labels)
        expected = {
            "scores": (n, len(self.bases)),
            "present": (n, len(self.modalities)),
            "context": (n, len(self.context_names)),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name}: got shape {getattr(self, name).shape}, expected {shape}")
        if len(self.offsets) == 0 or self.offsets[0] != 0 or self.offsets[-1] != n:
            raise ValueError(f"offsets must run from 0 to {n}, got {self.offsets[:1]}..{self.offsets[-1:]}")

    @cached_property
    def views(self) -> Views:
        """The per-query views of `scores`; a part of the queries takes its part of those of the whole."""
        return Views(self.scores, self.offsets)

    @property
    def content(self) -> tuple[str, ...]:
        """The modalities other than behaviour that some base needs."""
        needed = set(self.base_modality.values()) - {BEHAVIOUR}
        return tuple(name for name in self.modalities if name in needed)

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self.offsets) - 1

    @property
    def group_sizes(self) -> IntArray:
        """(n_queries,) rows of each query."""
        return np.diff(self.offsets)

    def take_queries(self, positions: IntArray, weights: FloatArray | None = None) -> ScoreFrame:
        """Return the queries at these positions, which may repeat, with these (len(positions),) weights."""
        rows = rows_of_queries(self.offsets, positions)
        kept = (
            self.query_weights[positions] if weights is None and self.query_weights is not None else weights
        )
        part = replace(
            self,
            scores=self.scores[rows],
            labels=self.labels[rows],
            offsets=np.concatenate([[0], np.cumsum(self.group_sizes[positions])]).astype(np.int64),
            present=self.present[rows],
            context=self.context[rows],
            query_weights=kept,
            users=None if self.users is None else self.users[positions],
        )
        if "views" in self.__dict__:
            part.__dict__["views"] = _PartOfViews(self.views, rows)
        return part

    def take_rows(self, keep: BoolArray) -> ScoreFrame:
        """Return the rows where `keep` is true; a query keeps its place even when it is left empty."""
        counts = np.concatenate([[0], np.cumsum(keep)])
        return replace(
            self,
            scores=self.scores[keep],
            labels=self.labels[keep],
            offsets=counts[self.offsets].astype(np.int64),
            present=self.present[keep],
            context=self.context[keep],
        )

    def thinned(self, keep: BoolArray) -> ScoreFrame:
        """Return the rows where `keep` is true with the per-query views that they have in the whole list."""
        part = self.take_rows(keep)
        part.__dict__["views"] = _PartOfViews(self.views, keep)
        return part

    def hide(self, hidden: BoolArray) -> ScoreFrame:
        """Return the frame without what was hidden, as far as scores can tell.

        Parameters
        ----------
        hidden
            (n_rows, n_modalities) bool. A base that reads a hidden modality has no opinion on the candidate:
            what it would have said without it is not known. Context that comes from it is 0.
        """
        scores, context = self.scores.copy(), self.context.copy()
        for column, base in enumerate(self.bases):
            reads = self.reads(base)
            if reads:
                scores[hidden[:, [self.modalities.index(name) for name in reads]].any(axis=1), column] = (
                    np.nan
                )
        for column, name in enumerate(self.context_names):
            block = name.split(".")[0]
            if block in self.modalities:
                context[hidden[:, self.modalities.index(block)], column] = 0.0
        return replace(self, scores=scores, present=self.present & ~hidden, context=context)

    def reads(self, base: str) -> tuple[str, ...]:
        """Return the modalities that a base reads."""
        if base in self.base_reads:
            return self.base_reads[base]
        return (self.base_modality[base],) if base in self.base_modality else ()


def concatenate(frames: Sequence[ScoreFrame]) -> ScoreFrame:
    """Stack frames of the same bases, modalities and context."""
    first = frames[0]
    borders = np.concatenate([[0], *(frame.group_sizes for frame in frames)]).cumsum().astype(np.int64)
    weights = None
    if any(frame.query_weights is not None for frame in frames):
        ones = [np.ones(frame.n_queries, np.float32) for frame in frames]
        given = [frame.query_weights for frame in frames]
        weights = np.concatenate([w if w is not None else one for w, one in zip(given, ones, strict=True)])
    return replace(
        first,
        scores=np.concatenate([frame.scores for frame in frames]),
        labels=np.concatenate([frame.labels for frame in frames]),
        offsets=borders,
        present=np.concatenate([frame.present for frame in frames]),
        context=np.concatenate([frame.context for frame in frames]),
        query_weights=weights,
        users=_users(frames),
    )


def _users(frames: Sequence[ScoreFrame]) -> IntArray | None:
    known = [frame.users for frame in frames if frame.users is not None]
    return np.concatenate(known) if len(known) == len(frames) else None
