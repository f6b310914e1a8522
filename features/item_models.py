"""Item-item models: each is a sparse matrix W, and a user scores items by liked @ W."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from features.frame import BoolArray, FloatArray, IntArray
from features.nearest import nearest

BLOCK = 512
# EASE inverts a matrix of the items: one of 10,000 took 38 s of a core, in a process of 1.3 GiB.
MOST_ITEMS = 10_000


def keep_strongest(weights: sparse.csr_array, neighbours: int) -> sparse.csr_array:
    """Keep the `neighbours` entries of largest magnitude in every column."""
    columns = weights.tocsc()
    columns.sort_indices()
    sizes = np.diff(columns.indptr)
    kept = np.ones(columns.nnz, dtype=bool)
    for column in np.flatnonzero(sizes > neighbours):
        start, stop = columns.indptr[column], columns.indptr[column + 1]
        # From the end, so that of equal ones the first are kept.
        weakest = np.argsort(np.abs(columns.data[start:stop])[::-1], kind="stable")
        kept[stop - 1 - weakest[: stop - start - neighbours]] = False
    target = np.repeat(np.arange(columns.shape[1]), sizes)[kept]
    values = columns.data[kept].astype(np.float32)
    strongest = sparse.csr_array((values, (columns.indices[kept], target)), shape=weights.shape)
    strongest.sort_indices()
    return strongest


def damped(degree: FloatArray, power: float) -> NDArray[np.float64]:
    """Return degree^-power, scaled so that its mean over the interactions is 1; 0 where the degree is 0."""
    wide = degree.astype(np.float64)
    raw = np.where(wide > 0, np.maximum(wide, 1.0) ** -power, 0.0)
    total = float((raw * wide).sum())
    return raw * (float(wide.sum()) / total) if total > 0 else raw


def item_knn(liked: sparse.csr_array, *, neighbours: int = 200, shrink: float = 10.0) -> sparse.csr_array:
    """Return (n_items, n_items) shrunk cosine similarities of co-liked items.

    w_ij = c_ij / (sqrt(c_i c_j) + shrink), the item-based neighbourhood model of Sarwar et al. (2001) with
    the shrinkage of Bell and Koren (2007).
    """
    counts = np.asarray(liked.sum(axis=0), dtype=np.float64).ravel()
    together = (liked.T @ liked).tocoo()
    off = together.row != together.col
    row, col = together.row[off], together.col[off]
    values = together.data[off] / (np.sqrt(counts[row] * counts[col]) + shrink)
    return keep_strongest(sparse.csr_array((values, (row, col)), shape=together.shape), neighbours)


def rp3beta(
    liked: sparse.csr_array, *, alpha: float = 1.0, beta: float = 0.6, neighbours: int = 200
) -> sparse.csr_array:
    """Return (n_items, n_items) three-step random-walk weights, damped by popularity.

    RP3beta of Paudel et al. (2017): transition probabilities to the power alpha, divided by the degree
    of the target to the power beta.
    """
    item_degree = np.asarray(liked.sum(axis=0), dtype=np.float64).ravel()
    to_users = _row_normalised(liked.T.tocsr())
    to_items = _row_normalised(liked.tocsr())
    to_users.data **= alpha
    to_items.data **= alpha
    walk = (to_users @ to_items).tocoo()
    off = walk.row != walk.col
    row, col = walk.row[off], walk.col[off]
    values = walk.data[off] / item_degree[col] ** beta
    return keep_strongest(sparse.csr_array((values, (row, col)), shape=walk.shape), neighbours)


def ease(
    liked: sparse.csr_array,
    *,
    l2: float = 300.0,
    neighbours: int = 500,
    damping: float = 0.0,
    user_damping: float = 0.0,
    min_likes: int = 1,
    most_items: int = MOST_ITEMS,
) -> sparse.csr_array:
    """Return (n_items, n_items) weights of the closed-form linear autoencoder EASE (Steck, 2019).

    B = I - P diag(1 / diag P) with P = (X'X + l2 I)^-1, computed on the items with `fewest_likes` and in
    the smaller of the two spaces (users or items, by the Woodbury identity); then pruned to the
    strongest `neighbours` of every target item. Needs twice min(n_users, n_items, most_items)^2 floats of 8
    bytes at its peak, and the cube of it in time.

    X is D_u^-a X D_i^-b with a = `user_damping`, b = `damping`, scaled to ones on average, so that `l2` means
    the same for any damping; the weights are scaled back to D_i^-b B D_i^b, and a does not concern users
    to be scored.
    """
    degree = np.asarray(liked.sum(axis=0), dtype=np.float32).ravel()
    warm = np.flatnonzero(degree >= fewest_likes(liked, min_likes=min_likes, most_items=most_items))
    shape = (len(degree), len(degree))
    if not len(warm):
        return sparse.csr_array((np.zeros(0, np.float32), (warm, warm)), shape=shape)
    users = np.flatnonzero(np.diff(liked.indptr))
    item_scale = damped(degree[warm], damping)
    x = _scaled(liked[users][:, warm].tocsr(), user_damping, item_scale)
    inverse_rows = _inverse_gram_rows(x, l2)
    entries = []
    for start in range(0, len(warm), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(warm)))
        # P is symmetric, so its rows are its columns: column j of B is -P[:, j] / P[j, j].
        rows = inverse_rows(block)
        diagonal = rows[np.arange(len(block)), block]
        target = -rows / (diagonal * item_scale[block])[:, None] * item_scale
        target[np.arange(len(block)), block] = 0.0
        size = min(neighbours, len(warm))
        strongest = np.argpartition(-np.abs(target), size - 1, axis=1)[:, :size]
        values = np.take_along_axis(target, strongest, axis=1)
        entries.append((strongest.ravel(), np.repeat(block, size), values.ravel()))
    source, goal, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    keep = values != 0
    return sparse.csr_array(
        (values[keep].astype(np.float32), (warm[source[keep]], warm[goal[keep]])), shape=shape
    )


def fewest_likes(liked: sparse.csr_array, *, min_likes: int = 1, most_items: int = MOST_ITEMS) -> int:
    """Return how many likes an item needs to be in EASE.

    `min_likes`, or more where both the users and the items with as many are more than `most_items`: as few
    more as leave no more items than that.
    """
    degree = np.asarray(liked.sum(axis=0), dtype=np.int64).ravel()
    n_users = int((np.diff(liked.indptr) > 0).sum())
    if n_users <= most_items or len(degree) <= most_items:
        return min_likes
    first_left_out = int(np.sort(degree)[::-1][most_items])
    return max(min_likes, first_left_out + 1)


def content_knn(
    vectors: FloatArray | sparse.csr_array,
    present: BoolArray,
    known: BoolArray,
    *,
    neighbours: int = 50,
    targets: BoolArray | None = None,
) -> sparse.csr_array:
    """Return (n_items, n_items) cosine similarities of every item to its nearest known items.

    Column j holds the `neighbours` nearest items to j among those that are present and `known` (items a
    user can have in the history), so that an item appended later changes no column but its own. Only the
    columns of `targets` are made where that is given. The nearest of very many are approximate. Sparse
    vectors have length 1.
    """
    n = len(present)
    unit = vectors if isinstance(vectors, sparse.csr_array) else unit_rows(vectors)
    sources = np.flatnonzero(present & known)
    goals = np.flatnonzero(present if targets is None else present & targets)
    size = min(neighbours, len(sources))
    if not size:
        goals = goals[:0]
    source, cosines = nearest(unit, sources, goals, size)
    keep = cosines > 0
    goal = np.broadcast_to(goals[:, None], source.shape)
    return sparse.csr_array((cosines[keep], (source[keep], goal[keep])), shape=(n, n))


def unit_rows(vectors: FloatArray) -> FloatArray:
    """Scale rows to length 1; rows of zeros stay zero."""
    length = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    unit: FloatArray = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return unit


def _row_normalised(matrix: sparse.csr_array) -> sparse.csr_array:
    sums = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    scaled = matrix.astype(np.float64)
    scaled.data /= np.repeat(sums, np.diff(matrix.indptr))
    return scaled


def _scaled(x: sparse.csr_array, user_damping: float, item_scale: NDArray[np.float64]) -> sparse.csr_array:
    """Scale rows by likes^-user_damping and columns by `item_scale`; the mean square of the entries is 1."""
    likes = np.diff(x.indptr)
    user_scale = damped(likes.astype(np.float32), user_damping)
    values = np.repeat(user_scale, likes) * item_scale[x.indices]
    return sparse.csr_array((values / np.sqrt(np.mean(values**2)), x.indices, x.indptr), shape=x.shape)


def _mirrored(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Write the lower triangle of a square matrix into its upper one, too."""
    for start in range(0, len(lower), BLOCK):
        stop = min(start + BLOCK, len(lower))
        corner = np.tril(lower[start:stop, start:stop])
        lower[start:stop, start:stop] = corner + np.tril(corner, -1).T
        lower[start:stop, stop:] = lower[stop:, start:stop].T
    return lower


def _inverse_gram_rows(x: sparse.csr_array, l2: float) -> Callable[[IntArray], NDArray[np.float64]]:
    """Return block -> rows of (X'X + l2 I)^-1, from the smaller of the two Gram matrices."""
    dual = x.shape[0] < x.shape[1]
    # In the order of Fortran LAPACK works in place.
    gram = (x @ x.T if dual else x.T @ x).toarray(order="F").astype(np.float64, copy=False)
    gram[np.diag_indices_from(gram)] += l2
    factor, _ = linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    triangle, _ = linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
    inverse: NDArray[np.float64] = _mirrored(triangle).T

    def primal_rows(block: IntArray) -> NDArray[np.float64]:
        return inverse[block]

    def dual_rows(block: IntArray) -> NDArray[np.float64]:
        # Woodbury: (X'X + l2 I)^-1 = (I - X' (X X' + l2 I)^-1 X) / l2
        rows: NDArray[np.float64] = -(x.T @ (x[:, block].T @ inverse).T).T / l2
        rows[np.arange(len(block)), block] += 1.0 / l2
        return rows

    return dual_rows if dual else primal_rows
