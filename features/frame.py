"""The RankingFrame: candidates of many queries with their features, labels and availability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from features.errors import DataError
from features.sequences import Sequences
from features.sequences import concatenate as concatenate_sequences

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class RankingFrame:
    """Candidates sorted by query, one row each.

    Attributes
    ----------
    features
        (n_rows, n_features) float32; NaN means missing, infinity is refused.
    feature_names
        n_features names.
    blocks
        Block name to the columns it owns; a block is a modality, `behaviour` or `context`.
    labels
        (n_rows,) float32 relevance, higher is better, 0 is irrelevant.
    queries
        (n_rows,) int64 query codes; rows of one query are contiguous.
    items
        (n_rows,) int64 item codes.
    modalities
        Names of the availability columns.
    present
        (n_rows, n_modalities) bool: the candidate has this modality.
    query_weights
        (n_queries,) float32 training weight of each query, in the order of the rows, or None for 1.
    sequences
        The last items of the users of the n_queries queries, in the order of the rows, or None.
    offsets
        (n_queries + 1,) int64 row borders, derived: query q owns rows offsets[q]:offsets[q + 1].
    """

    features: FloatArray
    feature_names: tuple[str, ...]
    blocks: Mapping[str, tuple[int, ...]]
    labels: FloatArray
    queries: IntArray
    items: IntArray
    modalities: tuple[str, ...] = ()
    present: BoolArray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    query_weights: FloatArray | None = None
    sequences: Sequences | None = None
    offsets: IntArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        n = len(self.queries)
        if self.present.shape == (0, 0):
            object.__setattr__(self, "present", np.ones((n, len(self.modalities)), dtype=bool))
        expected = {
            "features": (n, len(self.feature_names)),
            "labels": (n,),
            "items": (n,),
            "present": (n, len(self.modalities)),
        }
        for name, shape in expected.items():
            got = getattr(self, name).shape
            if got != shape:
                raise ValueError(f"{name}: got shape {got}, expected {shape}")
        starts = np.flatnonzero(np.diff(self.queries)) + 1
        offsets = np.concatenate([[0], starts, [n]]).astype(np.int64) if n else np.zeros(1, dtype=np.int64)
        heads = self.queries[offsets[:-1]]
        if len(np.unique(heads)) != len(heads):
            _, first = np.unique(heads, return_index=True)
            again = int(np.setdiff1d(np.arange(len(heads)), first)[0])
            raise DataError(
                f"query {heads[again]} starts again after other queries, expected its rows together",
                fix="sort the rows by query",
                row=int(offsets[again]) + 1,
            )
        object.__setattr__(self, "offsets", offsets)
        if self.query_weights is not None and len(self.query_weights) != len(heads):
            raise ValueError(f"query_weights: got {len(self.query_weights)}, expected {len(heads)}")
        if self.sequences is not None and len(self.sequences.recent) != len(heads):
            raise ValueError(f"sequences: got {len(self.sequences.recent)}, expected {len(heads)}")

    @property
    def group_sizes(self) -> IntArray:
        """(n_queries,) rows of each query, derived so that it can never disagree with the rows."""
        return np.diff(self.offsets)

    @property
    def n_rows(self) -> int:
        """Number of candidates."""
        return len(self.queries)

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self.offsets) - 1

    @property
    def row_weights(self) -> FloatArray | None:
        """(n_rows,) the query weights repeated over the rows, or None."""
        if self.query_weights is None:
            return None
        return np.repeat(self.query_weights, self.group_sizes)

    def select_blocks(self, names: Sequence[str]) -> RankingFrame:
        """Return the frame with only the columns, and the modalities of sequences, of the named blocks."""
        unknown = [name for name in names if name not in self.blocks]
        if unknown:
            raise KeyError(f"unknown block {unknown[0]!r}, the frame has {sorted(self.blocks)}")
        columns = np.array([c for name in names for c in self.blocks[name]], dtype=np.int64)
        blocks, start = {}, 0
        for name in names:
            width = len(self.blocks[name])
            blocks[name] = tuple(range(start, start + width))
            start += width
        everything = np.array_equal(columns, np.arange(len(self.feature_names)))
        return replace(
            self,
            features=self.features if everything else np.ascontiguousarray(self.features[:, columns]),
            feature_names=tuple(self.feature_names[c] for c in columns),
            blocks=blocks,
            sequences=None if self.sequences is None else self.sequences.select(names),
        )

    def without(self, modality: str) -> RankingFrame:
        """Return the frame as it is where no candidate has a modality: its block is missing everywhere."""
        features, present = self.features.copy(), self.present.copy()
        features[:, list(self.blocks.get(modality, ()))] = np.nan
        present[:, self.modalities.index(modality)] = False
        return replace(self, features=features, present=present)

    def take_queries(self, positions: IntArray, weights: FloatArray | None = None) -> RankingFrame:
        """Return the frame of the queries at these positions, which may repeat.

        Repeated queries get query codes of their own (their position in the draw) so that they stay
        apart; `weights` are the (len(positions),) new query weights.
        """
        sizes = self.group_sizes[positions]
        rows = rows_of_queries(self.offsets, positions)
        repeated = len(np.unique(positions)) != len(positions)
        codes = np.arange(len(positions)) if repeated else self.queries[self.offsets[:-1][positions]]
        kept = (
            self.query_weights[positions] if weights is None and self.query_weights is not None else weights
        )
        return replace(
            self,
            features=self.features[rows],
            labels=self.labels[rows],
            queries=np.repeat(codes, sizes),
            items=self.items[rows],
            present=self.present[rows],
            query_weights=kept,
            sequences=None if self.sequences is None else self.sequences.take(positions),
        )

    def take_rows(self, keep: BoolArray) -> RankingFrame:
        """Return the frame of the rows where `keep` (n_rows,) is true; queries left empty disappear."""
        weights, sequences = self.query_weights, self.sequences
        if weights is not None or sequences is not None:
            counts = np.add.reduceat(keep, self.offsets[:-1]) if self.n_queries else np.zeros(0, dtype=int)
            weights = None if weights is None else weights[counts > 0]
            sequences = None if sequences is None else sequences.take(counts > 0)
        return replace(
            self,
            features=self.features[keep],
            labels=self.labels[keep],
            queries=self.queries[keep],
            items=self.items[keep],
            present=self.present[keep],
            query_weights=weights,
            sequences=sequences,
        )


def rows_of_queries(offsets: IntArray, positions: IntArray) -> IntArray:
    """Return the row numbers of the queries at `positions`, in that order."""
    sizes = np.diff(offsets)[positions]
    ends = np.cumsum(sizes)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)
    rows: IntArray = np.repeat(offsets[:-1][positions], sizes) + within
    return rows


def concatenate(frames: Sequence[RankingFrame]) -> RankingFrame:
    """Stack frames of equal columns; query codes are made disjoint by renumbering."""
    first = frames[0]
    for frame in frames[1:]:
        if frame.feature_names != first.feature_names or frame.modalities != first.modalities:
            raise ValueError("frames with other columns cannot be stacked")
    codes, start = [], 0
    for frame in frames:
        codes.append(np.repeat(np.arange(start, start + frame.n_queries), frame.group_sizes))
        start += frame.n_queries
    weights = None
    if any(frame.query_weights is not None for frame in frames):
        weights = np.concatenate(
            [
                f.query_weights if f.query_weights is not None else np.ones(f.n_queries, np.float32)
                for f in frames
            ]
        )
    return replace(
        first,
        features=np.concatenate([f.features for f in frames]),
        labels=np.concatenate([f.labels for f in frames]),
        queries=np.concatenate(codes),
        items=np.concatenate([f.items for f in frames]),
        present=np.concatenate([f.present for f in frames]),
        query_weights=weights,
        sequences=concatenate_sequences([f.sequences for f in frames]),
    )
