"""An item-item model whose columns are told by what the items are like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from features.encoders.projection import fit_projection
from features.frame import BoolArray
from features.history import History
from features.item_models import damped
from features.retrievers.projection import ProjectionRetriever
from features.space import ModalityVectors, Space

# What the ridge adds to the mean squares of content, whose modalities have a mean square of 1 each.
RIDGE = 0.01
# Power of an item's likes by which its weight in the regression is damped.
DAMPING = 0.25
# A modality of more components is projected to so many, learned from so many rows, and a row is at most so
# many times as long as most.
WIDEST, MOST_ROWS, LONGEST = 256, 10_000, 2.0


def fit_content_regression(name: str, block: str, items: Space, history: History) -> ProjectionRetriever:
    """Fit score = p C W T (T'W T + r I)^-1 t, by ridge regression of a random walk on content.

    The walk C = D_i^-1 X' D_u^-1 X goes from a liked item to a user who likes it and on to what that user
    likes, X being the likes (P3, Cooper et al., 2014); p is its start, any of a user's likes. The columns of
    C, which an item without likes has not, are regressed on the content t of the items that somebody likes,
    W being their weights. So all items tell which content goes with which likes, where neighbours know
    cosines only. Gantner et al. (ICDM 2010) map attributes to latent factors in this way. What the walk
    reaches is a share, so that scores of a longer history have the same size.
    """
    present: BoolArray = np.any([modality.present for modality in items.values()], axis=0)
    liked = history.popularity > 0
    content = np.hstack([*(_centred(modality, liked) for modality in items.values()), present[:, None]])
    source = np.zeros_like(content)
    if (liked & present).any():
        # Threads of BLAS would change the last bits, and with them those of all that is scored.
        with threadpool_limits(1, user_api="blas"):
            source[liked] = _weights(history, liked, present, content)
    return ProjectionRetriever(
        name, block, source.astype(np.float32), content.astype(np.float32), present, likes_power=1.0
    )


def _weights(
    history: History, liked: BoolArray, present: BoolArray, content: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n_liked, d) weights of content that a like of each liked item adds to its user's."""
    weight = damped(np.where(present, history.popularity, np.float32(0)), DAMPING)[liked]
    weighted = content[liked] * (weight / weight.sum())[:, None]
    normal = weighted.T @ content[liked]
    normal[np.diag_indices_from(normal)] += RIDGE
    likes = history.liked[:, np.flatnonzero(liked)].astype(np.float64)
    per_user, per_item = (np.asarray(likes.sum(axis=axis)).ravel()[:, None] for axis in (1, 0))
    reached = (likes.T @ ((likes @ weighted) / np.maximum(per_user, 1.0))) / per_item
    weights: NDArray[np.float64] = np.linalg.solve(normal, reached.T).T
    return weights


def _centred(modality: ModalityVectors, liked: BoolArray) -> NDArray[np.float64]:
    """(n_items, at most WIDEST) vectors about the mean of those liked, in units of their mean length."""
    known = liked & modality.present
    if not known.any():
        return np.zeros((len(liked), 0))
    some = modality.vectors[known][:: -(-int(known.sum()) // MOST_ROWS)]
    projection = fit_projection(some, standardize=False, dim=WIDEST) if some.shape[1] > WIDEST else None
    rows = (modality.vectors if projection is None else projection.apply(modality.vectors)).astype(np.float64)
    rows -= rows[known].mean(axis=0)
    length = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    unit = float(np.sqrt((length[known] ** 2).mean())) or 1.0
    rows *= np.minimum(1.0 / unit, LONGEST / np.maximum(length, unit))
    return np.where(modality.present[:, None], rows, 0.0)
