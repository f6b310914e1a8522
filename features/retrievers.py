"""Retrievers: models that score every item for a user from the user's history."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol, Self

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from features import item_models
from features.errors import ConfigError
from features.frame import BoolArray, FloatArray
from features.history import History
from features.space import ModalityVectors

BEHAVIOUR = "behaviour"
ITEM_MODELS: Mapping[str, Callable[..., sparse.csr_array]] = {
    "item_knn": item_models.item_knn,
    "ease": item_models.ease,
    "rp3beta": item_models.rp3beta,
}
WHOLE = ("neighbours", "factors", "iterations")
ABOVE_ZERO = ("l2", "regularization", "alpha")
BEHAVIOUR_KINDS = ("popularity", *ITEM_MODELS, "als")


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

    def scores(self, liked: sparse.csr_array) -> FloatArray:
        """Return (n_users, n_items) float32 scores; a user's row depends on that user's history alone."""
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


@dataclass(frozen=True)
class PopularityRetriever:
    """Scores every item by the number of users who liked it, the same for everybody."""

    kind: ClassVar[str] = "popularity"
    name: str
    block: str
    counts: FloatArray

    def scores(self, liked: sparse.csr_array) -> FloatArray:
        """Return the counts for every user."""
        return np.tile(self.counts, (liked.shape[0], 1))

    def resized(self, n_items: int) -> Self:
        """Return counts of 0 for the new items."""
        return replace(self, counts=_padded(self.counts, n_items))

    def save(self, folder: Path) -> None:
        """Write the counts."""
        _save(folder, self, {"counts": self.counts})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the counts."""
        meta, arrays = _load(folder)
        return cls(meta["name"], meta["block"], arrays["counts"])


@dataclass(frozen=True)
class ItemItemRetriever:
    """Scores items by liked @ W.

    Attributes
    ----------
    weights
        (n_items, n_items) sparse W, source item to target item.
    known
        (n_items,) bool: the model knows the item. Others get no opinion, and so does a user none of
        whose items it knows.
    """

    kind: ClassVar[str] = "item_item"
    name: str
    block: str
    weights: sparse.csr_array
    known: BoolArray

    def scores(self, liked: sparse.csr_array) -> FloatArray:
        """Return the sums of the weights from the liked items."""
        scores: FloatArray = (liked @ self.weights).toarray().astype(np.float32, copy=False)
        return _without_opinion(scores, liked, self.known)

    def resized(self, n_items: int) -> Self:
        """Return the model with no weight from or to the new items."""
        w = self.weights
        indptr = np.concatenate([w.indptr, np.full(n_items - w.shape[0], w.indptr[-1])])
        weights = sparse.csr_array((w.data, w.indices, indptr), shape=(n_items, n_items))
        return replace(self, weights=weights, known=_padded(self.known, n_items))

    def save(self, folder: Path) -> None:
        """Write the sparse weights."""
        w = self.weights
        _save(folder, self, {"data": w.data, "indices": w.indices, "indptr": w.indptr, "known": self.known})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the sparse weights."""
        meta, arrays = _load(folder)
        n = len(arrays["known"])
        weights = sparse.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n, n))
        return cls(meta["name"], meta["block"], weights, arrays["known"])


@dataclass(frozen=True)
class FactorRetriever:
    """Implicit ALS (Hu et al., 2008): a user's factors are solved from the liked items at scoring.

    Attributes
    ----------
    factors
        (n_fitted, n_factors) float32 item factors. Items appended after the fit have none: rows of zeros
        would change the rounding of the products, and with it the scores of the others.
    known
        (n_items,) bool: the item had an interaction.
    """

    kind: ClassVar[str] = "als"
    name: str
    block: str
    factors: FloatArray
    known: BoolArray
    regularization: float
    alpha: float

    def scores(self, liked: sparse.csr_array) -> FloatArray:
        """Return the dot products of folded-in user factors and item factors."""
        from implicit.als import AlternatingLeastSquares

        n_fitted = len(self.factors)
        scores = np.full((liked.shape[0], len(self.known)), np.nan, dtype=np.float32)
        # implicit brings its own threads, which those of BLAS would slow down.
        with threadpool_limits(1, user_api="blas"):
            solver = AlternatingLeastSquares(
                factors=self.factors.shape[1],
                regularization=self.regularization,
                alpha=self.alpha,
                use_gpu=False,
            )
            solver.item_factors = self.factors
            fitted = sparse.csr_matrix(liked[:, :n_fitted])
            users = solver.recalculate_user(np.arange(liked.shape[0]), fitted)
            # One product a user: the bits must not depend on who else is in the batch.
            for row, user in enumerate(np.asarray(users)):
                np.dot(self.factors, user, out=scores[row, :n_fitted])
        return _without_opinion(scores, liked, self.known)

    def vectors(self) -> ModalityVectors:
        """Return behaviour as vectors: the factors of the items, present where an item had an interaction."""
        return ModalityVectors(_padded(self.factors, len(self.known)), self.known)

    def resized(self, n_items: int) -> Self:
        """Return the model without factors of the new items."""
        return replace(self, known=_padded(self.known, n_items))

    def save(self, folder: Path) -> None:
        """Write the item factors."""
        arrays = {"factors": self.factors, "known": self.known}
        _save(folder, self, arrays, regularization=self.regularization, alpha=self.alpha)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the item factors."""
        meta, arrays = _load(folder)
        return cls(
            meta["name"],
            meta["block"],
            arrays["factors"],
            arrays["known"],
            meta["regularization"],
            meta["alpha"],
        )


