"""LightGCN without user embeddings: learned item embeddings, smoothed over the graph of likes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from features.errors import ConfigError
from features.frame import FloatArray, IntArray
from features.history import History
from features.retrievers.base import BEHAVIOUR
from features.retrievers.projection import ProjectionRetriever

INITIAL_SCALE = 0.1


def fit_lightgcn(
    history: History,
    *,
    seed: int,
    factors: int = 64,
    layers: int = 2,
    epochs: int = 20,
    learning_rate: float = 0.01,
    regularization: float = 1e-3,
    batch_size: int = 8192,
) -> ProjectionRetriever:
    """Fit LightGCN (He et al., 2020) with BPR loss (Rendle et al., 2009), in which a user is his items.

    With A = D_u^-1/2 X D_i^-1/2 and item embeddings E, layer l of the items is E_l = (A'A)^l E and that of
    the users A E_l: LightGCN whose users start from zeros. So a user who came after the fit is placed just
    as those of the fit were. Items are scored by the means of their layers.

    Raises
    ------
    ConfigError
        If torch is not installed.
    """
    torch = _torch()
    known = history.popularity > 0
    graph = _Graph.of(history.liked, torch)
    start = np.random.default_rng(seed).normal(scale=INITIAL_SCALE, size=(history.n_items, factors))
    embeddings = torch.nn.Parameter(torch.from_numpy((start * known[:, None]).astype(np.float32)))
    optimizer = torch.optim.Adam([embeddings], lr=learning_rate)
    for users, liked, others in _triples(history.liked, epochs, batch_size, seed):
        user_layer, item_layer = graph.propagated(embeddings, layers)
        of_users, of_liked, of_others = (
            torch.nn.functional.embedding(torch.from_numpy(rows), layer)
            for rows, layer in ((users, user_layer), (liked, item_layer), (others, item_layer))
        )
        margin = (of_users * (of_liked - of_others)).sum(dim=1)
        drawn = torch.nn.functional.embedding(torch.from_numpy(np.concatenate([liked, others])), embeddings)
        penalty = regularization * drawn.square().sum() / len(users)
        loss = torch.nn.functional.softplus(-margin).mean() + penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        layer_list = graph.item_layers(embeddings, layers)
        source, target = sum(layer_list[:-1]) / layers, sum(layer_list) / (layers + 1)
    scale = np.divide(1.0, np.sqrt(history.popularity), out=np.zeros(len(known)), where=known)
    source_array: FloatArray = (scale[:, None] * source.numpy()).astype(np.float32)
    return ProjectionRetriever("lightgcn", BEHAVIOUR, source_array, target.numpy(), known, likes_power=0.5)


@dataclass(frozen=True)
class _Graph:
    """The normalised likes as torch matrices, from items to users and back."""

    to_users: Any
    to_items: Any

    @classmethod
    def of(cls, liked: sparse.csr_array, torch: Any) -> _Graph:  # noqa: ANN401
        pairs = liked.tocoo()
        likes, degree = (np.asarray(liked.sum(axis=axis)).ravel() for axis in (1, 0))
        values = (1.0 / np.sqrt(likes[pairs.row] * degree[pairs.col])).astype(np.float32)

        def matrix(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Any:  # noqa: ANN401
            places = torch.from_numpy(np.stack([rows, columns]).astype(np.int64))
            made = torch.sparse_coo_tensor(places, torch.from_numpy(values), shape, check_invariants=True)
            return made.coalesce()

        n_users, n_items = liked.shape
        return cls(
            matrix(pairs.row, pairs.col, (n_users, n_items)), matrix(pairs.col, pairs.row, (n_items, n_users))
        )

    def item_layers(self, embeddings: Any, layers: int) -> list[Any]:  # noqa: ANN401
        found = [embeddings]
        for _ in range(layers):
            found.append(self.to_items @ (self.to_users @ found[-1]))
        return found

    def propagated(self, embeddings: Any, layers: int) -> tuple[Any, Any]:  # noqa: ANN401
        found = self.item_layers(embeddings, layers)
        return self.to_users @ (sum(found[:-1]) / layers), sum(found) / (layers + 1)


def _triples(
    liked: sparse.csr_array, epochs: int, batch_size: int, seed: int
) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """Yield batches of (user, item he likes, item he does not), the last drawn from the liked by anybody."""
    rng = np.random.default_rng([seed, 1])
    pairs = liked.tocoo()
    users, items = pairs.row.astype(np.int64), pairs.col.astype(np.int64)
    keys: NDArray[np.int64] = np.sort(users * liked.shape[1] + items)
    warm = np.unique(items)
    for _ in range(epochs):
        order = rng.permutation(len(users))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            others = rng.choice(warm, len(batch))
            drawn = users[batch] * liked.shape[1] + others
            place = np.minimum(np.searchsorted(keys, drawn), len(keys) - 1)
            batch, others = (array[keys[place] != drawn] for array in (batch, others))
            if len(batch):
                yield users[batch], items[batch], others


def _torch() -> Any:  # noqa: ANN401
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            "retriever 'lightgcn' needs torch, which is not installed",
            fix="pip install torch==2.13.0, or leave the retriever out",
        ) from error
    return torch
