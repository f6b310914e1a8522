"""Blocks of items that users like, and every kind of retriever fitted on them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from features.history import History
from features.retrievers import (
    BEHAVIOUR_KINDS,
    Retriever,
    content_retrievers,
    fit_behaviour,
    propagated,
)
from features.space import ModalityVectors, with_graph
from tests.features.planted import block_history, history_of

N_BLOCKS, PER_BLOCK, N_COLD = 3, 40, 2
N_WARM, N_USERS = N_BLOCKS * PER_BLOCK, 45
N_ITEMS = N_WARM + N_COLD
# Half of the items have fewer likes.
FEW = 12
NOBODY, ONLY_COLD, BOTH = N_USERS, N_USERS + 1, N_USERS + 2
EVERYBODY = np.arange(N_USERS + 3)
PARAMS: dict[str, dict[str, float]] = {
    "als": {"factors": 8, "regularization": 1.0, "alpha": 5.0, "iterations": 5},
    "lightgcn": {"factors": 8, "epochs": 60},
}


CONTENT = {"neighbours": 0, "content": 1, "regression": 2}
CARRIED = {"propagated_ease": "ease", "propagated_als": "als"}
KINDS = (*BEHAVIOUR_KINDS, *CONTENT, *CARRIED)
IMPERSONAL = ("popularity", "recent_popularity", "local_popularity")
PERSONAL = tuple(kind for kind in KINDS if kind not in IMPERSONAL)


@cache
def history() -> History:
    """Blocks in which the one item of another block is the first that a user liked."""
    blocks = block_history(N_USERS, N_BLOCKS, PER_BLOCK, n_cold=N_COLD)
    assert blocks.times is not None
    return replace(blocks, times=(blocks.times + 1) % (blocks.times.max() + 1))


def modality() -> ModalityVectors:
    """Vectors that tell the block; the cold items have none."""
    rng = np.random.default_rng(1)
    block = np.arange(N_ITEMS) // PER_BLOCK
    vectors = (np.eye(N_BLOCKS + 1)[block] + 0.1 * rng.normal(size=(N_ITEMS, N_BLOCKS + 1))).astype(
        np.float32
    )
    present = np.arange(N_ITEMS) < N_WARM
    vectors[~present] = 0
    return with_graph(ModalityVectors(vectors, present), history().popularity > 0, neighbours=20)


def fit(kind: str, of: History, seed: int = 0) -> Retriever:
    if kind == "lightgcn":
        pytest.importorskip("torch", reason="LightGCN needs torch: pip install torch==2.13.0")
    if kind in CARRIED:
        inner, graph = fit(CARRIED[kind], of, seed), modality().graph
        return propagated(inner, "text", graph, of.popularity, below=FEW)
    if kind in CONTENT:
        return content_retrievers({"text": modality()}, [], of)[CONTENT[kind]]
    return fit_behaviour(kind, of, PARAMS.get(kind, {}), seed=seed)


@cache
def fitted(kind: str) -> Retriever:
    return fit(kind, history())


@cache
def world(more_items: int = 0) -> History:
    """The users of the history; then one who likes nothing, one a cold item only, one also a warm one."""
    rows = [(ONLY_COLD, N_WARM, 1.0, 3), (BOTH, 0, 1.0, 2), (BOTH, N_WARM, 1.0, 3)]
    return joined(history(), history_of(rows, N_USERS + 3, N_ITEMS)).resized(
        N_USERS + 3, N_ITEMS + more_items
    )


def joined(one: History, other: History) -> History:
    """Return the interactions of both, in the sizes of the other."""
    names = ("users", "items", "labels", "times")
    return replace(other, **{n: np.concatenate([getattr(one, n), getattr(other, n)]) for n in names})