def fit_behaviour(
    kind: str, history: History, params: Mapping[str, float], *, seed: int = 0
) -> PopularityRetriever | ItemItemRetriever | FactorRetriever:
    """Fit the behaviour retriever `kind` on a history.

    Raises
    ------
    ConfigError
        If the kind or one of its parameters is unknown.
    """
    check_parameters(kind, params)
    if kind == "popularity":
        return PopularityRetriever(kind, BEHAVIOUR, history.popularity)
    if kind == "als":
        return _fit_als(history, seed=seed, **params)  # type: ignore[arg-type]
    weights = ITEM_MODELS[kind](history.liked, **params)
    return ItemItemRetriever(kind, BEHAVIOUR, weights, history.popularity > 0)


def check_parameters(kind: str, params: Mapping[str, float | Sequence[float]]) -> None:
    """Raise ConfigError if the kind of retriever or a parameter is unknown, or a value is out of range."""
    if kind not in BEHAVIOUR_KINDS:
        raise ConfigError(f"unknown retriever {kind!r}", fix=f"use one of {', '.join(BEHAVIOUR_KINDS)}")
    makers: Mapping[str, Callable[..., object]] = {**ITEM_MODELS, "als": _fit_als}
    known = inspect.signature(makers[kind]).parameters if kind in makers else {}
    own = [name for name in known if name not in ("liked", "history", "seed")]
    for name, values in params.items():
        if name not in own:
            raise ConfigError(
                f"retriever {kind!r} has no parameter {name!r}", fix=f"it takes {', '.join(own) or 'none'}"
            )
        for value in values if isinstance(values, Sequence) else [values]:
            _check_value(kind, name, value)


def _check_value(kind: str, name: str, value: float) -> None:
    if name in WHOLE:
        limits, within = "a whole number from 1", value >= 1 and value % 1 == 0
    elif name in ABOVE_ZERO:
        limits, within = "a number above 0", value > 0
    else:
        limits, within = "a number from 0", value >= 0
    if not (within and np.isfinite(value)):
        raise ConfigError(
            f"retriever {kind!r}, {name}: got {value!r}, expected {limits}",
            fix="put the value within its limits",
        )


def _fit_als(
    history: History,
    *,
    seed: int,
    factors: int = 64,
    regularization: float = 30.0,
    alpha: float = 10.0,
    iterations: int = 15,
) -> FactorRetriever:
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
        model.fit(sparse.csr_matrix(history.liked), show_progress=False)
    item_factors = np.asarray(model.item_factors, dtype=np.float32)
    return FactorRetriever("als", BEHAVIOUR, item_factors, history.popularity > 0, regularization, alpha)


def load_retriever(folder: Path) -> Retriever:
    """Read a retriever of any kind."""
    kinds: tuple[type[PopularityRetriever | ItemItemRetriever | FactorRetriever], ...] = (
        PopularityRetriever,
        ItemItemRetriever,
        FactorRetriever,
    )
    kind = _load(folder)[0]["kind"]
    return next(cls for cls in kinds if cls.kind == kind).load(folder)


def content_retriever(name: str, modality: ModalityVectors) -> ItemItemRetriever:
    """Return the nearest-neighbour retriever of an item modality that has a graph."""
    if modality.graph is None:
        raise ValueError(f"modality {name!r} has no graph")
    return ItemItemRetriever(f"{name}_knn", name, modality.graph, modality.present)


def _padded(array: np.ndarray, n: int) -> np.ndarray:
    return np.concatenate([array, np.zeros((n - len(array), *array.shape[1:]), dtype=array.dtype)])


def _without_opinion(scores: FloatArray, liked: sparse.csr_array, known: BoolArray) -> FloatArray:
    scores[:, ~known] = np.nan
    scores[(liked @ known.astype(np.float32)) == 0] = np.nan
    return scores


def _save(folder: Path, retriever: Retriever, arrays: Mapping[str, np.ndarray], **extra: float) -> None:
    meta = {"kind": retriever.kind, "name": retriever.name, "block": retriever.block, **extra}
    (folder / "retriever.json").write_text(json.dumps(meta, indent=1, sort_keys=True))
    np.savez(folder / "retriever.npz", **arrays)  # type: ignore[arg-type]


def _load(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:  # type: ignore[type-arg]
    with np.load(folder / "retriever.npz", allow_pickle=False) as arrays:
        return json.loads((folder / "retriever.json").read_text()), dict(arrays)
