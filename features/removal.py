"""Removes vectors of items, so that everything made of them is as if they had never been there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from features.builder import FeatureModel
from features.filling import filled
from features.frame import BoolArray, FloatArray, IntArray
from features.space import Space

Mode = Literal["random", "unpopular"]
MODES: tuple[Mode, ...] = get_args(Mode)

Gone = Mapping[str, BoolArray]


def removal_order(popularity: FloatArray, mode: Mode, seed: int) -> IntArray:
    """Return the (n_items,) item codes in the order in which they lose their vectors.

    Parameters
    ----------
    popularity
        (n_items,) interactions of each item before the cut.
    mode
        At random, or from the unpopular items on with ties at random.
    """
    lots = np.random.default_rng(seed).permutation(len(popularity))
    return lots if mode == "random" else np.lexsort((lots, popularity))


def removed(present: BoolArray, order: IntArray, rate: float) -> BoolArray:
    """(n_items,) bool: the first of those that have vectors; a higher rate removes all that a lower one does.

    Raises
    ------
    ValueError
        If the rate is no share.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate: got {rate}, expected 0 to 1")
    having = order[present[order]]
    gone = np.zeros(len(present), dtype=bool)
    gone[having[: round(rate * len(having))]] = True
    return gone


def gone_from(presence: Mapping[str, BoolArray], order: IntArray, rate: float) -> dict[str, BoolArray]:
    """Return what is removed of one modality, or of several together.

    Of several, the items that have any are the whole, and an item that loses one loses all.

    Parameters
    ----------
    presence
        Modality to (n_items,) bool.
    """
    gone = removed(np.any(list(presence.values()), axis=0), order, rate)
    return {name: gone & present for name, present in presence.items()}


def without_vectors(model: FeatureModel, gone: Gone, neighbours: int) -> FeatureModel:
    """Return the model that there would be had the item table lacked these vectors.

    What was learned before stays: behaviour and encoders. Presence, the graph of
    neighbours (`neighbours` an item) and all that is made of these are made anew of the vectors left.

    Parameters
    ----------
    gone
        Item modality to (n_items,) bool; names that the model has no item modality of are passed over.
    """
    lost = {name: mask for name, mask in gone.items() if name in model.items and mask.any()}
    if not lost:
        return model
    left: Space = {
        name: modality.without(lost[name]) if name in lost else modality
        for name, modality in model.items.items()
    }
    settings, everything = model.settings, np.ones(model.history.n_items, dtype=bool)
    left = filled(left, model.history.liked, settings.filling, sources=everything, fixed=settings.categories)
    return model.with_items(left, neighbours)
