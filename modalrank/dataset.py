"""The tables of a config, read, checked, split and turned into codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.builder import RowBlock
from features.contract import SPLITS, check_tables, raise_first_failure
from features.errors import DataError
from features.frame import BoolArray, FloatArray, IntArray
from features.history import History, IdIndex
from features.splits import assign_split
from features.tables import (
    Columns,
    read_entities,
    read_interactions,
    sha256_of_file,
)
from modalrank.config import Config, ModalityConfig

STAGES = {split: stage for stage, split in enumerate(SPLITS)}


@dataclass(frozen=True)
class Dataset:
    """Interactions with codes and a split, and the item and user tables.

    Attributes
    ----------
    interactions
        Canonical columns plus the ready-made feature columns, sorted by (query, item).
    queries, items
        The code spaces.
    query_codes, item_codes
        (n,) int64, row by row of `interactions`.
    """

    config: Config
    interactions: pl.DataFrame
    queries: IdIndex
    items: IdIndex
    query_codes: IntArray
    item_codes: IntArray
    item_table: pl.DataFrame | None
    user_table: pl.DataFrame | None

    def in_split(self, *names: str) -> BoolArray:
        """(n,) bool: the interaction is of one of these splits."""
        return self.interactions["split"].is_in(list(names)).to_numpy()

    def history(self, keep: BoolArray) -> History:
        """Return the interactions where `keep` is true, as a history over the whole code spaces."""
        rows = self.interactions.filter(pl.Series(keep))
        return History(
            users=self.query_codes[keep],
            items=self.item_codes[keep],
            labels=rows["label"].to_numpy().astype(np.float32),
            times=rows["time"].to_numpy() if "time" in rows.columns else None,
            n_users=len(self.queries),
            n_items=len(self.items),
            positive_from=self.config.data.positive_from,
            stages=rows["split"].replace_strict(STAGES, return_dtype=pl.Int64).to_numpy(),
        )

    def input_digests(self) -> dict[str, str]:
        """Return the SHA-256 of the full content of every input table, by its name in the config."""
        data = self.config.data
        files = [path for paths in data.interaction_files().values() for path in paths]
        files += [data.path(name) for name in (data.items, data.users) if name is not None]
        return {str(path): sha256_of_file(path) for path in files}


def load_dataset(config: Config, queries: IdIndex | None = None, items: IdIndex | None = None) -> Dataset:
    """Read and check everything that the config names.

    Codes start from `queries` and `items` where those are given, so that they agree with a model's.

    Raises
    ------
    DataError
        At the first breach of the data contract, an item that the item table lacks included.
    """
    data = config.data
    interactions = read_interactions(
        data.interaction_files(),
        canonical_columns(config),
        extra=row_columns(config.modalities),
        presorted=data.presorted,
        duplicates=data.duplicates,
    )
    item_table = _read_table(config, "items")
    user_table = _read_table(config, "users")
    checks = check_tables(
        interactions,
        item_table,
        user_table,
        modality_columns(config),
        form=data.form,
        positive_from=data.positive_from,
        names=canonical_columns(config).named,
        duplicates=data.duplicates,
    )
    raise_first_failure(checks)
    if "split" not in interactions.columns or config.split.by != "column":
        split = config.split
        interactions = assign_split(interactions, split.by, split.valid, split.test, config.seed)
    for name in ("train", "valid", "test"):
        if not (interactions["split"] == name).any():
            raise DataError(
                f"no row of the split {name!r}", fix="check the split column or the split section"
            )
    interactions = interactions.sort("query", "item")
    items = (items or IdIndex.of([])).extend([*interactions["item"].unique(), *_ids(item_table)])
    queries = (queries or IdIndex.of([])).extend([*interactions["query"].unique(), *_ids(user_table)])
    return Dataset(
        config=config,
        interactions=interactions,
        queries=queries,
        items=items,
        query_codes=queries.codes(interactions["query"]),
        item_codes=items.codes(interactions["item"]),
        item_table=item_table,
        user_table=user_table,
    )


def canonical_columns(config: Config) -> Columns:
    """Return the user's column names for the table readers."""
    return Columns(**config.data.columns.model_dump())


def modality_columns(config: Config) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return modality to its table and columns."""
    return {name: (m.table, tuple(m.columns)) for name, m in config.modalities.items()}


def row_columns(modalities: Mapping[str, ModalityConfig]) -> list[str]:
    """Return the ready-made feature columns of the interaction table."""
    return [column for m in modalities.values() if m.table == "interactions" for column in m.columns]


def row_blocks(modalities: Mapping[str, ModalityConfig], rows: pl.DataFrame) -> dict[str, RowBlock]:
    """Return the modalities that come with the rows; a null cell is missing."""
    blocks = {}
    for name, modality in modalities.items():
        if modality.table == "interactions":
            values: FloatArray = rows.select(pl.col(modality.columns).cast(pl.Float32)).to_numpy()
            present = np.asarray(np.isfinite(values).any(axis=1))
            blocks[name] = RowBlock(tuple(modality.columns), np.asarray(values, np.float32), present)
    return blocks


def read_entity_table(config: Config, table: str, file: Path) -> pl.DataFrame:
    """Read a file that has the columns of the item or user table."""
    return read_entities(file, id_column(config, table), columns_of(config, table))


def _read_table(config: Config, table: str) -> pl.DataFrame | None:
    name = getattr(config.data, table)
    return None if name is None else read_entity_table(config, table, config.data.path(name))


def _ids(table: pl.DataFrame | None) -> list[str]:
    return [] if table is None else table["id"].to_list()


def id_column(config: Config, table: str) -> str:
    """Return the user's name of the id column of the item or user table."""
    return config.data.item_id if table == "items" else config.data.user_id


def columns_of(config: Config, table: str) -> Sequence[str]:
    """Return the columns that modalities take from a table, each once."""
    columns = [column for m in config.modalities.values() if m.table == table for column in m.columns]
    return list(dict.fromkeys(columns))
