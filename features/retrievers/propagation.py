"""Behaviour carried over to items with few likes, along a graph of what the items are like."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from scipy import sparse

from features.frame import BoolArray, FloatArray, IntArray
from features.history import History
from features.retrievers.base import Retriever, csr_from, csr_parts, load_model, save_model, widened


@dataclass(frozen=True)
class PropagatedRetriever:
    """Scores items as another retriever does, those with few likes as a mean over their neighbours.

    Attributes
    ----------
    inner
        The retriever whose scores are carried over.
    targets
        (n_targets,) int64 items with few likes.
    mixing
        (n_targets, n_items) sparse float64 shares of the inner scores in theirs; rows sum to 1.
    """

    kind: ClassVar[str] = "propagated"
    name: str
    block: str
    inner: Retriever
    targets: IntArray
    mixing: sparse.csr_array

    @property
    def known(self) -> BoolArray:
        """(n_items,) bool: known to the inner retriever, or a target."""
        known = self.inner.known.copy()
        known[self.targets] = True
        return known

    def scores(self, history: History, users: IntArray) -> FloatArray:
        """Return the inner scores, mixed for the targets."""
        return self.mixed(self.inner.scores(history, users))

    def mixed(self, scores: FloatArray) -> FloatArray:
        """Return the scores that follow from (n_batch, n_items) scores of the inner retriever."""
        unknown = np.isnan(scores)
        values = np.where(unknown, 0.0, scores.astype(np.float64))
        mixed = scores.copy()
        mixed[:, self.targets] = (self.mixing @ values.T).T
        mixed[unknown.all(axis=1)] = np.nan
        return mixed

    def resized(self, n_items: int) -> Self:
        """Return the model over a resized inner one; no new item is a target."""
        return replace(self, inner=self.inner.resized(n_items), mixing=widened(self.mixing, n_items))

    def save(self, folder: Path) -> None:
        """Write the shares, and the inner retriever into a folder of its own."""
        save_model(folder, self, {"targets": self.targets, **csr_parts(self.mixing)})
        (folder / "inner").mkdir()
        self.inner.save(folder / "inner")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the shares and the inner retriever."""
        # The kinds know this class.
        from features.retrievers.kinds import load_retriever

        meta, arrays = load_model(folder)
        inner = load_retriever(folder / "inner")
        mixing = csr_from(arrays, len(inner.known))
        return cls(meta["name"], meta["block"], inner, arrays["targets"], mixing)


def propagated(
    retriever: Retriever, modality: str, graph: sparse.csr_array, degree: FloatArray, below: int
) -> PropagatedRetriever:
    """Carry the scores of a retriever over to the items with fewer than `below` likes.

    An item with d likes keeps d / below of its own score; the rest is the mean over its neighbours that
    the retriever knows, weighted by the cosines to them. For an item-item model that is W M and for a factor
    model M'Y in place of W and Y, M holding the shares: the neighbours' columns, or factors, are averaged
    (the frozen item graph of FREEDOM, Zhou and Shen, 2023). An item without such neighbours is left as it is.

    Parameters
    ----------
    graph
        (n_items, n_items) cosines, the neighbours of item j in column j, as `content_knn` gives them.
    degree
        (n_items,) likes of each item in the history that the retriever was fitted on.
    """
    known = retriever.known
    neighbours = graph.T.tocsr() @ sparse.diags_array(known.astype(np.float64))
    total = np.asarray(neighbours.sum(axis=1)).ravel()
    targets = np.flatnonzero((degree < below) & (total > 0))
    own = np.where(known, degree, 0)[targets] / below
    n = len(targets)
    carried = sparse.diags_array((1.0 - own) / total[targets]) @ neighbours[targets]
    kept = sparse.csr_array((own, (np.arange(n), targets)), shape=carried.shape)
    mixing = (carried + kept).tocsr()
    mixing.eliminate_zeros()
    mixing.sort_indices()
    name = f"{retriever.name}_{modality}"
    return PropagatedRetriever(name, modality, retriever, targets.astype(np.int64), mixing)
