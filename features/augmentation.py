"""Training data made of what is there: mixed vectors, generated ones, and items that nobody made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from features.builder import FeatureModel
from features.encoders.base import Encoded
from features.frame import FloatArray, IntArray
from features.generator import Conditions, VectorGenerator
from features.item_models import content_knn
from features.retrievers import BEHAVIOUR, content_retrievers
from features.space import ModalityVectors, Space, extended

NEAR = 10
# Shape of the Beta distribution of the share of an item's own vector in a mixture.
BETA = 0.4
# Share of the items that keep a modality where it is thinned out.
LEFT = 0.5


def mixed(items: Space, seed: int) -> Space:
    """Return the modalities with every vector mixed with that of a near item: l v + (1 - l) v', l from Beta.

    Mixup (Zhang et al., ICLR 2018) within a modality and between the NEAR nearest neighbours only, with
    l >= 1/2, so that the item stays nearest to itself.
    """
    generators = np.random.default_rng(seed).spawn(len(items))
    return {name: _mixed(items[name], rng) for name, rng in zip(items, generators, strict=True)}


def _mixed(modality: ModalityVectors, rng: np.random.Generator) -> ModalityVectors:
    graph = content_knn(modality.vectors, modality.own, modality.own, neighbours=NEAR)
    partner = _random_neighbours(graph, rng)
    own = rng.beta(BETA, BETA, size=(len(partner), 1)).astype(np.float32)
    own = np.where((partner >= 0)[:, None], np.maximum(own, 1.0 - own), np.float32(1))
    vectors = own * modality.vectors + (1 - own) * modality.vectors[partner]
    return replace(modality, vectors=vectors.astype(np.float32), terms=None)


def _random_neighbours(graph: sparse.csr_array, rng: np.random.Generator) -> IntArray:
    """Return a random neighbour of each item, -1 where it has none."""
    columns = graph.tocsc()
    sizes = np.diff(columns.indptr)
    drawn = columns.indptr[:-1] + (rng.random(len(sizes)) * sizes).astype(np.int64)
    found = np.full(len(sizes), -1, dtype=np.int64)
    found[sizes > 0] = columns.indices[drawn[sizes > 0]]
    return found


def thinned_out(items: Space, seed: int) -> Space:
    """Return the modalities as they are where a random half of the items lack each, independently."""
    generators = np.random.default_rng(seed).spawn(len(items))
    return {
        name: modality.without(rng.random(len(modality.present)) >= LEFT)
        for (name, modality), rng in zip(items.items(), generators, strict=True)
    }


def generated(items: Space, seed: int) -> Space:
    """Return the modalities with vectors of a conditional generator where they are missing; needs torch."""
    found = {}
    for number, (name, modality) in enumerate(items.items()):
        conditions = Conditions.of(items, name)
        wanted = ~modality.own & conditions.known
        vectors = modality.vectors.copy()
        if wanted.any():
            generator = VectorGenerator.fit(modality.vectors, conditions, modality.own, seed=seed + number)
            vectors[wanted] = generator.sample(conditions.rows[wanted], seed + number)
        found[name] = modality.guessing(vectors, wanted)
    return found


def synthetic(items: Space, number: int, seed: int) -> dict[str, FloatArray]:
    """Return (number, d) vectors a modality of items that nobody made; needs torch.

    Each is generated for what the other modalities of a random item tell, a modality at a time.
    """
    rng = np.random.default_rng(seed)
    made = {}
    for place, (name, modality) in enumerate(items.items()):
        conditions = Conditions.of(items, name)
        generator = VectorGenerator.fit(modality.vectors, conditions, modality.own, seed=seed + place)
        like = rng.integers(0, len(conditions.rows), number)
        made[name] = generator.sample(conditions.rows[like], seed + place)
    return made


def with_synthetic(model: FeatureModel, made: dict[str, FloatArray], neighbours: int) -> FeatureModel:
    """Return the model with items appended that nobody has met."""
    number = len(next(iter(made.values())))
    known, n_items = model.history.popularity > 0, model.history.n_items + number
    items = {
        name: extended(modality, Encoded(made[name], np.ones(number, dtype=bool)), known, neighbours)
        for name, modality in model.items.items()
    }
    history = model.history.resized(model.history.n_users, n_items)
    behaviour = [r.resized(n_items) for r in model.retrievers if r.block == BEHAVIOUR]
    content = content_retrievers(items, behaviour, history)
    return replace(model, history=history, items=items, retrievers=(*behaviour, *content))
