"""Implicit ALS: factors of items, from which a user's factors are solved at scoring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from features.frame import BoolArray, FloatArray, IntArray
from features.history import History
from features.item_models import damped
from features.retrievers.base import BEHAVIOUR, load_model, padded, save_model, without_opinion
from features.retrievers.products import exact_products, on_grid
from features.space import ModalityVectors


@dataclass(frozen=True)
class FactorRetriever:
    """Implicit ALS (Hu et al., 2008): a user's factors are solved from the liked items at scoring.

    Attributes
    ----------
    factors
        (repeats, n_fitted, n_factors) float32 item factors of several fits, whose scores are averaged.
        Items appended after the fit have none: rows of zeros would change the rounding of the products,
        and with it the scores of the others.
    item_weights
        (n_fitted,) float32: alpha times the weight of a liked item is the confidence in it.
    known
        (n_items,) bool: the item had an interaction.
    """

    kind: ClassVar[str] = "als"
    name: str
    block: str
    factors: FloatArray
    item_weights: FloatArray
    known: BoolArray
    regularization: float
    alpha: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "factors", on_grid(self.factors))

    def scores(self, history: History, users: IntArray) -> FloatArray:
        """Return the dot products of folded-in user factors and item factors, the mean of all fits."""
        liked = history.liked[users]
        n_fitted = self.factors.shape[1]
        total = np.zeros((len(users), n_fitted))
        weighted = _weighted(liked[:, :n_fitted], self.item_weights)
        # implicit brings its own threads, which those of BLAS would slow down.
        with threadpool_limits(1, user_api="blas"):
            for factors in self.factors:
                for columns, products in exact_products(self._solved(factors, weighted), factors):
                    total[:, columns] += products
        scores = np.full((len(users), len(self.known)), np.nan, dtype=np.float32)
        scores[:, :n_fitted] = total / len(self.factors)
        return without_opinion(scores, liked, self.known)

    def _solved(self, factors: FloatArray, weighted: sparse.csr_matrix) -> np.ndarray:
        from implicit.als import AlternatingLeastSquares

        solver = AlternatingLeastSquares(
            factors=factors.shape[1], regularization=self.regularization, alpha=self.alpha, use_gpu=False
        )
        solver.item_factors = factors
        return np.asarray(solver.recalculate_user(np.arange(weighted.shape[0]), weighted))

    def vectors(self) -> ModalityVectors:
        """Return behaviour as vectors: item factors of the first fit, present where there was a like."""
        return ModalityVectors(padded(self.factors[0], len(self.known)), self.known)

    def resized(self, n_items: int) -> Self:
        """Return the model without factors of the new items."""
        return replace(self, known=padded(self.known, n_items))

    def save(self, folder: Path) -> None:
        """Write the item factors and weights."""
        arrays = {"factors": self.factors, "item_weights": self.item_weights, "known": self.known}
        save_model(folder, self, arrays, regularization=self.regularization, alpha=self.alpha)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the item factors and weights."""
        meta, arrays = load_model(folder)
        return cls(
            meta["name"],
            meta["block"],
            arrays["factors"],
            arrays["item_weights"],
            arrays["known"],
            meta["regularization"],
            meta["alpha"],
        )


def fit_als(
    history: History,
    *,
    seed: int,
    factors: int = 64,
    regularization: float = 30.0,
    alpha: float = 10.0,
    iterations: int = 15,
    damping: float = 0.0,
    repeats: int = 1,
) -> FactorRetriever:
    """Factorise the liked items by implicit ALS, `repeats` times from different starts.

    The confidence in a pair is alpha times degree^-damping of its item, scaled so that its mean over the
    pairs is alpha.
    """
    item_weights = damped(history.popularity, damping).astype(np.float32)
    weighted = _weighted(history.liked, item_weights)
    fits = []
    for start in [seed, *np.random.SeedSequence(seed).generate_state(repeats - 1).tolist()]:
        fits.append(_item_factors(weighted, start, factors, regularization, alpha, iterations))
    return FactorRetriever(
        "als", BEHAVIOUR, np.stack(fits), item_weights, history.popularity > 0, regularization, alpha
    )


def _item_factors(
    weighted: sparse.csr_matrix,
    seed: int,
    factors: int,
    regularization: float,
    alpha: float,
    iterations: int,
) -> FloatArray:
    from implicit.als import AlternatingLeastSquares

    with threadpool_limits(1, user_api="blas"):
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularization,
            alpha=alpha,
            iterations=iterations,
            random_state=seed,
            use_gpu=False,
        )
        model.fit(weighted, show_progress=False)
    return np.asarray(model.item_factors, dtype=np.float32)


def _weighted(liked: sparse.csr_array, item_weights: FloatArray) -> sparse.csr_matrix:
    return sparse.csr_matrix((item_weights[liked.indices], liked.indices, liked.indptr), shape=liked.shape)
