"""Settings of behaviour retrievers, picked from a small grid by their lists on validation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.candidates import top_items, user_batches
from features.frame import IntArray
from features.history import History
from features.retrievers import Retriever, fit_behaviour
from rankers.metrics import mean_of, ndcg

Grid = Mapping[str, float | Sequence[float]]
# All settings are compared on FIRST_USERS, the FINALISTS on up to MAX_USERS.
MAX_USERS = 3000
FIRST_USERS = 1000
FINALISTS = 4
# What only takes the noise out of a model is left for the model that is kept.
ONCE: Mapping[str, Mapping[str, float]] = {"als": {"repeats": 1}}


@dataclass(frozen=True)
class Trial:
    """One setting and the mean NDCG@k of its lists on validation."""

    kind: str
    params: Mapping[str, Any]
    ndcg: float


def settings(grids: Sequence[Grid]) -> list[dict[str, float]]:
    """Return every combination of the listed values of each grid; a plain value is a list of one.

    >>> settings([{"l2": [100, 300], "neighbours": 200}, {"l2": 10}])
    [{'l2': 100, 'neighbours': 200}, {'l2': 300, 'neighbours': 200}, {'l2': 10}]
    """
    combinations = []
    for grid in grids:
        values = [value if isinstance(value, Sequence) else [value] for value in grid.values()]
        combinations += [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*values)]
    return combinations


def pick_setting(
    kind: str,
    grids: Sequence[Grid],
    history: History,
    held_out: History,
    *,
    k: int,
    exclude_seen: bool,
    seed: int,
) -> tuple[Mapping[str, float], list[Trial]]:
    """Return the best setting of a behaviour retriever fitted on `history`, and all trials.

    A single combination is returned as it is, without a trial. Many are thinned by successive halving
    (Jamieson and Talwalkar, AISTATS 2016) where there are many users: all on some users, the best on more.
    """
    combinations: list[Mapping[str, float]] = list(settings(grids))
    if len(combinations) == 1:
        return combinations[0], []

    def tried(params: Mapping[str, float], n_users: int) -> Trial:
        retriever = fit_behaviour(kind, history, {**params, **ONCE.get(kind, {})}, seed=seed)
        values = list_ndcg(
            retriever, history, held_out, k=k, exclude_seen=exclude_seen, seed=seed, n_users=n_users
        )
        return Trial(kind, params, mean_of(values).mean)

    if len(combinations) > FINALISTS and len(_judges(held_out)) > FIRST_USERS:
        first = [tried(params, FIRST_USERS) for params in combinations]
        combinations = [trial.params for trial in sorted(first, key=lambda trial: -trial.ndcg)][:FINALISTS]
    trials = [tried(params, MAX_USERS) for params in combinations]
    return max(trials, key=lambda trial: trial.ndcg).params, trials


def list_ndcg(
    retriever: Retriever,
    history: History,
    held_out: History,
    *,
    k: int,
    exclude_seen: bool,
    seed: int,
    n_users: int = MAX_USERS,
) -> np.ndarray:
    """Return NDCG@k of the retriever's own lists, one value a user with a held-out positive.

    At most `n_users` users, drawn by `seed`, are looked at.
    """
    users = np.sort(np.random.default_rng(seed).permutation(_judges(held_out))[:n_users])
    values = []
    for batch in user_batches(users, history.n_items):
        scores = retriever.scores(history, batch)
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


def _judges(held_out: History) -> IntArray:
    """Return the users with a held-out positive."""
    return np.unique(held_out.users[held_out.is_positive])
