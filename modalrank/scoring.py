"""Scores files of candidates, or of users, with a bundle: in chunks, published by one rename."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from features.builder import FeatureModel, RowBlock
from features.candidates import Candidates
from features.contract import numbers_check, raise_first_failure
from features.encoders import Encoded
from features.errors import DataError
from features.frame import IntArray
from features.history import UNKNOWN, History, IdIndex
from features.retrievers import BEHAVIOUR, content_retrievers
from features.space import Space, extended, place
from features.tables import Columns, read_entities, read_interactions
from modalrank.bundle import Bundle
from modalrank.dataset import canonical_columns, read_entity_table, row_blocks, row_columns
from modalrank.encoding import encode_rows
from modalrank.evaluation import pattern_names

CHUNK_ROWS = 200_000
SCORES_FILE = "scores.parquet"


@dataclass(frozen=True)
class Fresh:
    """Tables that tell of items and users newer than the model; each may be absent.

    Attributes
    ----------
    items, users
        Files of the item and user table of new ids; known ids keep what the model has.
    history
        Interactions up to now, which replace those of the model.
    """

    items: Path | None = None
    users: Path | None = None
    history: Path | None = None


def read_candidates(bundle: Bundle, file: Path) -> pl.DataFrame:
    """Read a candidate file: `query` and `item` ids and, for judged models, the ready-made features.

    Raises
    ------
    DataError
        If it cannot be read, lacks a column, has a null id, a feature that is no finite number or a pair
        twice.
    """
    columns, features = bundle.config.data.columns, row_columns(bundle.config.modalities)
    pairs = Columns(query=columns.query, item=columns.item)
    rows = read_interactions({None: [file]}, pairs, extra=features)
    raise_first_failure([numbers_check(rows, features)])
    return rows


def read_users(bundle: Bundle, file: Path) -> pl.DataFrame:
    """Read a file of user ids, named as in the interaction table or as in the user table."""
    data = bundle.config.data
    names = dict.fromkeys((data.columns.query, data.user_id))
    errors = []
    for name in names:
        try:
            return read_entities(file, name, [])
        except DataError as error:
            errors.append(error)
    raise errors[0]


def refreshed(
    bundle: Bundle, fresh: Fresh, queries: Iterable[str], items: Iterable[str], *, described: bool = True
) -> Bundle:
    """Return the bundle with the code spaces grown by new ids, encoded with the model's own encoders.

    Raises
    ------
    DataError
        If an item is in neither the model nor the new item table although the model reads items; with
        `described` false such an item has no modality instead.
    """
    config = bundle.config
    new_items = None if fresh.items is None else read_entity_table(config, "items", fresh.items)
    new_users = None if fresh.users is None else read_entity_table(config, "users", fresh.users)
    history = None if fresh.history is None else _read_history(bundle, fresh.history)
    named = [*items, *([] if history is None else history["item"].unique().to_list())]
    if described:
        _require_described(bundle, named, new_items)
    item_ids = bundle.items.extend([*named, *([] if new_items is None else new_items["id"])])
    query_ids = bundle.queries.extend(
        [
            *queries,
            *([] if history is None else history["query"].unique().to_list()),
            *([] if new_users is None else new_users["id"]),
        ]
    )
    model = bundle.model
    item_space = _grown(bundle, "items", model.items, new_items, bundle.items, item_ids, fresh.items)
    user_space = _grown(bundle, "users", model.users, new_users, bundle.queries, query_ids, fresh.users)
    retrievers = [r.resized(len(item_ids)) for r in model.retrievers if r.block == BEHAVIOUR]
    known = model.history.resized(len(query_ids), len(item_ids))
    content = content_retrievers(item_space, retrievers, known.popularity)
    if history is not None:
        known = _coded_history(history, query_ids, item_ids, model.history.positive_from)
    grown = FeatureModel(known, item_space, user_space, (*retrievers, *content), model.settings)
    return replace(bundle, queries=query_ids, items=item_ids, model=grown)


def score_candidates(
    bundle: Bundle, candidates: pl.DataFrame, *, chunk_rows: int = CHUNK_ROWS
) -> Iterator[pl.DataFrame]:
    """Yield scored rows of given candidates, in chunks of whole queries.

    The scores of a query are the same bits in any order of the rows and for any `chunk_rows`, because
    every computation is a row's or a query's own and rows are put in canonical order first.
    """
    queries = bundle.queries.codes(candidates["query"])
    items = bundle.items.codes(candidates["item"])
    order = np.lexsort((items, queries))
    queries, items, rows = queries[order], items[order], candidates[order]
    for start, stop in _chunks(queries, chunk_rows):
        blocks = row_blocks(bundle.config.modalities, rows[start:stop])
        yield from _scored(bundle, bundle.model.given(queries[start:stop], items[start:stop]), blocks)


def score_users(bundle: Bundle, users: Iterable[str], top_k: int) -> Iterator[pl.DataFrame]:
    """Yield the best `top_k` generated candidates of every user, in chunks of whole users.

    Raises
    ------
    DataError
        If the model was trained on judged lists, for which candidates cannot be generated.
    """
    if not bundle.model.retrievers:
        raise DataError(
            "this model ranks given candidates and has no sources to generate any",
            fix="give the candidates with --candidates",
        )
    codes = np.unique(bundle.queries.codes(users))
    for scored in _scored(bundle, bundle.model.generated(codes), {}):
        yield scored.filter(pl.col("rank") <= top_k)


def write_scores(parts: Iterable[pl.DataFrame], folder: Path, model_version: str) -> tuple[Path, int]:
    """Write the parts as one Parquet file under a temporary name and publish it by rename.

    Returns the file and its number of rows; on any error the folder holds what it held before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, temporary = folder / SCORES_FILE, folder / f".{SCORES_FILE}.{os.getpid()}.tmp"
    n_rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for part in parts:
            table = part.with_columns(pl.lit(model_version).alias("model_version")).to_arrow()
            writer = writer or pq.ParquetWriter(temporary, table.schema)
            writer.write_table(table)
            n_rows += len(part)
        if writer is None:
            raise DataError("nothing to score: no candidate was found", fix="check the ids in the file")
        writer.close()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        if writer is not None:
            writer.close()
        temporary.unlink(missing_ok=True)
    return target, n_rows


