"""Evaluation sets and lists of which it is known who is better, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from modalrank.promotion.frozen import EvaluationSet
from modalrank.promotion.gates import Version
from modalrank.promotion.worker import Measured

K = 5
MEASURED = Measured((100, 100), (5, 5), met=0, unknown=0, cpu_ms=10.0, gib=2.0, mib=200.0)
WARM, COLD = "warm", "cold"


def user(number: int) -> str:
    return f"u{number:03d}"


def evaluation_of(n_users: int, popularity: float = 0.1, rank_fusion: float = 0.2) -> EvaluationSet:
    """Every user likes one warm and one cold item; every second user is active."""
    users = [user(number) for number in range(n_users)]
    queries = pl.DataFrame(
        {
            "query": users,
            "activity": ["0" if number % 2 else "51+" for number in range(n_users)],
            "popularity": [popularity] * n_users,
            "rank_fusion": [rank_fusion] * n_users,
        }
    )
    truth = pl.DataFrame(
        {
            "query": [name for name in users for _ in range(2)],
            "item": [WARM, COLD] * n_users,
            "label": [1.0] * (2 * n_users),
            "coldness": ["warm (4+)", "cold (0)"] * n_users,
            "pattern": ["behaviour+text", "text"] * n_users,
        }
    )
    nothing = pl.DataFrame()
    return EvaluationSet("log", K, queries, truth, nothing, nothing, {})


def lists_of(firsts: Sequence[Sequence[str]]) -> pl.DataFrame:
    """The list of each user: the named items, filled up with items that nobody likes."""
    rows = [
        (user(number), item, float(-rank), rank)
        for number, named in enumerate(firsts)
        for rank, item in enumerate([*named, *(f"filler {n}" for n in range(K))][:K], start=1)
    ]
    return pl.DataFrame(rows, schema=["query", "item", "score", "rank"], orient="row")


def version(number: str, firsts: Sequence[Sequence[str]], **measured: object) -> Version:
    return Version(number, replace(MEASURED, **measured), lists_of(firsts))
