"""Score frames whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ensembles.score_frame import ScoreFrame

MODALITIES = ("text", "image")


def complementary(
    n_queries: int,
    seed: int,
    *,
    noise_base: bool = False,
    missing: float = 0.0,
    sizes: tuple[int, int] = (8, 16),
) -> ScoreFrame:
    """Two bases that each know one half of what makes a candidate relevant, on scales of their own.

    `missing` is the share of candidates without an image, about which base `image` has no opinion.
    """
    generator = np.random.default_rng(seed)
    group_sizes = generator.integers(*sizes, size=n_queries, endpoint=True)
    offsets = np.concatenate([[0], np.cumsum(group_sizes)]).astype(np.int64)
    n = int(offsets[-1])
    halves = generator.normal(size=(n, 2))
    noise = generator.normal(scale=0.4, size=(n, 2))
    level = np.repeat(generator.normal(scale=5.0, size=n_queries), group_sizes)
    has_image = generator.random(n) >= missing
    text = 3.0 * (halves[:, 0] + noise[:, 0]) + level
    image = np.where(has_image, 0.1 * (halves[:, 1] + noise[:, 1]), np.nan)
    columns = {"text": text, "image": image}
    if noise_base:
        columns["noise"] = generator.normal(size=n)
    quality = halves.sum(axis=1)
    best = [start + int(np.argmax(quality[start:stop])) for start, stop in pairwise(offsets)]
    labels = np.zeros(n, dtype=np.float32)
    labels[best] = 1.0
    return ScoreFrame(
        scores=np.stack(list(columns.values()), axis=1),
        bases=tuple(columns),
        labels=labels,
        offsets=offsets,
        modalities=MODALITIES,
        present=np.stack([np.ones(n, dtype=bool), has_image], axis=1),
        base_modality={"text": "text", "image": "image"},
        context=generator.normal(size=(n, 1)).astype(np.float32),
        context_names=("activity",),
    )


def from_lists(
    scores: Sequence[Sequence[Sequence[float]]], labels: Sequence[Sequence[float]] | None = None
) -> ScoreFrame:
    """A frame from queries x candidates x bases, without modalities and context."""
    sizes = [len(query) for query in scores]
    matrix = np.array([row for query in scores for row in query], dtype=np.float64)
    n = len(matrix)
    flat = np.zeros(n) if labels is None else np.concatenate([np.asarray(query) for query in labels])
    return ScoreFrame(
        scores=matrix,
        bases=tuple(f"base{i}" for i in range(matrix.shape[1])),
        labels=flat.astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        modalities=(),
        present=np.zeros((n, 0), dtype=bool),
        base_modality={},
        context=np.zeros((n, 0), dtype=np.float32),
        context_names=(),
    )


def shuffle_within_queries(frame: ScoreFrame, seed: int) -> tuple[ScoreFrame, np.ndarray]:
    """The frame with the rows of every query in another order, and the old row number of each new row."""
    generator = np.random.default_rng(seed)
    query = np.repeat(np.arange(frame.n_queries), frame.group_sizes)
    rows = np.lexsort((generator.random(len(query)), query))
    shuffled = replace(
        frame,
        scores=frame.scores[rows],
        labels=frame.labels[rows],
        present=frame.present[rows],
        context=frame.context[rows],
    )
    return shuffled, rows