def _scored(
    bundle: Bundle, batches: Iterator[Candidates], blocks: Mapping[str, RowBlock]
) -> Iterator[pl.DataFrame]:
    start = 0
    # The bits of a matrix product may depend on the number of threads.
    with threadpool_limits(1, user_api="blas"):
        for candidates in batches:
            stop = start + len(candidates.items)
            part = {
                name: RowBlock(block.names, block.values[start:stop], block.present[start:stop])
                for name, block in blocks.items()
            }
            start = stop
            frame = bundle.model.frame(candidates, row_blocks=part)
            scores = bundle.stack.score(frame)
            read = [name in bundle.modalities_read for name in frame.modalities]
            yield pl.DataFrame(
                {
                    "query": bundle.queries.ids[frame.queries],
                    "item": bundle.items.ids[frame.items],
                    "score": scores,
                    "rank": _ranks(frame.queries, bundle.items.ids[frame.items], scores),
                    "modalities_used": pattern_names(frame.modalities, frame.present & np.array(read)),
                }
            ).sort("query", "rank")


def _ranks(queries: IntArray, items: np.ndarray, scores: np.ndarray) -> IntArray:
    """(n_rows,) ranks from 1 within the query; equal scores in the order of their item ids."""
    order = np.lexsort((items, -scores, queries))
    starts = np.flatnonzero(np.diff(queries, prepend=queries[:1] - 1))
    sizes = np.diff(np.append(starts, len(queries)))
    ranks = np.empty(len(queries), dtype=np.int64)
    ranks[order] = np.arange(len(queries)) - np.repeat(starts, sizes) + 1
    return ranks


def _chunks(queries: IntArray, chunk_rows: int) -> Iterator[tuple[int, int]]:
    """Yield row borders of chunks of about `chunk_rows` rows that never split a query."""
    start = 0
    while start < len(queries):
        last = queries[min(start + chunk_rows, len(queries)) - 1]
        stop = int(np.searchsorted(queries, last, side="right"))
        yield start, stop
        start = stop


def _require_described(bundle: Bundle, items: list[str], new_items: pl.DataFrame | None) -> None:
    """Refuse items of which nothing is known, where the model reads what items are like."""
    if not bundle.model.items:
        return
    unknown = np.array(items)[bundle.items.codes(items) == UNKNOWN].tolist() if items else []
    described = set() if new_items is None else set(new_items["id"])
    absent = sorted(set(unknown) - described)
    if absent:
        raise DataError(
            f"{len(absent)} items are in neither the model nor an item table, such as {absent[0]!r}",
            fix="give their rows of the item table with --items",
            column=bundle.config.data.columns.item,
        )


def _grown(
    bundle: Bundle,
    table: str,
    space: Space,
    rows: pl.DataFrame | None,
    old: IdIndex,
    new: IdIndex,
    file: Path | None,
) -> Space:
    """Return a space over `new` ids, with the rows of a table encoded where it has them."""
    n_new = len(new) - len(old)
    if n_new == 0:
        return space
    encoded: Mapping[str, Encoded] = {}
    codes = np.zeros(0, dtype=np.int64)
    if rows is not None and file is not None:
        rows = rows.filter(pl.Series(old.codes(rows["id"]) == UNKNOWN, dtype=pl.Boolean))
        codes = new.codes(rows["id"]) - len(old)
        encoded = encode_rows(bundle.config, bundle.encoders, table, rows, file) if len(rows) else {}
    grown = {}
    # The items that the graph was made over when the model was trained.
    known = bundle.model.history.popularity > 0
    for name, modality in space.items():
        nothing = Encoded(np.zeros((0, modality.vectors.shape[1]), np.float32), np.zeros(0, dtype=bool))
        here = encoded.get(name, nothing)
        added = place(here, codes if name in encoded else codes[:0], n_new)
        neighbours = bundle.config.candidates.content_neighbours
        grown[name] = extended(modality, Encoded(added.vectors, added.present), known, neighbours)
    return grown


def _read_history(bundle: Bundle, file: Path) -> pl.DataFrame:
    config = bundle.config
    columns = replace(canonical_columns(config), split=None, weight=None)
    return read_interactions({None: [file]}, columns, duplicates=config.data.duplicates)


def _coded_history(rows: pl.DataFrame, queries: IdIndex, items: IdIndex, positive_from: float) -> History:
    return History(
        users=queries.codes(rows["query"]),
        items=items.codes(rows["item"]),
        labels=rows["label"].to_numpy().astype(np.float32),
        times=rows["time"].to_numpy() if "time" in rows.columns else None,
        n_users=len(queries),
        n_items=len(items),
        positive_from=positive_from,
    )


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
