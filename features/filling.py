"""Filling instead of dropping: vectors for items that lack a modality, guessed from what is known of them.

Missing vectors come from the item graph (neighbour mean, personalised PageRank; Malitesta et al., CIKM 2024)
or from the other modalities of the item (ridge, canonical correlation). A guess is used wherever vectors are:
similarity, neighbours, components. It is never presence: the item still counts as lacking the modality.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np
from scipy import sparse

from features.frame import BoolArray, FloatArray
from features.item_models import item_knn
from features.space import ModalityVectors, Space, nearest_items

Method = Literal["none", "neighbour_mean", "pagerank", "ridge", "cca"]
METHODS: tuple[Method, ...] = get_args(Method)

NEIGHBOURS = 20
RESTART, STEPS = 0.15, 15
FEWEST_PAIRS = 30
MOST_CANONICAL = 16
# Share of the variance, on items left out, below which a modality is not taken to tell another one.
LEAST_EXPLAINED = 0.05

Guess = tuple[FloatArray, BoolArray]
Regressor = Callable[[int, int, int], Any]


def filled(
    items: Space,
    liked: sparse.csr_array,
    method: Method,
    *,
    sources: BoolArray,
    targets: BoolArray | None = None,
    fixed: Container[str] = (),
) -> Space:
    """Return the modalities with guessed vectors where there is something to guess them from.

    Parameters
    ----------
    items
        Encoded modalities; earlier guesses are made anew.
    liked
        (n_users, n_items) likes before the cut; behaviour is a neighbourhood as contents are.
    sources
        (n_items,) items that may be learned from: those that were known when the model was trained.
    targets
        (n_items,) items to guess for, None for all. The guesses for one item do not depend on other targets.
    fixed
        Modalities that stay as they are, such as categories.
    """
    if method == "none":
        return items
    wanted = np.ones(len(sources), dtype=bool) if targets is None else targets
    found = {}
    for name, modality in items.items():
        if name in fixed:
            found[name] = modality
            continue
        others = {other: vectors for other, vectors in items.items() if other != name}
        missing = wanted & ~modality.own
        rows, known = _GUESSES[method](modality, others, liked, sources, missing)
        kept = modality.filled & ~wanted
        vectors = np.where(kept[:, None], modality.vectors, rows)
        found[name] = modality.guessing(vectors, (missing & known) | kept)
    return found


def _neighbour_mean(
    modality: ModalityVectors, others: Space, liked: sparse.csr_array, sources: BoolArray, missing: BoolArray
) -> Guess:
    """Average the vectors of the neighbours that have one, each neighbourhood weighing the same."""
    known = sources & modality.own
    near = _neighbourhoods(others, liked, known, missing)
    return _normalised(near @ modality.vectors.astype(np.float64), near.sum(axis=1))


def _pagerank(
    modality: ModalityVectors, others: Space, liked: sparse.csr_array, sources: BoolArray, missing: BoolArray
) -> Guess:
    """Average all known vectors by the personalised PageRank of the item, with restarts at itself.

    Row j of (1 - a) sum_t a^t P^t, applied to the known vectors and to their indicator by power iteration.
    """
    known = sources & modality.own
    near = _neighbourhoods(others, liked, sources, sources | missing)
    start = np.column_stack([modality.vectors * known[:, None], known]).astype(np.float64)
    total, step = start.copy(), start
    for _ in range(STEPS):
        step = (1.0 - RESTART) * (near @ step)
        total += step
    return _normalised(total[:, :-1], total[:, -1])


def _neighbourhoods(
    others: Space, liked: sparse.csr_array, known: BoolArray, targets: BoolArray
) -> sparse.csr_array:
    """Return (n_items, n_items) shares of the known neighbours of each target; a row sums to 1 or 0."""
    n = len(known)
    graphs = [
        nearest_items(other, known & other.own, NEIGHBOURS, targets & other.own) for other in others.values()
    ]
    if liked.nnz:
        graphs.append(item_knn(liked, neighbours=NEIGHBOURS))
    rows = sparse.diags_array(targets.astype(np.float64))
    total = sparse.csr_array((n, n))
    for graph in graphs:
        total = total + _row_shares(rows @ graph.T @ sparse.diags_array(known.astype(np.float64)))
    return _row_shares(total)


def _row_shares(matrix: sparse.csr_array) -> sparse.csr_array:
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return sparse.csr_array(
        sparse.diags_array(np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)) @ matrix
    )


def _normalised(total: np.ndarray, weight: np.ndarray) -> Guess:
    known = weight > 0
    return (total / np.where(known, weight, 1.0)[:, None]).astype(np.float32), known


def _mapped(make: Regressor) -> Callable[..., Guess]:
    """Return what maps the other modalities of an item to the missing one."""

    def guess(
        modality: ModalityVectors,
        others: Space,
        liked: sparse.csr_array,
        sources: BoolArray,
        missing: BoolArray,
    ) -> Guess:
        total, weight = np.zeros(modality.vectors.shape), np.zeros(len(missing))
        for other, model, quality in _maps(modality, others, sources, make):
            rows = np.flatnonzero(missing & other.own)
            if len(rows):
                total[rows] += quality * model.predict(other.unit[rows].astype(np.float64))
                weight[rows] += quality
        return _normalised(total, weight)

    return guess


def _maps(
    modality: ModalityVectors, others: Space, sources: BoolArray, make: Regressor
) -> Iterator[tuple[ModalityVectors, Any, float]]:
    """Yield the modalities that tell this one, with the fitted map and its R2 on items left out of it."""
    for other in others.values():
        both = np.flatnonzero(sources & modality.own & other.own)
        if len(both) < FEWEST_PAIRS:
            continue
        held = np.arange(len(both)) % 5 == 0
        x, y = other.unit[both].astype(np.float64), modality.vectors[both].astype(np.float64)
        quality = _explained(_fitted(make, x[~held], y[~held]).predict(x[held]), y[held], y[~held])
        if quality > LEAST_EXPLAINED:
            yield other, _fitted(make, x, y), quality


def _fitted(make: Regressor, x: np.ndarray, y: np.ndarray) -> Any:  # noqa: ANN401 - scikit-learn is untyped
    with warnings.catch_warnings():
        # Canonical pairs beyond the rank of the data do not converge and carry nothing.
        warnings.simplefilter("ignore")
        return make(len(x), x.shape[1], y.shape[1]).fit(x, y)


def _explained(guessed: np.ndarray, truth: np.ndarray, seen: np.ndarray) -> float:
    """Return the share of the variance of the truth that is explained, over all components together."""
    rest = float(((truth - guessed.reshape(truth.shape)) ** 2).sum())
    return 1.0 - rest / max(float(((truth - seen.mean(axis=0)) ** 2).sum()), 1e-12)


def _ridge(n: int, wide: int, tall: int) -> Any:  # noqa: ANN401 - scikit-learn is untyped
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)


def _cca(n: int, wide: int, tall: int) -> Any:  # noqa: ANN401 - scikit-learn is untyped
    from sklearn.cross_decomposition import CCA

    return CCA(n_components=max(1, min(wide, tall, n // 10, MOST_CANONICAL)), max_iter=500)


_GUESSES: Mapping[str, Callable[..., Guess]] = {
    "neighbour_mean": _neighbour_mean,
    "pagerank": _pagerank,
    "ridge": _mapped(_ridge),
    "cca": _mapped(_cca),
}
