"""More training queries than there are: label windows once more, with vectors mixed, removed or generated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from features.augmentation import generated, mixed, synthetic, thinned_out, with_synthetic
from features.builder import FeatureModel
from features.candidates import Candidates
from features.frame import IntArray
from modalrank.config import Config

# Synthetic negatives that a query gets.
ADDED = 5


def augmented(
    config: Config, model: FeatureModel, users: IntArray, lots: np.random.Generator
) -> Iterator[tuple[FeatureModel, IntArray, int]]:
    """Yield further models of a window, the users whose queries are taught once more by each, and 0.

    They know nothing but the window's own history and the item table; the lists that choose and the test
    are never made by them.
    """
    labels, neighbours = config.labels, config.candidates.content_neighbours
    changes = ((labels.mixing, mixed), (labels.removal, thinned_out), (labels.generated, generated))
    for share, change in changes:
        if share and model.items:
            drawn = np.sort(lots.permutation(users)[: round(share * len(users))])
            seed = int(lots.integers(2**31))
            yield model.with_items(change(model.items, seed), neighbours), drawn, 0


def with_made_items(
    config: Config, model: FeatureModel, lots: np.random.Generator
) -> tuple[FeatureModel, int]:
    """Return the model with made items, which are nobody's positives, behind its own; and their number."""
    number = config.labels.synthetic_negatives
    if not number or not model.items:
        return model, 0
    made = synthetic(model.items, number, int(lots.integers(2**31)))
    return with_synthetic(model, made, config.candidates.content_neighbours), number


def with_negatives(
    model: FeatureModel, candidates: Candidates, number: int, lots: np.random.Generator
) -> Candidates:
    """Return candidates with ADDED of the last `number` items of the model, drawn for every query."""
    if not number:
        return candidates
    users, first = np.unique(candidates.queries), model.history.n_items - number
    each, real = min(number, ADDED), candidates.items < first
    items = first + np.argsort(lots.random((len(users), number)), axis=1)[:, :each].ravel()
    queries = np.concatenate([candidates.queries[real], np.repeat(users, each)])
    every = np.concatenate([candidates.items[real], items])
    order = np.lexsort((every, queries))
    parts = list(model.given(queries[order], every[order]))
    scores = np.concatenate([part.scores for part in parts])
    return Candidates(queries[order], every[order], scores)
