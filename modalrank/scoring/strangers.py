"""Queries of which nothing is known take turns on a few codes: their number costs no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from features.history import UNKNOWN
from modalrank.bundle import Bundle
from modalrank.scoring.scorer import Scored

# Ids that no table has: a code of each is in the grown bundle, with no history and no profile.
SEATS = tuple(f"\0{number:04d}" for number in range(1_000))


def seated(
    bundle: Bundle, rows: pl.DataFrame, score: Callable[[pl.DataFrame], Iterable[Scored]]
) -> Iterator[Scored]:
    """Score rows with strangers on the seats of a bundle, as many at once as there are.

    A stranger's features are a function of its candidates alone, so that the seat changes no bit.

    Parameters
    ----------
    rows
        Whole queries, by query and item as far as there is one.
    score
        Scores rows of queries that the bundle knows, in that order.
    """
    names = rows["query"].unique(maintain_order=True)
    strange = bundle.queries.codes(names) == UNKNOWN
    if not strange.any():
        yield from score(rows)
        return
    part_of = np.maximum(np.cumsum(strange) - 1, 0) // len(SEATS)
    parts = rows["query"].replace_strict(names, part_of, return_dtype=pl.Int64)
    for part in range(int(part_of[-1]) + 1):
        strangers = names.filter(pl.Series(strange & (part_of == part))).to_list()
        seats = dict(zip(strangers, SEATS, strict=False))
        here = rows.filter(parts == part).with_columns(pl.col("query").replace(seats))
        for scored in score(here.sort([name for name in ("query", "item") if name in here.columns])):
            back = {seat: name for name, seat in seats.items()}
            told = scored.rows.with_columns(pl.col("query").replace(back))
            yield replace(scored, rows=told.sort("query", "rank"))
