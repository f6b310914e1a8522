"""Scores rows with a bundle, a chunk of whole queries at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from features.builder import RowBlock
from features.candidates import Candidates
from features.errors import DataError
from features.frame import BoolArray, IntArray, RankingFrame
from features.retrievers import BEHAVIOUR
from modalrank.bundle import Bundle
from modalrank.dataset import row_blocks, row_columns
from modalrank.evaluation import pattern_series
from modalrank.scoring.fresh import Fresh, refreshed

CHUNK_ROWS = 50_000


@dataclass(frozen=True)
class Scored:
    """Scored rows of one chunk.

    Attributes
    ----------
    rows
        `query`, `item`, `score`, `rank`, `modalities_used` and `fallback`, by query and rank; with `explain`
        also `contribution_<modality>`, see `explained`.
    scores
        (n_scored,) float64 of all that was scored, which may be more than `rows`.
    present
        Modality to the number of scored rows that have it.
    """

    rows: pl.DataFrame
    scores: NDArray[np.float64]
    present: Mapping[str, int]


def needs_ids(bundle: Bundle) -> bool:
    """Tell whether the model knows anything of queries and items, so that their codes mean something."""
    model = bundle.model
    return bool(model.items or model.users or model.retrievers or len(model.history.users))


def score_candidates(
    bundle: Bundle, candidates: pl.DataFrame, *, chunk_rows: int = CHUNK_ROWS
) -> Iterator[pl.DataFrame]:
    """Yield scored rows of given candidates, in chunks of whole queries.

    The scores of a query are the same bits in any order of the rows and for any `chunk_rows`, because
    every computation is a row's or a query's own and rows are put in canonical order first.
    """
    rows = candidates.sort("query", "item")
    for start, stop in _chunks(_runs(rows["query"]), chunk_rows):
        yield score_chunk(bundle, rows[start:stop]).rows


def score_chunk(bundle: Bundle, rows: pl.DataFrame, *, explain: bool = False) -> Scored:
    """Score rows of whole queries that are sorted by query and item."""
    blocks = row_blocks(bundle.config.modalities, rows)
    runs = _runs(rows["query"])
    if not needs_ids(bundle):
        frames = _frames(bundle, bundle.model.given(runs, np.arange(len(rows))), blocks)
        return _gathered(bundle, frames, rows, explain=explain)
    queries, items = bundle.queries.codes(rows["query"]), bundle.items.codes(rows["item"])
    # Equal scores may be told apart by the order of the rows, so that they have to be in the model's own.
    order = np.lexsort((items, queries))
    ordered = {
        name: RowBlock(block.names, block.values[order], block.present[order])
        for name, block in blocks.items()
    }
    frames = _frames(bundle, bundle.model.given(queries[order], items[order]), ordered)
    return _gathered(bundle, frames, rows, order, explain=explain)


def score_users(bundle: Bundle, users: Iterable[str], top_k: int) -> Iterator[pl.DataFrame]:
    """Yield the best `top_k` generated candidates of every user, in chunks of whole users.

    Users of whom the sources find fewer, such as new ones, are given more of every source.

    Raises
    ------
    DataError
        If the model was trained on judged lists, for which candidates cannot be generated.
    """
    for scored in score_lists_of(bundle, users, top_k):
        yield scored.rows


def score_lists_of(
    bundle: Bundle, users: Iterable[str], top_k: int, *, explain: bool = False
) -> Iterator[Scored]:
    """Yield what `score_users` does, with what is told of all candidates."""
    if not bundle.model.retrievers:
        raise DataError(
            "this model ranks given candidates and has no sources to generate any",
            fix="give the candidates with --candidates",
        )
    codes = np.unique(bundle.queries.codes(users))
    for frame in _frames(bundle, bundle.model.generated(codes, top_k), {}):
        pairs = pl.DataFrame(
            {"query": bundle.queries.ids[frame.queries], "item": bundle.items.ids[frame.items]},
            schema={"query": pl.String, "item": pl.String},
        ).with_columns(place=pl.int_range(pl.len()))
        pairs = pairs.sort("query", "item")
        order = np.argsort(pairs["place"].to_numpy())
        scored = _gathered(bundle, iter([frame]), pairs, order, explain=explain)
        yield replace(scored, rows=scored.rows.filter(pl.col("rank") <= top_k))


def candidates_of(bundle: Bundle, table: pd.DataFrame) -> pl.DataFrame:
    """Return a pandas table of candidates in canonical columns; absent feature columns are missing values."""
    columns = bundle.config.data.columns
    frame = pl.from_pandas(table).rename({columns.query: "query", columns.item: "item"}, strict=False)
    features = row_columns(bundle.config.modalities)
    return frame.select(
        pl.col("query").cast(pl.String),
        pl.col("item").cast(pl.String),
        *(pl.col(c) if c in frame.columns else pl.lit(None, pl.Float64).alias(c) for c in features),
    )


def score_table(bundle: Bundle, candidates: pl.DataFrame) -> pl.DataFrame:
    """Score a small table of canonical candidates in memory, ids that the model does not know included."""
    grown = refreshed(bundle, Fresh(), candidates["query"], candidates["item"])
    return pl.concat(list(score_candidates(grown, candidates)))


def _frames(
    bundle: Bundle, batches: Iterator[Candidates], blocks: Mapping[str, RowBlock]
) -> Iterator[RankingFrame]:
    start = 0
    for candidates in batches:
        stop = start + len(candidates.items)
        part = {
            name: RowBlock(block.names, block.values[start:stop], block.present[start:stop])
            for name, block in blocks.items()
        }
        start = stop
        yield bundle.model.frame(candidates, row_blocks=part)


def explained(bundle: Bundle, frame: RankingFrame, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (n_rows, n_modalities) contributions of the modalities of a frame to its scores.

    A contribution is the score less what it would be if no candidate of the list had the modality: NaN
    where the candidate does not have it, or the model does not read it.
    """
    contributions = np.full((frame.n_rows, len(frame.modalities)), np.nan)
    for column, modality in enumerate(frame.modalities):
        has = frame.present[:, column]
        if modality in bundle.modalities_read and has.any():
            contributions[has, column] = (scores - bundle.stack.score(frame.without(modality)))[has]
    return contributions


