"""Cosines of candidates to the history of their user in the space of a modality."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from features.candidates import Candidates
from features.frame import FloatArray
from features.space import ModalityVectors


@dataclass(frozen=True)
class Profiles:
    """Sparse (n_users, n_items) weights of the items in a user's history, one for each view of it."""

    liked: sparse.csr_array
    disliked: sparse.csr_array | None
    last: sparse.csr_array | None
    recent: sparse.csr_array | None


def similarities(
    modality: ModalityVectors, profiles: Profiles, candidates: Candidates
) -> dict[str, FloatArray]:
    """Return view to (n_rows,) float32 cosines, NaN where either side lacks the modality.

    `mean` and `max` over the liked items, `last` over the last k, `recent` weighted by recency, `contrast`
    the mean over liked minus that over disliked items.
    """
    users = np.unique(candidates.queries)
    views = {
        name: weights[users]
        for name, weights in (
            ("mean", profiles.liked),
            ("last", profiles.last),
            ("recent", profiles.recent),
            ("disliked", profiles.disliked),
        )
        if weights is not None
    }
    centres = [_centre(modality, history) for history in views.values()]
    liked = views["mean"]
    values = np.full((len(candidates.items), len(views)), np.nan, dtype=np.float32)
    best = np.full(len(candidates.items), np.nan, dtype=np.float32)
    # The rounding of products differs with the threads of BLAS, and so would the trees that learn from them.
    with threadpool_limits(1, user_api="blas"):
        for row, (start, stop) in enumerate(pairwise(candidates.offsets)):
            # One look at the vectors of a query's candidates serves all views.
            targets = modality.unit[candidates.items[start:stop]]
            values[start:stop] = targets @ np.stack([centre[row] for centre in centres], axis=1)
            history = liked.indices[liked.indptr[row] : liked.indptr[row + 1]]
            history = history[modality.present[history]]
            if len(history):
                best[start:stop] = (targets @ modality.unit[history].T).max(axis=1)
    absent = ~modality.present[candidates.items]
    values[absent], best[absent] = np.nan, np.nan
    features = dict(zip(views, values.T, strict=True)) | {"max": best}
    if profiles.disliked is not None:
        features["contrast"] = features["mean"] - features.pop("disliked")
    return features


def _centre(modality: ModalityVectors, history: sparse.csr_array) -> FloatArray:
    """(n_users, d) float32 weighted mean of the unit vectors, NaN where none of them is there."""
    total = history @ modality.present.astype(np.float32)
    with np.errstate(invalid="ignore"):
        centre = (history @ modality.unit) / np.where(total > 0, total, np.nan)[:, None]
    return centre.astype(np.float32)
