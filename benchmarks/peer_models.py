"""The peers that need no package of their own: reference implementations in numpy and scipy.

They share no code with modalrank and are short rather than fast: some make dense items x items matrices.
`liked` is a (n_users, n_items) CSR matrix of ones at the positives. A scorer takes (n,) user codes and gives
(n, n_items) scores, higher is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

Values = NDArray[np.float64]
Scorer = Callable[[NDArray[np.int64]], Values]
BLOCK = 1024


def popularity(liked: sparse.csr_array) -> Scorer:
    """Score every item by the number of its users."""
    counts = np.asarray(liked.sum(axis=0), dtype=np.float64).ravel()
    return lambda users: np.tile(counts, (len(users), 1))


def item_item(liked: sparse.csr_array, weights: sparse.csr_array | Values) -> Scorer:
    """Score items by the sum of the weights from the user's items to them."""

    def scores(users: NDArray[np.int64]) -> Values:
        return dense(liked[users] @ weights)

    return scores


def ease(liked: sparse.csr_array, l2: float) -> Values:
    """Return the (n_items, n_items) weights of EASE (Steck, 2019): B = I - P diag(1 / diag P).

    P = (X'X + l2 I)^-1; items without a user have no weights.
    """
    degree = np.asarray(liked.sum(axis=0)).ravel()
    warm = np.flatnonzero(degree > 0)
    gram = (liked[:, warm].T @ liked[:, warm]).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += l2
    inverse = np.linalg.inv(gram)
    inverse /= -np.diag(inverse)
    np.fill_diagonal(inverse, 0.0)
    if len(warm) == len(degree):
        return inverse
    weights = np.zeros((len(degree), len(degree)))
    weights[np.ix_(warm, warm)] = inverse
    return weights


def rp3beta(liked: sparse.csr_array, alpha: float, beta: float) -> sparse.csr_array:
    """Return the (n_items, n_items) weights of RP3beta (Paudel et al., 2017).

    Item to user to item, each transition probability to the power alpha, over the popularity of the target
    to the power beta; no way back to the item itself.
    """
    degree = np.asarray(liked.sum(axis=0), dtype=np.float64).ravel()
    to_user, to_item = (_transitions(matrix, alpha) for matrix in (liked.T.tocsr(), liked))
    damping = np.power(np.maximum(degree, 1.0), -beta)
    weights = sparse.csr_array((to_user @ to_item) @ sparse.diags_array(damping))
    weights.setdiag(0.0)
    return weights


class Spectrum:
    """The leading right singular vectors of the scaled matrix R' = D_user^-user_power R D_item^-1/2.

    Attributes
    ----------
    scaled
        (n_users, n_items) R'.
    item_scale
        (n_items,) the diagonal of D_item^-1/2.
    vectors
        (n_vectors, n_items) by falling singular value. From the dense items x items matrix: Lanczos methods
        miss most of a value that many small groups of users and items share.
    """

    def __init__(self, liked: sparse.csr_array, user_power: float, n_vectors: int = 512) -> None:
        counts = [np.asarray(liked.sum(axis=axis), dtype=np.float64).ravel() for axis in (1, 0)]
        user_degree, item_degree = (np.maximum(count, 1.0) for count in counts)
        self.item_scale = item_degree**-0.5
        users, items = sparse.diags_array(user_degree**-user_power), sparse.diags_array(self.item_scale)
        self.scaled = sparse.csr_array(users @ liked.astype(np.float64) @ items)
        warm = np.flatnonzero(counts[1] > 0)
        leading = [max(0, len(warm) - n_vectors), len(warm) - 1]
        gram = (self.scaled[:, warm].T @ self.scaled[:, warm]).toarray()
        found = linalg.eigh(gram, subset_by_index=leading, overwrite_a=True)[1]
        self.vectors = np.zeros((found.shape[1], liked.shape[1]))
        self.vectors[:, warm] = found[:, ::-1].T


def spectral(liked: sparse.csr_array, spectrum: Spectrum, factors: int, linear: float) -> Scorer:
    """Score by a graph filter (GF-CF, Shen et al., 2021): a low-pass one plus `linear` times the linear one.

    A user's row r is filtered to r D_item^-1/2 V V' D_item^1/2 + linear r R'R', where V holds the first
    `factors` vectors; the power of the user degrees is free, as in PSGE (Chen et al., 2023).
    """
    vectors, scale = spectrum.vectors[:factors], spectrum.item_scale

    def scores(users: NDArray[np.int64]) -> Values:
        rows = liked[users].astype(np.float64)
        low_pass = ((rows @ sparse.diags_array(scale)) @ vectors.T) @ vectors / scale
        if not linear:
            return np.asarray(low_pass)
        return np.asarray(low_pass + linear * ((rows @ spectrum.scaled.T) @ spectrum.scaled).toarray())

    return scores


def content_neighbours(
    liked: sparse.csr_array, vectors: sparse.csr_array, neighbours: int
) -> sparse.csr_array:
    """Return (n_items, n_items) cosines of every item to its nearest items that have a user.

    A row of `vectors` without entries is an item without this content: it has no neighbours.
    """
    has_content = np.diff(vectors.indptr) > 0
    sources = np.flatnonzero((np.asarray(liked.sum(axis=0)).ravel() > 0) & has_content)
    targets = np.flatnonzero(has_content)
    unit = unit_rows(vectors)
    if 2 * unit.nnz > np.prod(unit.shape):
        unit = unit.toarray()
    count = min(neighbours, len(sources))
    rows, columns, values = [], [], []
    for start in range(0, len(targets), BLOCK):
        block = targets[start : start + BLOCK]
        cosine = dense(unit[block] @ unit[sources].T)
        cosine[block[:, None] == sources] = -np.inf
        nearest = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
        rows.append(sources[nearest].ravel())
        columns.append(np.repeat(block, count))
        values.append(np.take_along_axis(cosine, nearest, axis=1).ravel())
    source, target, weight = (np.concatenate(parts) for parts in (rows, columns, values))
    keep = weight > 0
    shape = (len(has_content), len(has_content))
    return sparse.csr_array((weight[keep], (source[keep], target[keep])), shape=shape)


def unit_rows(vectors: sparse.csr_array) -> sparse.csr_array:
    """Scale rows to length 1; rows without entries stay so."""
    length = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
    return sparse.csr_array(sparse.diags_array(1.0 / np.where(length > 0, length, 1.0)) @ vectors)


def dense(matrix: sparse.csr_array | Values) -> Values:
    """Return a matrix as a plain array."""
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


def mean_z(scorers: Sequence[Scorer]) -> Scorer:
    """Score by the mean over scorers of a user's z-scores over all items; a constant row counts 0."""

    def scores(users: NDArray[np.int64]) -> Values:
        total = 0.0
        for scorer in scorers:
            found = scorer(users)
            spread = found.std(axis=1, keepdims=True)
            total += (found - found.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
        return np.asarray(total / len(scorers))

    return scores


def _transitions(matrix: sparse.csr_array, alpha: float) -> sparse.csr_array:
    total = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    steps = sparse.csr_array(sparse.diags_array(1.0 / np.maximum(total, 1.0)) @ matrix)
    steps.data **= alpha
    return steps
