"""What every retriever is, and what all of them need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from scipy import sparse

from features.errors import DataError
from features.frame import BoolArray, FloatArray, IntArray
from features.history import History

BEHAVIOUR = "behaviour"


class Retriever(Protocol):
    """Scores items for users; higher is better, NaN where the retriever has no opinion."""

    kind: ClassVar[str]

    @property
    def name(self) -> str:
        """Name of the retriever, by which its features are called."""
        ...

    @property
    def block(self) -> str:
        """The block of features that its scores belong to: `behaviour`, or a modality."""
        ...

    @property
    def known(self) -> BoolArray:
        """(n_items,) bool: the items that the retriever has an opinion of."""
        ...

    def scores(self, history: History, users: IntArray) -> FloatArray:
        """Return (n_batch, n_items) float32 scores; a user's row depends on that user's history alone."""
        ...

    def resized(self, n_items: int) -> Self:
        """Return the same model over a longer list of items, the new ones unknown to it."""
        ...

    def save(self, folder: Path) -> None:
        """Write arrays and JSON into an existing empty folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        ...


def require_times(history: History, name: str) -> None:
    """Raise DataError if a history to be scored has no times, on which the retriever `name` was fitted."""
    if history.times is None:
        raise DataError(
            f"{name}: got a history without times, expected the times it was fitted on",
            fix="give the history with its time column",
        )


def padded(array: np.ndarray, n: int) -> np.ndarray:
    """Append rows of zeros up to `n` rows."""
    return np.concatenate([array, np.zeros((n - len(array), *array.shape[1:]), dtype=array.dtype)])


def widened(matrix: sparse.csr_array, n_columns: int, n_rows: int | None = None) -> sparse.csr_array:
    """Append empty columns, and empty rows up to `n_rows`, without copying what is there."""
    n_old = matrix.shape[0]
    added = (n_old if n_rows is None else n_rows) - n_old
    indptr = np.concatenate([matrix.indptr, np.full(added, matrix.indptr[-1], dtype=matrix.indptr.dtype)])
    return sparse.csr_array((matrix.data, matrix.indices, indptr), shape=(n_old + added, n_columns))


def csr_parts(matrix: sparse.csr_array, prefix: str = "") -> dict[str, np.ndarray]:
    """Return the arrays of a sparse matrix by name, to be saved."""
    parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    return {prefix + name: values for name, values in parts.items()}


def csr_from(arrays: Mapping[str, np.ndarray], n_columns: int, prefix: str = "") -> sparse.csr_array:
    """Return the sparse matrix of arrays that `csr_parts` named."""
    data, indices, indptr = (arrays[prefix + name] for name in ("data", "indices", "indptr"))
    return sparse.csr_array((data, indices, indptr), shape=(len(indptr) - 1, n_columns))


def without_opinion(scores: FloatArray, liked: sparse.csr_array, known: BoolArray) -> FloatArray:
    """Put NaN, in place, at unknown items and at users who like none of the known ones."""
    scores[:, ~known] = np.nan
    scores[(liked @ known.astype(np.float32)) == 0] = np.nan
    return scores


def save_model(folder: Path, retriever: Retriever, arrays: Mapping[str, np.ndarray], **extra: float) -> None:
    """Write the arrays of a retriever, and its kind, name, block and `extra` as JSON."""
    meta = {"kind": retriever.kind, "name": retriever.name, "block": retriever.block, **extra}
    (folder / "retriever.json").write_text(json.dumps(meta, indent=1, sort_keys=True))
    np.savez(folder / "retriever.npz", **arrays)  # type: ignore[arg-type]


def load_model(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the JSON and the arrays that `save_model` wrote."""
    with np.load(folder / "retriever.npz", allow_pickle=False) as arrays:
        return json.loads((folder / "retriever.json").read_text()), dict(arrays)
