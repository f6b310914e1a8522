"""Encoders of a config: fitted on the item and user tables, and the spaces of vectors they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from features.encoders import Encoded, Encoder, make_encoder
from features.space import ModalityVectors, place
from modalrank.config import Config
from modalrank.dataset import Dataset


class Encodings(NamedTuple):
    """Fitted encoders by modality, and what they made of the item and user tables."""

    encoders: dict[str, Encoder]
    items: dict[str, ModalityVectors]
    users: dict[str, ModalityVectors]


def fit_encoders(dataset: Dataset, progress: Callable[[str], None]) -> Encodings:
    """Fit every encoder of the config; encoders see no label, so they learn from all rows of their table."""
    config = dataset.config
    result = Encodings({}, {}, {})
    tables = {"items": (dataset.item_table, dataset.items), "users": (dataset.user_table, dataset.queries)}
    for name, modality in config.modalities.items():
        table, index = tables.get(modality.table, (None, None))
        if table is None or index is None:
            continue
        progress(f"encode {name} ({modality.encoder})")
        columns = table.select(modality.columns)
        source = table_folder(config, modality.table)
        encoder = make_encoder(modality.encoder, modality.params).fit(columns, source)
        placed = place(encoder.encode(columns, source), index.codes(table["id"]), len(index))
        result.encoders[name] = encoder
        (result.items if modality.table == "items" else result.users)[name] = placed
    return result


def encode_rows(
    config: Config, encoders: Mapping[str, Encoder], table: str, rows: pl.DataFrame, source: Path
) -> dict[str, Encoded]:
    """Encode new rows of the `items` or `users` table with fitted encoders."""
    return {
        name: encoders[name].encode(rows.select(modality.columns), source)
        for name, modality in config.modalities.items()
        if modality.table == table
    }


def table_folder(config: Config, table: str) -> Path:
    """Return the folder that file names in the item or user table are relative to."""
    return config.data.path(getattr(config.data, table)).parent
