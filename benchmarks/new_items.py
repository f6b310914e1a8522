"""How well content finds items that nobody has met, and what each part of it adds.

usage: python benchmarks/new_items.py [movies tiktok] [--data DIR]

Prints a Markdown table a data set. The items of the train split are dealt into five parts. The likes of one
part at a time are hidden altogether, so that its items are as new as those that nobody likes; a retriever
that knows the other parts ranks both kinds of new items for everybody who likes one of the hidden part.
Neither validation nor test is read. NDCG@20 is the mean over users of their mean over parts, and every gain
over the first row is paired, with its 95% interval.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from ablation import EXAMPLES, ROOT, say
from log_command import log_parser, parsed
from peer_table import markdown
from scipy import sparse

from ensembles.gate import paired_bootstrap
from features.history import History
from features.item_models import unit_rows
from features.retrievers import (
    ItemItemRetriever,
    ProjectionRetriever,
    Retriever,
    content_retrievers,
    fit_behaviour,
)
from features.space import ModalityVectors, Space, with_graph
from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.encoding import fit_encoders

PARTS, K = 5, 20
FIRST = "all, cosines as they are, vectors"


@dataclass(frozen=True)
class Hidden:
    """A history without the likes of one part of the items, and what became new by that.

    Attributes
    ----------
    known
        The interactions with the other items.
    new
        Codes of the items that `known` has no interaction with.
    users, liked
        Codes of the users who like one of the part, and (n_users, n_new) bool what they like.
    """

    known: History
    new: np.ndarray
    users: np.ndarray
    liked: np.ndarray


def hidden_parts(history: History) -> Iterator[Hidden]:
    """Yield the history without each part of the items."""
    part_of = np.random.default_rng(0).integers(0, PARTS, history.n_items)
    for part in range(PARTS):
        known = history.take(part_of[history.items] != part)
        new = np.flatnonzero(known.met_by == 0)
        liked = history.liked.tocsc()[:, new].tocsr()
        able = (np.diff(liked.indptr) > 0) & (np.diff(known.liked.indptr) > 0)
        users = np.flatnonzero(able)
        yield Hidden(known, new, users, liked[users].toarray() > 0)


def retrievers_of(items: Space, known: History, neighbours: int) -> Iterator[tuple[str, Retriever]]:
    """Yield what finds new items: as it was in steps, and as it is."""
    rp3beta = fit_behaviour("rp3beta", known, {})
    liked = known.popularity > 0
    projected = {name: replace(modality, terms=None) for name, modality in items.items()}
    for told, space in (("vectors", projected), ("terms", items)):
        graphed = {name: with_graph(modality, liked, neighbours) for name, modality in space.items()}
        present = np.any([modality.present for modality in graphed.values()], axis=0)
        graphs = [modality.graph for modality in graphed.values() if modality.graph is not None]
        total = sparse.csr_array(sum(graphs[1:], start=graphs[0]))
        yield f"all, cosines as they are, {told}", ItemItemRetriever("sum", "content", total, present)
        *_, nearest, regressed, carried = content_retrievers(graphed, [rp3beta], known)
        yield f"all, balanced, {told}", nearest
        if told == "terms":
            yield "regression on all", regressed
            yield "all, balanced, terms, and the regression: mean z", MeanZ(nearest, regressed)
        yield f"RP3beta carried along all, balanced, {told}", carried
        for name, modality in graphed.items():
            if told == "vectors":
                yield f"{name}, mean cosine about the centre", profile(name, modality)
            if told == "vectors" or modality.terms is not None:
                assert modality.graph is not None
                near = ItemItemRetriever(name, name, modality.graph, modality.present)
                yield f"{name}, neighbours by {told}", near


@dataclass(frozen=True)
class MeanZ:
    """The mean of two retrievers' z-scores among the new items."""

    one: Retriever
    other: Retriever

    def scores(self, known: History, users: np.ndarray) -> np.ndarray:
        """Return (n_users, n_items) float32 means, NaN where one has no opinion, 0 where not new."""
        total = np.zeros((len(users), known.n_items), dtype=np.float32)
        for retriever in (self.one, self.other):
            scores = retriever.scores(known, users)[:, known.met_by == 0]
            mean, spread = (f(scores, axis=1, keepdims=True) for f in (np.nanmean, np.nanstd))
            total[:, known.met_by == 0] += (scores - mean) / np.maximum(spread, 1e-12)
        return total / 2


def profile(name: str, modality: ModalityVectors) -> ProjectionRetriever:
    """Return the mean cosine of an item to all that a user likes, about the centre of all items."""
    centre = modality.unit[modality.present].mean(axis=0)
    rows = unit_rows(np.where(modality.present[:, None], modality.unit - centre, np.float32(0)))
    return ProjectionRetriever(name, name, rows, rows, modality.present, likes_power=1.0)


def ndcg_of(retriever: Retriever, hidden: Hidden) -> np.ndarray:
    """Return the (n_users,) NDCG@K of the new items, ties in one random order."""
    scores = np.nan_to_num(retriever.scores(hidden.known, hidden.users)[:, hidden.new], nan=-np.inf)
    lots = np.random.default_rng(0).permutation(len(hidden.new))
    order = lots[np.argsort(-scores[:, lots], axis=1, kind="stable")[:, :K]]
    discount = 1 / np.log2(np.arange(2, order.shape[1] + 2))
    gained = np.take_along_axis(hidden.liked, order, axis=1) @ discount
    ideal = np.cumsum(discount)[np.minimum(hidden.liked.sum(axis=1), len(discount)) - 1]
    values: np.ndarray = gained / ideal
    return values


def compare(name: str, args: argparse.Namespace) -> list[str]:
    """Return the table of one data set."""
    config = load_config(ROOT / "examples" / f"{name}.yaml", [f"data.root={args.data / name}"])
    dataset = load_dataset(config)
    items = fit_encoders(dataset, say).items
    history = dataset.history(dataset.in_split("train"))
    found: dict[str, np.ndarray] = {}
    for part, hidden in enumerate(hidden_parts(history)):
        say(f"part {part + 1} of {PARTS}: {len(hidden.users)} users, {len(hidden.new)} new items")
        for title, retriever in retrievers_of(items, hidden.known, config.candidates.content_neighbours):
            values = found.setdefault(title, np.full((PARTS, history.n_users), np.nan))
            values[part, hidden.users] = ndcg_of(retriever, hidden)
    counted = ~np.isnan(found[FIRST]).all(axis=0)
    means = {title: np.nanmean(values[:, counted], axis=0) for title, values in found.items()}
    rows = []
    for title, values in means.items():
        gain = paired_bootstrap(values, means[FIRST])
        told = "" if title == FIRST else f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
        rows.append([title, f"{values.mean():.4f}", told])
    return [*markdown(["retriever", f"NDCG@{K}", "gain over the first"], rows), "", f"{counted.sum()} users."]


def main() -> None:
    """Compare on every data set and print the tables."""
    args = parsed(log_parser(__doc__, EXAMPLES))
    for name in args.names:
        print(f"**{name}**\n", *compare(name, args), "", sep="\n", flush=True)


if __name__ == "__main__":
    main()
