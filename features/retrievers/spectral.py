"""A low-pass filter on the item graph, by the largest singular values of the normalised likes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from features.frame import FloatArray
from features.history import History
from features.item_models import damped
from features.retrievers.base import BEHAVIOUR
from features.retrievers.projection import ProjectionRetriever

# Singular values are equal, or zero, where they are as close as this to each other in units of the largest.
CLOSE = 1e-5
POWER_ITERATIONS, OVERSAMPLES = 4, 64


def fit_spectral(
    history: History,
    *,
    seed: int,
    factors: int = 128,
    damping: float = 0.5,
    user_damping: float = 0.5,
    min_likes: int = 3,
) -> ProjectionRetriever:
    """Fit score = (x D_i^-b V) V' D_i^b, V from the truncated SVD of D_u^-a X D_i^-b.

    With a = b = 1/2 this is the ideal low-pass filter of GF-CF (Shen et al., 2021), with a = 0 that of PSGE
    (D'Amico et al., 2023); a is `user_damping`, b `damping`. Items with fewer than `min_likes` likes are
    unknown to the model: alone with their users they would take the first singular values, and tell nothing.
    """
    degree = np.where(history.popularity >= min_likes, history.popularity, np.float32(0))
    item_scale = damped(degree, damping)
    kept = history.liked @ sparse.diags_array((degree > 0).astype(np.float32))
    likes = np.asarray(kept.sum(axis=1), dtype=np.float32).ravel()
    matrix = sparse.diags_array(damped(likes, user_damping)) @ kept @ sparse.diags_array(item_scale)
    # In single precision the order of users and items shows in the fifth digit.
    vectors = _right_singular_vectors(matrix.tocsr().astype(np.float64), factors, seed)
    inverse = np.divide(1.0, item_scale, out=np.zeros_like(item_scale), where=degree > 0)
    source: FloatArray = (item_scale[:, None] * vectors).astype(np.float32)
    target: FloatArray = (inverse[:, None] * vectors).astype(np.float32)
    return ProjectionRetriever("spectral", BEHAVIOUR, source, target, degree > 0)


def _right_singular_vectors(matrix: sparse.csr_array, factors: int, seed: int) -> NDArray[np.float64]:
    """(n_columns, up to `factors`) vectors of the largest singular values.

    Values that are equal to the first one left out are left out too, unless none is larger: which vectors
    belong to which of them would be chance.
    """
    from sklearn.utils.extmath import randomized_svd

    nothing = np.zeros((matrix.shape[1], 1))
    if not matrix.nnz:
        return nothing
    _, values, vectors = randomized_svd(
        matrix,
        n_components=min(factors + 1, *matrix.shape),
        n_oversamples=OVERSAMPLES,
        n_iter=POWER_ITERATIONS,
        random_state=seed,
    )
    left_out = values[factors] if len(values) > factors else 0.0
    larger = np.flatnonzero(values[:factors] - left_out > CLOSE * values[0])
    chosen: NDArray[np.float64] = vectors[larger if len(larger) else slice(factors)].T
    return chosen
