"""LightGCN in numpy and scipy, with the gradient written out: the model is linear in its embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from peer_models import Scorer
from scipy import sparse

Rows = NDArray[np.float32]
Codes = NDArray[np.int64]


def lightgcn(
    liked: sparse.csr_array,
    seed: int,
    *,
    layers: int,
    epochs: int,
    rate: float,
    l2: float,
    factors: int = 64,
    batch: int = 4096,
) -> Scorer:
    """Train LightGCN (He et al., 2020) with the BPR loss, one random negative a positive, and Adam."""
    rng = np.random.default_rng(seed)
    n_users, n_items = liked.shape
    graph = normalised_graph(liked)
    embeddings = (0.1 * rng.standard_normal((n_users + n_items, factors))).astype(np.float32)
    optimiser = Adam(embeddings, rate)
    users, items = (codes.astype(np.int64) for codes in liked.nonzero())
    for _ in range(epochs):
        negatives = draw_negatives(users, items, n_items, rng)
        for rows in np.array_split(rng.permutation(len(users)), max(1, len(users) // batch)):
            nodes = (users[rows], n_users + items[rows], n_users + negatives[rows])
            optimiser.step(gradient(graph, embeddings, nodes, layers, l2))
    final = propagate(graph, embeddings, layers)
    return lambda codes: np.asarray(final[codes] @ final[n_users:].T, dtype=np.float64)


def normalised_graph(liked: sparse.csr_array) -> sparse.csr_array:
    """Return D^-1/2 A D^-1/2 of the bipartite graph, users before items."""
    graph = sparse.csr_array(sparse.block_array([[None, liked], [liked.T, None]]), dtype=np.float32)
    degree = np.asarray(graph.sum(axis=1)).ravel()
    scale = sparse.diags_array(np.maximum(degree, 1.0) ** -0.5, dtype=np.float32)
    return sparse.csr_array(scale @ graph @ scale)


def propagate(graph: sparse.csr_array, rows: Rows, layers: int) -> Rows:
    """Return the mean of the rows after 0 to `layers` steps over the graph."""
    total, last = rows.copy(), rows
    for _ in range(layers):
        last = graph @ last
        total += last
    return total / np.float32(layers + 1)


def gradient(
    graph: sparse.csr_array, embeddings: Rows, nodes: tuple[Codes, Codes, Codes], layers: int, l2: float
) -> Rows:
    """Return the gradient of the mean of -log sigmoid(u.i - u.j) plus l2/2 of the triple's embeddings.

    The graph is symmetric, so the gradient goes back through it as the embeddings came.
    """
    size = len(nodes[0])
    user, item, other = (propagate(graph, embeddings, layers)[part] for part in nodes)
    slope = (-1.0 / (1.0 + np.exp(np.sum(user * (item - other), axis=1, keepdims=True))) / size).astype(
        np.float32
    )
    stacked = np.concatenate([slope * (item - other), slope * user, -slope * user])
    every = np.concatenate(nodes)
    to_nodes = sparse.csr_array(
        (np.ones(len(every), np.float32), (every, np.arange(len(every)))), shape=(len(embeddings), len(every))
    )
    return propagate(graph, to_nodes @ stacked, layers) + to_nodes @ (
        embeddings[every] * np.float32(l2 / size)
    )


def draw_negatives(users: Codes, items: Codes, n_items: int, rng: np.random.Generator) -> Codes:
    """Return, for every pair, an item that its user has no pair with.

    A few tries only: a user of nearly all items may get one of them.
    """
    known = np.sort(users * n_items + items)
    negatives = rng.integers(0, n_items, len(users))
    for _ in range(5):
        keys = users * n_items + negatives
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        wrong = np.flatnonzero(known[place] == keys)
        negatives[wrong] = rng.integers(0, n_items, len(wrong))
    return negatives


class Adam:
    """Adam (Kingma and Ba, 2015) on one array, in place."""

    def __init__(self, weights: Rows, rate: float) -> None:
        self.weights, self.rate, self.steps = weights, rate, 0
        self.mean, self.square = np.zeros_like(weights), np.zeros_like(weights)

    def step(self, slope: Rows) -> None:
        """Go one step down."""
        self.steps += 1
        self.mean += 0.1 * (slope - self.mean)
        self.square += 0.001 * (slope * slope - self.square)
        rate = self.rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        self.weights -= np.float32(rate) * self.mean / (np.sqrt(self.square) + np.float32(1e-8))
