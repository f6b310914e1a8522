"""What a meta-learner reads: base scores made comparable, and what is known beside them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ensembles.score_frame import ScoreFrame
from features.frame import FloatArray, IntArray
from features.per_query import ScoreArray, average_ranks, reduce_queries, spread


def opinions_per_query(scores: ScoreArray, offsets: IntArray) -> IntArray:
    """Return the (n_queries, n_bases) number of candidates about which each base has an opinion."""
    given = np.zeros((len(scores) + 1, scores.shape[1]), dtype=np.int64)
    np.cumsum(~np.isnan(scores), axis=0, out=given[1:])
    return np.diff(given[offsets], axis=0)


def list_ranks(scores: ScoreArray, offsets: IntArray) -> ScoreArray:
    """Return (n_rows, n_bases) ranks from the best (1), as if each base had ranked the whole list.

    The average ranks of a base with opinions on only some candidates are stretched evenly over the list,
    so that being first of two among a hundred counts as the upper quarter and not as the top. Where a
    base has an opinion on every candidate these are its plain average ranks; NaN stays NaN.
    """
    sizes = np.diff(offsets)
    opinions = np.repeat(np.maximum(opinions_per_query(scores, offsets), 1), sizes, axis=0)
    above = 1.0 + 0.5 / opinions - average_ranks(scores, offsets)
    ranks: ScoreArray = above * np.repeat(sizes, sizes)[:, None] + 0.5
    return ranks


def normalised_features(frame: ScoreFrame) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the (n_rows, n_features) float32 inputs of a learned meta-learner and their names.

    Per base its z-score, its min-max, its average rank and its distance to the best of the list (in
    z-scores, 0 or less); then the presence bits, the context, the number of opinions on the candidate and
    the disagreement: the standard deviation over bases of the average rank (0 below two opinions). The
    choice of views follows the per-impression features of the RecSys Challenge 2024 winners.
    """
    views = frame.views
    opinions = (~np.isnan(frame.scores)).sum(axis=1)
    columns: dict[str, NDArray[np.floating] | NDArray[np.integer] | NDArray[np.bool_]] = {}
    for index, base in enumerate(frame.bases):
        best = reduce_queries(np.fmax, views.z[:, index], frame.offsets, empty=np.nan)
        columns[f"{base}:z"] = views.z[:, index]
        columns[f"{base}:min_max"] = views.unit[:, index]
        columns[f"{base}:rank"] = views.rank[:, index]
        columns[f"{base}:to_best"] = views.z[:, index] - np.repeat(best, frame.group_sizes)
    columns |= {f"present:{name}": frame.present[:, i] for i, name in enumerate(frame.modalities)}
    columns |= {f"context:{name}": frame.context[:, i] for i, name in enumerate(frame.context_names)}
    columns["opinions"] = opinions
    columns["disagreement"] = spread(views.rank)
    return np.stack([column.astype(np.float32) for column in columns.values()], axis=1), tuple(columns)
