"""Scaling and principal components that give a row the same bits whatever rows stand around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from features.encoders.base import Encoded
from features.encoders.storage import read_array, write_array

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Matrix = NDArray[np.float64]

OUTLIER = 50.0
"""A scaled value is clipped here: further out it says nothing more, and products could overflow."""

GRID_BITS = 22
BLOCK_ROWS = 16_384
MOST_EXACT = 2048
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Projection:
    """Centres, scales and optionally rotates rows.

    Attributes
    ----------
    center, scale
        (n_inputs,) float64; a scaled value is (value - center) / scale.
    components
        (dim, n_inputs) float64 of unit rows on the grid of `exact_product`, or None to keep all inputs.
    clipped
        Whether scaled values are clipped to +-OUTLIER.
    """

    center: Matrix
    scale: Matrix
    components: Matrix | None = None
    clipped: bool = True

    @property
    def n_inputs(self) -> int:
        """Number of components of a row before the projection."""
        return len(self.center)

    @property
    def width(self) -> int:
        """Number of components of a row after the projection."""
        return self.n_inputs if self.components is None else len(self.components)

    def apply(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Project (n, n_inputs) finite rows to (n, width) float32, each row on its own."""
        projected = np.empty((len(rows), self.width), dtype=np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = self._scaled(rows[start : start + BLOCK_ROWS])
            if self.components is not None:
                block = exact_product(block, self.components)
            projected[start : start + BLOCK_ROWS] = np.clip(block, -LARGEST, LARGEST)
        return projected

    def _scaled(self, rows: NDArray[np.floating]) -> Matrix:
        scaled = (rows.astype(np.float64) - self.center) / self.scale
        return np.clip(scaled, -OUTLIER, OUTLIER) if self.clipped else scaled

    def save(self, folder: Path, prefix: str = "") -> None:
        """Write the arrays; `prefix` keeps several projections of a folder apart."""
        write_array(folder, f"{prefix}center", self.center)
        write_array(folder, f"{prefix}scale", self.scale)
        write_array(folder, f"{prefix}clipped", np.array(self.clipped))
        if self.components is not None:
            write_array(folder, f"{prefix}components", self.components)

    @classmethod
    def load(cls, folder: Path, prefix: str = "") -> Self:
        """Read what `save` wrote."""
        rotated = (folder / f"{prefix}components.npy").exists()
        return cls(
            center=read_array(folder, f"{prefix}center"),
            scale=read_array(folder, f"{prefix}scale"),
            components=read_array(folder, f"{prefix}components") if rotated else None,
            clipped=bool(read_array(folder, f"{prefix}clipped")),
        )


def fit_projection(
    rows: NDArray[np.floating], *, standardize: bool, dim: int | None, blocks: Sequence[int] | None = None
) -> Projection | None:
    """Learn scaling by mean and standard deviation and, for a `dim`, the leading principal components.

    Parameters
    ----------
    rows
        (n, n_inputs) finite values.
    standardize
        Divide by the standard deviation; a constant input is divided by 1.
    dim
        Number of components; fewer are kept where the rows span fewer dimensions. None keeps the inputs.
    blocks
        Widths of consecutive blocks that are divided by their joint standard deviation, the root of the
        sum of their variances, so that every block weighs the same; None scales each input on its own.

    Returns
    -------
    Projection or None
        None where there are no rows to learn from. The order of the rows makes no difference.
    """
    if not rows.size:
        return None
    values = _in_canonical_order(rows).astype(np.float64)
    n_inputs = values.shape[1]
    center, scale = np.zeros(n_inputs), np.ones(n_inputs)
    if standardize or dim is not None:
        center = values.mean(axis=0)
    if standardize:
        # The mean of equal values can differ from them in the last bit, which must not be scaled up.
        constant = values.min(axis=0) == values.max(axis=0)
        center[constant] = values[0, constant]
        scale = _deviations(values - center, blocks or [1] * n_inputs)
    scaled = Projection(center, scale, clipped=standardize)
    if dim is None:
        return scaled
    components = leading_directions(scaled._scaled(values), dim)
    return Projection(center, scale, to_grid(components), clipped=standardize)


def _deviations(centered: Matrix, blocks: Sequence[int]) -> Matrix:
    """Return the standard deviation of each input's block, 1 in place of 0."""
    starts = np.cumsum([0, *blocks[:-1]])
    deviations = np.sqrt(np.add.reduceat(np.square(centered).mean(axis=0), starts))
    return np.repeat(np.where(deviations > 0, deviations, 1.0), blocks)


def encode_present(
    projection: Projection | None, rows: NDArray[np.floating], present: NDArray[np.bool_]
) -> Encoded:
    """Project the rows of the present ones; without a projection (nothing was learned) none is present.

    Parameters
    ----------
    rows
        (present.sum(), n_inputs) values, one for each present row.
    """
    if projection is None:
        return absent(len(present))
    vectors = np.zeros((len(present), projection.width), dtype=np.float32)
    vectors[present] = projection.apply(rows)
    return Encoded(vectors, present)


def absent(n_rows: int) -> Encoded:
    """Return n rows of one zero, none present: what an encoder gives that had nothing to learn from."""
    return Encoded(np.zeros((n_rows, 1), dtype=np.float32), np.zeros(n_rows, dtype=np.bool_))


def leading_directions(matrix: Matrix | csr_matrix[np.float64], dim: int) -> Matrix:
    """Return the (at most dim, n_inputs) leading right singular vectors, the same at every call.

    Eigenvectors of the Gram matrix of a dense matrix that has more rows than columns, else a randomised
    SVD (Halko et al., 2011) with a fixed seed, on one thread; in every vector the entry of largest size is
    positive; directions without variance are dropped, and a zero matrix gives one zero vector.
    """
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        if isinstance(matrix, np.ndarray) and matrix.shape[1] <= min(MOST_EXACT, matrix.shape[0]):
            sizes, directions = _eigenvectors(matrix, min(dim, matrix.shape[1]))
        else:
            _, sizes, directions = randomized_svd(
                matrix, n_components=min(dim, *matrix.shape), n_iter=7, flip_sign=False, random_state=0
            )
    kept = directions[sizes > 1e-6 * sizes[0]] if sizes[0] > 0 else np.zeros((1, matrix.shape[1]))
    largest = np.take_along_axis(kept, np.abs(kept).argmax(axis=1)[:, None], axis=1)
    return np.asarray(kept * np.where(largest < 0, -1.0, 1.0), dtype=np.float64)


def _eigenvectors(matrix: Matrix, n: int) -> tuple[Matrix, Matrix]:
    """Return the n largest singular values and their right vectors, of (n_rows, n_inputs) values."""
    squares, vectors = np.linalg.eigh(matrix.T @ matrix)
    return np.sqrt(np.maximum(squares[::-1][:n], 0.0)), vectors[:, ::-1][:, :n].T


def to_grid(values: Matrix) -> Matrix:
    """Round values of size 1 and below to multiples of 2^-22, which is finer than float32 at 1."""
    return np.rint(np.ldexp(values, GRID_BITS)) * math.ldexp(1.0, -GRID_BITS)


def exact_product(rows: Matrix, directions: Matrix) -> Matrix:
    """Return rows @ directions.T without rounding errors in the sums.

    A matrix product adds in an order that depends on the number of rows and of threads, so a row's last
    bits would depend on its neighbours. Here every row is divided by a power of two to at most 1 and
    rounded to a grid of 2^-22, as the directions are: all products are then multiples of 2^-44, and no
    partial sum exceeds sqrt(n_inputs) times the length of a direction (Cauchy-Schwarz), so float64 holds
    them exactly up to 2^17 inputs, and any order gives the same bits.

    Parameters
    ----------
    rows
        (n, n_inputs) float64, finite.
    directions
        (dim, n_inputs) float64 from `to_grid`, of unit length.
    """
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    exponents = np.frexp(largest)[1]
    return np.ldexp(to_grid(np.ldexp(rows, -exponents)) @ directions.T, exponents)


def _in_canonical_order(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Sort the rows by their bytes, so that sums do not depend on the order of the table."""
    packed = np.ascontiguousarray(rows)
    keys = packed.view(np.dtype((np.void, packed.itemsize * packed.shape[1]))).ravel()
    return packed[np.argsort(keys, kind="stable")]