def _gathered(
    bundle: Bundle,
    frames: Iterator[RankingFrame],
    pairs: pl.DataFrame,
    order: IntArray | None = None,
    *,
    explain: bool = False,
) -> Scored:
    """Score frames whose rows, one frame after the other, are those of `pairs` taken in `order`."""
    scores, present, new_users, shares = [], [], [], []
    modalities: tuple[str, ...] = ()
    # The bits of a matrix product may depend on the number of threads.
    with _thread_pools().limit(limits=1, user_api="blas"):
        for frame in frames:
            scores.append(bundle.stack.score(frame))
            present.append(frame.present)
            new_users.append(_unknown_users(bundle, frame))
            modalities = frame.modalities
            if explain:
                shares.append(explained(bundle, frame, scores[-1]))
    back = np.arange(len(pairs))
    if order is not None:
        back[order] = np.arange(len(order))
    score, has = np.concatenate(scores)[back], np.concatenate(present)[back]
    is_new = np.concatenate(new_users)[back]
    read = np.array([name in bundle.modalities_read for name in modalities], dtype=bool)
    rows = pairs.select("query", "item").with_columns(
        pl.Series("score", score),
        pl.Series("rank", _ranks(_runs(pairs["query"]), score)),
        pattern_series(modalities, has & read).alias("modalities_used"),
        pattern_series(*_missing(modalities, has, read, is_new)).alias("fallback"),
    )
    if explain:
        rows = rows.with_columns(_contributions(bundle, modalities, np.concatenate(shares)[back]))
    counts = {name: int(has[:, column].sum()) for column, name in enumerate(modalities)}
    return Scored(rows.sort("query", "rank"), score, counts)


def _contributions(
    bundle: Bundle, modalities: tuple[str, ...], shares: NDArray[np.float64]
) -> list[pl.Series]:
    read = [(column, name) for column, name in enumerate(modalities) if name in bundle.modalities_read]
    return [pl.Series(f"contribution_{name}", shares[:, column], nan_to_null=True) for column, name in read]


@cache
def _thread_pools() -> ThreadpoolController:
    """Return the pools of the libraries, which take longer to find than a small chunk takes to score."""
    return ThreadpoolController()


def _missing(
    modalities: tuple[str, ...], has: BoolArray, read: BoolArray, is_new: BoolArray
) -> tuple[tuple[str, ...], BoolArray]:
    """Return what the model had to do without, as names and (n_rows, n_names) bool."""
    names = tuple("new_item" if name == BEHAVIOUR else f"no_{name}" for name in modalities)
    return ("new_user", *names), np.column_stack([is_new, ~has & read])


def _unknown_users(bundle: Bundle, frame: RankingFrame) -> BoolArray:
    """(n_rows,) bool: there is a history, and it does not know the user of the row."""
    history = bundle.model.history
    if not len(history.users):
        return np.zeros(frame.n_rows, dtype=bool)
    return np.asarray(history.activity[frame.queries] == 0)


def _runs(queries: pl.Series) -> IntArray:
    """(n_rows,) number of the query of each row, for rows of which those of a query stand together."""
    runs: IntArray = queries.rle_id().to_numpy().astype(np.int64)
    return runs


def _ranks(runs: IntArray, scores: NDArray[np.float64]) -> IntArray:
    """(n_rows,) ranks from 1 within the query; equal scores in the order of the rows."""
    order = np.lexsort((-scores, runs))
    starts = np.flatnonzero(np.diff(runs, prepend=-1))
    sizes = np.diff(np.append(starts, len(runs)))
    ranks = np.empty(len(runs), dtype=np.int64)
    ranks[order] = np.arange(len(runs)) - np.repeat(starts, sizes) + 1
    return ranks


def _chunks(runs: IntArray, chunk_rows: int) -> Iterator[tuple[int, int]]:
    """Yield row borders of chunks of about `chunk_rows` rows that never split a query."""
    start = 0
    while start < len(runs):
        last = runs[min(start + chunk_rows, len(runs)) - 1]
        stop = int(np.searchsorted(runs, last, side="right"))
        yield start, stop
        start = stop
