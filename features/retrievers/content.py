"""The retrievers that reach items by what they are like, made of encoded modalities and fitted behaviour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.frame import BoolArray, FloatArray
from features.retrievers.base import Retriever
from features.retrievers.item_item import ItemItemRetriever
from features.retrievers.projection import profile_retriever
from features.retrievers.propagation import propagated
from features.space import Space

# The block of what joins several modalities; no modality may have its name.
CONTENT = "content"
# The behaviour models whose scores may be carried over to items with few likes, the first one there is.
CARRIED = ("rp3beta", "ease", "item_knn", "als")
BELOW = 10


def content_retrievers(
    items: Space, behaviour: Sequence[Retriever], degree: FloatArray
) -> tuple[Retriever, ...]:
    """Return one profile a modality, the nearest neighbours in all, and behaviour carried along them.

    Parameters
    ----------
    items
        Modalities of the items; those without a neighbour graph give no retriever.
    behaviour
        The fitted behaviour retrievers.
    degree
        (n_items,) float32 likes of each item in the history that they were fitted on.
    """
    graphed = {name: modality for name, modality in items.items() if modality.graph is not None}
    if not graphed:
        return ()
    profiles = [profile_retriever(name, modality) for name, modality in graphed.items()]
    graphs = [modality.graph for modality in graphed.values() if modality.graph is not None]
    joint = sum(graphs[1:], start=graphs[0])
    present: BoolArray = np.any([modality.present for modality in graphed.values()], axis=0)
    nearest = ItemItemRetriever(f"{CONTENT}_knn", CONTENT, joint, present)
    fitted = {retriever.name: retriever for retriever in behaviour}
    carried = [fitted[name] for name in CARRIED if name in fitted][:1]
    return (*profiles, nearest, *(propagated(model, CONTENT, joint, degree, BELOW) for model in carried))
