"""Tiny frames whose answer is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from features.frame import RankingFrame
from rankers import make_ranker
from rankers.device import DeviceName
from rankers.lightgbm_ranker import LightGBMRanker
from rankers.protocol import Ranker
from rankers.registry import FAMILIES

VARIANTS = [(family, objective) for family, ranker in FAMILIES.items() for objective in ranker.objectives]
QUICK: Mapping[str, Mapping[str, float]] = {
    "lightgbm": {"rounds": 40, "learning_rate": 0.1, "min_data_in_leaf": 5},
    "xgboost": {"rounds": 40, "learning_rate": 0.1},
    "catboost": {"rounds": 40, "learning_rate": 0.1, "depth": 3},
    "linear": {},
    "transformer": {"rounds": 40, "learning_rate": 0.01, "batch": 16, "width": 16},
}


def quick_ranker(
    family: str, objective: str | None = None, seed: int = 0, device: DeviceName = "cpu"
) -> Ranker:
    """Return a ranker that trains in a fraction of a second; skips the test if its library is optional."""
    if family == "transformer":
        pytest.importorskip("torch", reason="the transformer needs torch: pip install torch==2.13.0")
    return make_ranker(family, objective=objective, params=QUICK[family], seed=seed, device=device, threads=1)


def planted_frame(n_queries: int = 60, size: int = 12, seed: int = 0) -> RankingFrame:
    """Labels 0..3 follow `signal` plus `helper`; `noise` says nothing, and a tenth of `helper` is missing."""
    rng = np.random.default_rng(seed)
    n = n_queries * size
    features = rng.normal(size=(n, 4)).astype(np.float32)
    utility = 2 * features[:, 0] + features[:, 1] + 0.3 * rng.normal(size=n)
    features[rng.random(n) < 0.1, 1] = np.nan
    return RankingFrame(
        features=features,
        feature_names=("signal", "helper", "noise_a", "noise_b"),
        blocks={"text": (0,), "image": (1,), "context": (2, 3)},
        labels=np.searchsorted([0.0, 1.5, 3.0], utility).astype(np.float32),
        queries=np.repeat(rng.permutation(n_queries), size).astype(np.int64),
        items=np.concatenate([rng.permutation(100)[:size] for _ in range(n_queries)]).astype(np.int64),
        modalities=("image",),
        present=rng.random((n, 1)) < 0.7,
    )


def with_labels(frame: RankingFrame, labels: ArrayLike) -> RankingFrame:
    return replace(frame, labels=np.asarray(labels, dtype=np.float32))


def with_feature(frame: RankingFrame, row: int, column: int, value: float) -> RankingFrame:
    features = frame.features.copy()
    features[row, column] = value
    return replace(frame, features=features)


def reorder(frame: RankingFrame, rows: NDArray[np.int64]) -> RankingFrame:
    """Return the frame with its rows in this order, which must keep queries together."""
    return replace(
        frame,
        features=frame.features[rows],
        labels=frame.labels[rows],
        queries=frame.queries[rows],
        items=frame.items[rows],
        present=frame.present[rows],
    )


def shuffled_rows(frame: RankingFrame, seed: int) -> NDArray[np.int64]:
    """Return row numbers that shuffle the queries, and the rows within each."""
    rng = np.random.default_rng(seed)
    place = np.repeat(rng.permutation(frame.n_queries), frame.group_sizes)
    return np.lexsort((rng.random(frame.n_rows), place)).astype(np.int64)


def any_ranker() -> LightGBMRanker:
    """Return a quick ranker for tests in which the family does not matter."""
    return LightGBMRanker(rounds=10, learning_rate=0.1, min_data_in_leaf=5, threads=1)
