"""Settings of behaviour retrievers, picked from a small grid by their lists on validation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.candidates import top_items, user_batches
from features.history import History
from features.retrievers import Retriever, fit_behaviour
from rankers.metrics import mean_of, ndcg

Grid = Mapping[str, float | Sequence[float]]
MAX_USERS = 3000


@dataclass(frozen=True)
class Trial:
    """One setting and the mean NDCG@k of its lists on validation."""

    kind: str
    params: dict[str, float]
    ndcg: float


def settings(grid: Grid) -> list[dict[str, float]]:
    """Return every combination of the listed values; a plain value is a list of one.

    >>> settings({"l2": [100, 300], "neighbours": 200})
    [{'l2': 100, 'neighbours': 200}, {'l2': 300, 'neighbours': 200}]
    """
    values = [value if isinstance(value, Sequence) else [value] for value in grid.values()]
    return [dict(zip(grid, combination, strict=True)) for combination in itertools.product(*values)]


def pick_setting(
    kind: str, grid: Grid, history: History, held_out: History, *, k: int, exclude_seen: bool, seed: int
) -> tuple[dict[str, float], list[Trial]]:
    """Return the best setting of a behaviour retriever fitted on `history`, and all trials.

    A grid with one combination is returned as it is, without a trial.
    """
    combinations = settings(grid)
    if len(combinations) == 1:
        return combinations[0], []
    trials = []
    for params in combinations:
        retriever = fit_behaviour(kind, history, params, seed=seed)
        values = list_ndcg(retriever, history, held_out, k=k, exclude_seen=exclude_seen, seed=seed)
        trials.append(Trial(kind, params, mean_of(values).mean))
    return max(trials, key=lambda trial: trial.ndcg).params, trials


def list_ndcg(
    retriever: Retriever, history: History, held_out: History, *, k: int, exclude_seen: bool, seed: int
) -> np.ndarray:
    """Return NDCG@k of the retriever's own lists, one value a user with a held-out positive.

    At most MAX_USERS users, drawn by `seed`, are looked at.
    """
    users = np.unique(held_out.users[held_out.is_positive])
    if len(users) > MAX_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, MAX_USERS, replace=False))
    values = []
    for batch in user_batches(users, history.n_items):
        scores = retriever.scores(history.liked[batch])
        if exclude_seen:
            scores[history.seen[batch].toarray() > 0] = np.nan
        truth = held_out.liked[batch].toarray()
        rows, items = np.nonzero(top_items(scores, k))
        offsets = np.searchsorted(rows, np.arange(len(batch) + 1))
        total = truth.sum(axis=1).astype(np.int64)
        values.append(
            ndcg(scores[rows, items].astype(np.float64), truth[rows, items], offsets, k, seed, total)
        )
    return np.concatenate(values)
