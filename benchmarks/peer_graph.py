"""LightGCN and FREEDOM in numpy and scipy, gradients written out: both are linear in their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from peer_models import Scorer, content_neighbours
from scipy import sparse

Rows = NDArray[np.float32]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Readout:
    """The linear map from the embeddings of all nodes, users before items, to what is scored.

    Attributes
    ----------
    graph
        (n_nodes, n_nodes) symmetric graph of what is liked.
    layers
        Steps over it.
    items
        (n_items, n_items) graph of the items; one step over it is added to the items.
    """

    graph: sparse.csr_array
    layers: int
    items: sparse.csr_array | None = None

    def forth(self, rows: Rows) -> Rows:
        """Return what is scored."""
        return self._with_items(propagate(self.graph, rows, self.layers), rows, self.items)

    def back(self, slopes: Rows) -> Rows:
        """Return the slopes of the embeddings, given those of what is scored."""
        transposed = None if self.items is None else self.items.T
        return self._with_items(propagate(self.graph, slopes, self.layers), slopes, transposed)

    @staticmethod
    def _with_items(whole: Rows, rows: Rows, items: sparse.csr_array | None) -> Rows:
        if items is not None:
            whole[-items.shape[0] :] += items @ rows[-items.shape[0] :]
        return whole


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
    """Train LightGCN (He et al., 2020)."""
    whole = Readout(normalised_graph(liked), layers)
    return trained(
        liked, whole, lambda rng: whole, seed, epochs=epochs, rate=rate, l2=l2, factors=factors, batch=batch
    )


def freedom(
    liked: sparse.csr_array,
    seed: int,
    contents: Sequence[sparse.csr_array],
    *,
    layers: int,
    epochs: int,
    rate: float,
    l2: float,
    dropout: float,
    neighbours: int,
    factors: int = 64,
    batch: int = 4096,
) -> Scorer:
    """Train FREEDOM (Zhou and Shen, 2023) without its losses on projected contents.

    LightGCN whose items also take one step over a frozen graph of neighbours by content, and which sees in
    every epoch some of the likes only; those of busy users and popular items are dropped more often.
    """
    items = frozen_graph(contents, neighbours)
    whole = Readout(normalised_graph(liked), layers, items)

    def pruned(rng: np.random.Generator) -> Readout:
        return Readout(normalised_graph(some_of(liked, 1.0 - dropout, rng)), layers, items)

    seen = pruned if dropout else lambda rng: whole
    return trained(liked, whole, seen, seed, epochs=epochs, rate=rate, l2=l2, factors=factors, batch=batch)


def trained(
    liked: sparse.csr_array,
    whole: Readout,
    seen: Callable[[np.random.Generator], Readout],
    seed: int,
    *,
    epochs: int,
    rate: float,
    l2: float,
    factors: int,
    batch: int,
) -> Scorer:
    """Train with the BPR loss, one random negative a positive, and Adam; `seen` gives an epoch's."""
    rng = np.random.default_rng(seed)
    n_users, n_items = liked.shape
    embeddings = (0.1 * rng.standard_normal((n_users + n_items, factors))).astype(np.float32)
    optimiser = Adam(embeddings, rate)
    users, items = (codes.astype(np.int64) for codes in liked.nonzero())
    for _ in range(epochs):
        readout = seen(rng)
        negatives = draw_negatives(users, items, n_items, rng)
        for rows in np.array_split(rng.permutation(len(users)), max(1, len(users) // batch)):
            nodes = (users[rows], n_users + items[rows], n_users + negatives[rows])
            optimiser.step(gradient(readout, embeddings, nodes, l2))
    final = whole.forth(embeddings)
    return lambda codes: np.asarray(final[codes] @ final[n_users:].T, dtype=np.float64)


def frozen_graph(contents: Sequence[sparse.csr_array], neighbours: int) -> sparse.csr_array:
    """Return the (n_items, n_items) mean over contents of graphs: an item is the mean of its nearest."""
    n_items = contents[0].shape[0]
    everybody = sparse.csr_array(np.ones((1, n_items), np.float32))
    total = sparse.csr_array((n_items, n_items), dtype=np.float32)
    for vectors in contents:
        nearest = sparse.csr_array(content_neighbours(everybody, vectors, neighbours).T, dtype=np.float32)
        nearest.data[:] = 1.0
        count = np.maximum(np.asarray(nearest.sum(axis=1)).ravel(), 1.0)
        total += sparse.diags_array(1.0 / (len(contents) * count), dtype=np.float32) @ nearest
    return sparse.csr_array(total)


def some_of(liked: sparse.csr_array, share: float, rng: np.random.Generator) -> sparse.csr_array:
    """Return that share of the likes, drawn by 1 / sqrt(likes of the user times likes of the item)."""
    users, items = liked.nonzero()
    degrees = [np.asarray(liked.sum(axis=axis)).ravel()[codes] for axis, codes in ((1, users), (0, items))]
    # The least of exponential variates with these rates are a draw without replacement by these weights.
    waiting = rng.exponential(size=len(users)) * np.sqrt(degrees[0] * degrees[1])
    count = max(1, round(share * len(users)))
    kept = np.argpartition(waiting, count - 1)[:count]
    return sparse.csr_array((np.ones(len(kept), np.float32), (users[kept], items[kept])), shape=liked.shape)


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


def gradient(readout: Readout, embeddings: Rows, nodes: tuple[Codes, Codes, Codes], l2: float) -> Rows:
    """Return the gradient of the mean of -log sigmoid(u.i - u.j) plus l2/2 of the triple's embeddings."""
    size = len(nodes[0])
    whole = readout.forth(embeddings)
    user, item, other = (whole[part] for part in nodes)
    slope = (-1.0 / (1.0 + np.exp(np.sum(user * (item - other), axis=1, keepdims=True))) / size).astype(
        np.float32
    )
    stacked = np.concatenate([slope * (item - other), slope * user, -slope * user])
    every = np.concatenate(nodes)
    to_nodes = sparse.csr_array(
        (np.ones(len(every), np.float32), (every, np.arange(len(every)))), shape=(len(embeddings), len(every))
    )
    return readout.back(to_nodes @ stacked) + to_nodes @ (embeddings[every] * np.float32(l2 / size))


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
