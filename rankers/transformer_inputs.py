"""Numbers of a frame as the transformer reads them: standard features of the rows and a token a modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.errors import DataError
from features.frame import BoolArray, FloatArray, IntArray, RankingFrame
from features.sequences import Sequences
from rankers.linear_ranker import Standardiser

# A feature this many standard deviations off says no more than that it is far off.
FARTHEST = 5.0
TOKEN_WIDTH = 32
PCA_ROWS = 20_000


@dataclass(frozen=True)
class TokenAxes:
    """The leading principal axes of the vectors of every modality, which make all tokens equally wide.

    Attributes
    ----------
    modalities
        Names of M modalities.
    centres, axes
        M arrays (d_m,) and (d_m, TOKEN_WIDTH) float64; axes past d_m are zeros. Tokens have a mean square
        of 1 on the leading axis of their modality.
    length, ordered
        Items of a sequence that are read, and whether their order means something.
    """

    modalities: tuple[str, ...]
    centres: tuple[NDArray[np.float64], ...]
    axes: tuple[NDArray[np.float64], ...]
    length: int
    ordered: bool

    @classmethod
    def of(cls, sequences: Sequences | None, length: int) -> Self:
        """Learn from the tables of sequences; without any there are no modalities."""
        if sequences is None:
            return cls((), (), (), 0, False)
        centres, axes = [], []
        for place in range(len(sequences.modalities)):
            # Tables of different cuts share what does not depend on the cut.
            pairs = {
                id(t.vectors[place]): (t.vectors[place], t.present[place]) for t in sequences.tables
            }.values()
            rows = np.concatenate([vectors[present] for vectors, present in pairs]).astype(np.float64)
            rows = rows[:: -(-len(rows) // PCA_ROWS) or 1]
            centre, directions = _principal_axes(rows)
            centres.append(centre)
            axes.append(directions)
        shown = min(length, sequences.recent.shape[1])
        return cls(sequences.modalities, tuple(centres), tuple(axes), shown, sequences.ordered)

    def check(self, sequences: Sequences | None) -> None:
        """Refuse sequences that are not like those of the training; raises DataError."""
        got = ((), (), 0) if sequences is None else (sequences.modalities, sequences.widths, self.length)
        if sequences is not None:
            got = (*got[:2], min(self.length, sequences.recent.shape[1]))
        expected = (self.modalities, tuple(len(centre) for centre in self.centres), self.length)
        if self.modalities and got != expected:
            raise DataError(
                f"got sequences with (modalities, widths, length) {got}, expected {expected}",
                fix="build the frame with the config of the training, or train again",
            )

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return what is learned as named arrays."""
        named = {f"axes.{n}.centre": centre for n, centre in enumerate(self.centres)}
        return named | {f"axes.{n}.axes": axes for n, axes in enumerate(self.axes)}

    def described(self) -> dict[str, Any]:
        """Return the rest, for JSON."""
        return {"modalities": list(self.modalities), "length": self.length, "ordered": self.ordered}

    @classmethod
    def from_arrays(cls, described: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float64]]) -> Self:
        """Put together what `described` and `arrays` gave."""
        numbers = range(len(described["modalities"]))
        return cls(
            modalities=tuple(described["modalities"]),
            centres=tuple(arrays[f"axes.{n}.centre"] for n in numbers),
            axes=tuple(arrays[f"axes.{n}.axes"] for n in numbers),
            length=described["length"],
            ordered=described["ordered"],
        )


@dataclass(frozen=True)
class Inputs:
    """What the network reads of a frame.

    Attributes
    ----------
    dense
        (n_rows + 1, n_dense) float32; the last row is zeros, for padding.
    tokens, present
        (n_tokens + 1, M, TOKEN_WIDTH) float32 and (n_tokens + 1, M) float32 of the items that occur; the
        last is an item of which nothing is known.
    candidates, recent
        (n_rows + 1,) and (n_queries, length) int64 places in `tokens`.
    """

    dense: FloatArray
    tokens: FloatArray
    present: FloatArray
    candidates: IntArray
    recent: IntArray


def read_inputs(frame: RankingFrame, standardiser: Standardiser, axes: TokenAxes) -> Inputs:
    """Return the inputs of a frame; raises DataError if its sequences are not like those of the training."""
    axes.check(frame.sequences)
    dense = standardiser.transform(frame.features)
    dense = np.concatenate([np.clip(dense, -FARTHEST, FARTHEST), np.zeros((1, dense.shape[1]))])
    if frame.sequences is None or not axes.modalities:
        nothing = np.zeros((1, 0, TOKEN_WIDTH), np.float32)
        places = np.zeros(frame.n_rows + 1, np.int64)
        recent = np.zeros((frame.n_queries, 0), np.int64)
        return Inputs(dense.astype(np.float32), nothing, nothing[:, :, 0], places, recent)
    sequences = frame.sequences
    n_items = max(len(table.present[0]) for table in sequences.tables)
    of_rows = np.repeat(sequences.sources, frame.group_sizes) * n_items + frame.items
    recent = sequences.recent[:, : axes.length]
    of_recent = np.where(recent < 0, -1, sequences.sources[:, None] * n_items + recent)
    keys = np.unique(np.concatenate([of_rows, of_recent.ravel()]))
    keys = keys[keys >= 0]
    tokens, present = _tokens(sequences, axes, keys // n_items, keys % n_items)
    return Inputs(
        dense=dense.astype(np.float32),
        tokens=tokens,
        present=present.astype(np.float32),
        candidates=np.append(np.searchsorted(keys, of_rows), len(keys)),
        recent=np.where(of_recent < 0, len(keys), np.searchsorted(keys, of_recent)),
    )


def _tokens(
    sequences: Sequences, axes: TokenAxes, sources: IntArray, items: IntArray
) -> tuple[FloatArray, BoolArray]:
    """Return the tokens of items and one more of which nothing is known."""
    present = np.zeros((len(items) + 1, len(axes.modalities)), dtype=bool)
    tokens = np.zeros((*present.shape, TOKEN_WIDTH), dtype=np.float32)
    for source, table in enumerate(sequences.tables):
        here = np.flatnonzero(sources == source)
        for place in range(len(axes.modalities)):
            known = here[table.present[place][items[here]]]
            present[known, place] = True
            vectors = table.vectors[place][items[known]].astype(np.float64)
            # Rounded from float64, which hides that a product may round a row by the rows around it.
            tokens[known, place] = (vectors - axes.centres[place]) @ axes.axes[place]
    return tokens, present


def _principal_axes(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    centre = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
    values, directions = np.linalg.eigh((rows - centre).T @ (rows - centre) / max(len(rows), 1))
    leading = directions[:, ::-1][:, :TOKEN_WIDTH]
    largest = np.take_along_axis(leading, np.abs(leading).argmax(axis=0)[None], axis=0)
    leading = leading * np.where(largest < 0, -1.0, 1.0) / np.sqrt(max(values[-1], 1e-12))
    return centre, np.pad(leading, ((0, 0), (0, TOKEN_WIDTH - leading.shape[1])))
