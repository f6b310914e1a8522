"""Lists whose answer follows from the last item of the user by a rule that no feature tells."""

from __future__ import annotations

import numpy as np

from features.frame import RankingFrame
from features.sequences import ItemTable, Sequences

N_ITEMS, N_CANDIDATES, N_RECENT, N_RELEVANT = 300, 20, 5, 3


def sequence_frame(n_queries: int, seed: int, *, ordered: bool = True) -> RankingFrame:
    """Return lists in which those candidates are relevant that lie where a turn takes the last item.

    The turn is the same in all lists. Features are the cosines to the last item, to the mean of all and to
    the nearest of them, and a component of the candidate.
    """
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    vectors = fixed.normal(size=(N_ITEMS, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    turn = np.linalg.qr(fixed.normal(size=(8, 8)))[0]
    recent = np.stack([rng.permutation(N_ITEMS)[:N_RECENT] for _ in range(n_queries)])
    items = np.stack([np.sort(rng.permutation(N_ITEMS)[:N_CANDIDATES]) for _ in range(n_queries)])
    candidates, history = vectors[items], vectors[recent]
    fit = np.einsum("qcd,qd->qc", candidates, history[:, 0] @ turn)
    cosines = np.einsum("qcd,qld->qcl", candidates, history)
    features = np.stack([cosines[..., 0], cosines.mean(-1), cosines.max(-1), candidates[..., 0]], axis=-1)
    table = ItemTable(("taste",), (vectors.astype(np.float32),), (np.ones(N_ITEMS, dtype=bool),))
    return RankingFrame(
        features=features.reshape(-1, 4).astype(np.float32),
        feature_names=("last", "mean", "max", "component"),
        blocks={"taste": (0, 1, 2, 3)},
        labels=(fit.argsort(1).argsort(1) >= N_CANDIDATES - N_RELEVANT).ravel().astype(np.float32),
        queries=np.repeat(np.arange(n_queries), N_CANDIDATES),
        items=items.ravel(),
        sequences=Sequences(recent, np.zeros(n_queries, dtype=np.int64), (table,), ordered),
    )
