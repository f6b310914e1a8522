"""BM3 and MGCN in torch, from their papers and, where those leave it open, from their code in MMRec.

Both were published for two contents and take any number here. Features of the items are unit rows: a content
wider than 384 columns is first reduced to its 384 leading components. An item without a content has a row of
zeros, nothing to lose on it in BM3, and no neighbour but itself by it in MGCN. As in the code, the other rows
are trained along.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from peer_graph import Rows, draw_negatives, normalised_graph
from peer_models import Scorer, content_neighbours, unit_rows
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 384
TEMPERATURE = 0.2


def bm3(
    liked: sparse.csr_array,
    seed: int,
    contents: Sequence[sparse.csr_array],
    *,
    layers: int,
    epochs: int,
    rate: float,
    l2: float,
    dropout: float,
    content_weight: float = 2.0,
    factors: int = 64,
    batch: int = 2048,
) -> Scorer:
    """Train BM3 (Zhou et al., 2023), which needs no negatives.

    The losses on contents are summed as for two contents; of another number each weighs more or less.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BM3(liked, features_of(contents, seed), layers, dropout, l2, content_weight, factors)
        return trained(model, liked, seed, epochs=epochs, rate=rate, batch=batch)


def mgcn(
    liked: sparse.csr_array,
    seed: int,
    contents: Sequence[sparse.csr_array],
    *,
    layers: int,
    epochs: int,
    rate: float,
    l2: float,
    contrast: float,
    neighbours: int,
    factors: int = 64,
    batch: int = 1024,
) -> Scorer:
    """Train MGCN (Yu et al., 2023), its fuser and losses on the nodes of a batch alone, which is the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        graphs = [item_graph(vectors, neighbours) for vectors in contents]
        model = MGCN(liked, features_of(contents, seed), graphs, layers, l2, contrast, factors)
        return trained(model, liked, seed, epochs=epochs, rate=rate, batch=batch)


def trained(
    model: BM3 | MGCN, liked: sparse.csr_array, seed: int, *, epochs: int, rate: float, batch: int
) -> Scorer:
    """Train with Adam and return the dot products of the model's final users and items."""
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    users, items = (codes.astype(np.int64) for codes in liked.nonzero())
    for _ in range(epochs):
        negatives = draw_negatives(users, items, liked.shape[1], rng)
        for rows in np.array_split(rng.permutation(len(users)), max(1, len(users) // batch)):
            optimiser.zero_grad()
            model.loss(*(torch.from_numpy(codes[rows]) for codes in (users, items, negatives))).backward()
            optimiser.step()
    with torch.no_grad():
        final_users, final_items = (rows.numpy() for rows in model.final())
    return lambda codes: np.asarray(final_users[codes] @ final_items.T, dtype=np.float64)


class Step(torch.autograd.Function):
    """One step of rows over a graph; slopes go back over the transposed graph.

    scipy is as fast as torch's CSR matrices on a core, and those are still in beta.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, graph: sparse.csr_array) -> Tensor:
        """Return graph @ rows."""
        ctx.graph = graph
        return torch.from_numpy(graph @ rows.detach().numpy())

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, slopes: Tensor) -> tuple[Tensor, None]:
        """Return graph.T @ slopes."""
        return torch.from_numpy(ctx.graph.T @ slopes.numpy()), None


class Nodes(nn.Module):
    """Embeddings of users and items, propagated over what is liked as in LightGCN (He et al., 2020)."""

    def __init__(self, liked: sparse.csr_array, layers: int, factors: int) -> None:
        super().__init__()
        self.n_users, self.layers, self.graph = liked.shape[0], layers, normalised_graph(liked)
        self.users, self.items = (nn.Parameter(torch.empty(size, factors)) for size in liked.shape)
        nn.init.xavier_uniform_(self.users)
        nn.init.xavier_uniform_(self.items)

    def forward(self) -> Tensor:
        """Return the (n_users + n_items, factors) mean over 0 to `layers` steps, users first."""
        last = total = torch.cat([self.users, self.items])
        for _ in range(self.layers):
            last = Step.apply(last, self.graph)
            total = total + last
        return total / (self.layers + 1)


class Content(nn.Module):
    """The features of the items in one content, and their projection to the size of an embedding.

    Attributes
    ----------
    features
        (n_items, d) trained along where present.
    present
        (n_items,) one where the item has this content, else zero.
    """

    def __init__(self, features: Rows, factors: int) -> None:
        super().__init__()
        self.features = nn.Parameter(torch.from_numpy(features))
        self.present = torch.from_numpy(features.any(axis=1).astype(np.float32))
        self.project = nn.Linear(features.shape[1], factors)

    def forward(self, items: Tensor) -> Tensor:
        """Return the projected features of some items."""
        return self.project(functional.embedding(items, self.features) * self.present[items, None])


class BM3(nn.Module):
    """Two views of a user, an item or a content, one of them dropped out, predict each other.

    Attributes
    ----------
    nodes
        Users and items in a LightGCN; to its items their own embeddings are added once more.
    predict
        The predictor f of the online view, the same for all.
    """

    def __init__(
        self,
        liked: sparse.csr_array,
        features: Sequence[Rows],
        layers: int,
        dropout: float,
        l2: float,
        content_weight: float,
        factors: int,
    ) -> None:
        super().__init__()
        self.dropout, self.l2, self.content_weight = dropout, l2, content_weight
        self.nodes = Nodes(liked, layers, factors)
        self.contents = nn.ModuleList(Content(rows, factors) for rows in features)
        self.predict = nn.Linear(factors, factors)
        for layer in (self.predict, *(content.project for content in self.contents)):
            nn.init.xavier_normal_(layer.weight)

    def online(self) -> tuple[Tensor, Tensor]:
        """Return all users and items before the predictor."""
        whole = self.nodes()
        return whole[: self.nodes.n_users], whole[self.nodes.n_users :] + self.nodes.items

    def final(self) -> tuple[Tensor, Tensor]:
        """Return the users and items whose dot products are the scores."""
        users, items = self.online()
        return self.predict(users), self.predict(items)

    def loss(self, users: Tensor, items: Tensor, negatives: Tensor) -> Tensor:
        """Return BM3's loss: of likes and contents, and l2 times the norms over the number of items."""
        all_users, all_items = self.online()
        of_users, of_items = all_users[users], all_items[items]
        target = self.target(of_items)
        likes = apart(self.predict(of_users), target) + apart(self.predict(of_items), self.target(of_users))
        norms = (torch.linalg.norm(all_users) + torch.linalg.norm(all_items)) / len(all_items)
        contents = sum(self.content_loss(content, items, target) for content in self.contents)
        weight = self.content_weight * 2 / len(self.contents)
        return (likes + weight * contents).mean() + self.l2 * norms

    def content_loss(self, content: Content, items: Tensor, target: Tensor) -> Tensor:
        """Return, an item, how far its content is from the item and from its own dropped-out view."""
        rows = content(items)
        online = self.predict(rows)
        return content.present[items] * (apart(online, target) + apart(online, self.target(rows)))

    def target(self, rows: Tensor) -> Tensor:
        """Return the other view, through which no slopes go back."""
        return functional.dropout(rows.detach(), self.dropout)


class View(nn.Module):
    """What MGCN keeps of one content: its features, its graph of the items, and its two gates.

    Attributes
    ----------
    graph
        (n_items, n_items) graph of the neighbours by this content.
    purify
        Gate by which the content chooses from an item's own embedding (behaviour-guided purifier).
    prefer
        Gate by which behaviour chooses from what is of this content alone (behaviour-aware fuser).
    """

    def __init__(self, features: Rows, graph: sparse.csr_array, factors: int) -> None:
        super().__init__()
        self.content, self.graph = Content(features, factors), graph
        self.every = torch.arange(len(features))
        self.purify, self.prefer = (nn.Sequential(nn.Linear(factors, factors), nn.Sigmoid()) for _ in "ab")

    def forward(self, items: Tensor, to_users: sparse.csr_array) -> Tensor:
        """Return all users and items as this content sees them."""
        of_items = Step.apply(items * self.purify(self.content(self.every)), self.graph)
        return torch.cat([Step.apply(of_items, to_users), of_items])


class MGCN(nn.Module):
    """A LightGCN of what is liked beside a view a content, fused by attention and by behaviour.

    Attributes
    ----------
    nodes
        Users and items in the LightGCN.
    views
        The contents.
    query
        The attention that a view gets, by which what the views share is their weighted mean.
    """

    def __init__(
        self,
        liked: sparse.csr_array,
        features: Sequence[Rows],
        graphs: Sequence[sparse.csr_array],
        layers: int,
        l2: float,
        contrast: float,
        factors: int,
    ) -> None:
        super().__init__()
        self.l2, self.contrast = l2, contrast
        self.nodes = Nodes(liked, layers, factors)
        n_users = liked.shape[0]
        self.to_users = sparse.csr_array(self.nodes.graph[:n_users, n_users:])
        self.views = nn.ModuleList(
            View(rows, graph, factors) for rows, graph in zip(features, graphs, strict=True)
        )
        self.query = nn.Sequential(nn.Linear(factors, factors), nn.Tanh(), nn.Linear(factors, 1, bias=False))

    def forward(self, codes: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return what behaviour and what the contents say of some nodes, users before items."""
        behaviour = self.nodes()[codes]
        views = [view(self.nodes.items, self.to_users)[codes] for view in self.views]
        weights = torch.softmax(torch.cat([self.query(rows) for rows in views], dim=1), dim=1)
        common = sum(weights[:, [place]] * rows for place, rows in enumerate(views))
        alone = [
            view.prefer(behaviour) * (rows - common) for view, rows in zip(self.views, views, strict=True)
        ]
        return behaviour, (common + sum(alone)) / (len(views) + 1)

    def final(self) -> tuple[Tensor, Tensor]:
        """Return the users and items whose dot products are the scores."""
        behaviour, side = self(slice(None))
        whole = behaviour + side
        return whole[: self.nodes.n_users], whole[self.nodes.n_users :]

    def loss(self, users: Tensor, items: Tensor, negatives: Tensor) -> Tensor:
        """Return MGCN's loss: BPR, l2/2 times squared lengths a triple, InfoNCE of contents and behaviour."""
        size, n_users = len(users), self.nodes.n_users
        behaviour, side = self(torch.cat([users, n_users + items, n_users + negatives]))
        whole = behaviour + side
        user, item, other = whole.split(size)
        likelihood = functional.logsigmoid((user * (item - other)).sum(dim=1)).mean()
        pairs = list(zip(side.split(size), behaviour.split(size), strict=True))[:2]
        contrast = sum(info_nce(*pair) for pair in pairs)
        return self.l2 / 2 / size * whole.square().sum() - likelihood + self.contrast * contrast


def info_nce(rows: Tensor, others: Tensor) -> Tensor:
    """Return the InfoNCE loss (van den Oord et al., 2018) of pairs, by cosines over a temperature of 0.2."""
    rows, others = (functional.normalize(part, dim=1) for part in (rows, others))
    total = torch.exp(rows @ others.T / TEMPERATURE).sum(dim=1)
    return (torch.log(total) - (rows * others).sum(dim=1) / TEMPERATURE).mean()


def apart(rows: Tensor, others: Tensor) -> Tensor:
    """Return 1 - cosine of each row and its other."""
    return 1.0 - functional.cosine_similarity(rows, others, dim=-1)


def features_of(contents: Sequence[sparse.csr_array], seed: int) -> list[Rows]:
    """Return (n_items, at most 384) unit rows a content; rows without entries are zero."""
    reduced = (leading(vectors, WIDTH, seed) for vectors in contents)
    return [unit_rows(sparse.csr_array(rows)).toarray().astype(np.float32) for rows in reduced]


def leading(vectors: sparse.csr_array, width: int, seed: int) -> NDArray[np.float64]:
    """Return (n_items, at most width) leading components of a wide matrix, and a narrow one as it is.

    By the randomised decomposition of Halko et al. (2011); rows without entries stay zero to the bit.
    """
    if vectors.shape[1] <= width:
        return vectors.toarray()
    start = np.random.default_rng(seed).standard_normal((vectors.shape[1], width + 16))
    basis = np.linalg.qr(vectors @ start)[0]
    for _ in range(4):
        basis = np.linalg.qr(vectors @ np.linalg.qr(vectors.T @ basis)[0])[0]
    left, values, _ = np.linalg.svd((vectors.T @ basis).T, full_matrices=False)
    basis[np.diff(vectors.indptr) == 0] = 0.0
    return (basis @ left[:, :width]) * values[:width]


def item_graph(vectors: sparse.csr_array, neighbours: int) -> sparse.csr_array:
    """Return MGCN's D^-1/2 A D^-1/2: A holds the cosines to an item's nearest, itself the first of them."""
    everybody = sparse.csr_array(np.ones((1, vectors.shape[0]), np.float32))
    nearest = content_neighbours(everybody, vectors, neighbours - 1).T + sparse.eye_array(vectors.shape[0])
    scale = sparse.diags_array(np.asarray(nearest.sum(axis=1)).ravel() ** -0.5)
    return sparse.csr_array(scale @ nearest @ scale, dtype=np.float32)
