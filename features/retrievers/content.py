"""The retrievers that reach items by what they are like, made of encoded modalities and fitted behaviour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from features.frame import BoolArray
from features.history import History
from features.retrievers.base import Retriever
from features.retrievers.item_item import ItemItemRetriever
from features.retrievers.propagation import propagated
from features.retrievers.regression import fit_content_regression
from features.space import Space

# The block of what joins several modalities; no modality may have its name.
CONTENT = "content"
# The behaviour models whose scores may be carried over to items with few likes, the first one there is.
CARRIED = ("rp3beta", "ease", "item_knn", "als")
BELOW = 10


def content_retrievers(
    items: Space, behaviour: Sequence[Retriever], history: History
) -> tuple[Retriever, ...]:
    """Return the neighbours in each modality and in all, a regression, and behaviour carried along the graph.

    Parameters
    ----------
    items
        Modalities of the items; those without a neighbour graph give no retriever.
    behaviour
        The fitted behaviour retrievers.
    history
        What they were fitted on.
    """
    known = history.popularity > 0
    graphed = {name: modality for name, modality in items.items() if modality.graph is not None}
    each = [
        ItemItemRetriever(f"{name}_neighbours", name, balanced(modality.graph, known), modality.present)
        for name, modality in graphed.items()
        if modality.graph is not None
    ]
    if not each:
        return ()
    joint = sum((one.weights for one in each[1:]), start=each[0].weights)
    present: BoolArray = np.any([one.known for one in each], axis=0)
    nearest = ItemItemRetriever(f"{CONTENT}_knn", CONTENT, joint, present)
    regressed = fit_content_regression(f"{CONTENT}_regression", CONTENT, graphed, history)
    fitted = {retriever.name: retriever for retriever in behaviour}
    carried = [fitted[name] for name in CARRIED if name in fitted][:1]
    graph_models = (propagated(model, CONTENT, joint, history.popularity, BELOW) for model in carried)
    return (*each, nearest, regressed, *graph_models)


def balanced(graph: sparse.csr_array, known: BoolArray) -> sparse.csr_array:
    """Scale a graph so that the weights to a known item that has neighbours sum to 1 on average.

    Cosines of different modalities have different sizes: those of any two pictures may be .9, that of the
    texts of a film and its sequel .3. Unscaled, the modality that tells the least drowns the others.
    """
    sums = np.asarray(graph.sum(axis=0), dtype=np.float64).ravel()
    counted = known & (sums > 0)
    if not counted.any():
        return graph
    return sparse.csr_array(graph * np.float32(1.0 / sums[counted].mean()))
