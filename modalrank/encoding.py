"""Encoders of a config: fitted on the item and user tables, and the spaces of vectors they give."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from features.encoders import BadMedia, Encoded, Encoder, Source, encode_as, make_encoder
from features.errors import DataError
from features.history import IdIndex
from features.space import ModalityVectors, place
from modalrank.config import Config, ModalityConfig
from modalrank.dataset import Dataset
from modalrank.media import media_source

logger = logging.getLogger(__name__)


class Encodings(NamedTuple):
    """Fitted encoders by modality, what they made of the item and user tables, and the files that are bad."""

    encoders: dict[str, Encoder]
    items: dict[str, ModalityVectors]
    users: dict[str, ModalityVectors]
    bad: tuple[BadMedia, ...] = ()


def fit_encoders(dataset: Dataset, progress: Callable[[str], None]) -> Encodings:
    """Fit every encoder of the config; encoders see no label, so they learn from all rows of their table."""
    config = dataset.config
    result, bad = Encodings({}, {}, {}), list[BadMedia]()
    shared: list[tuple[str, pl.DataFrame, Source, pl.DataFrame, IdIndex]] = []
    tables = {"items": (dataset.item_table, dataset.items), "users": (dataset.user_table, dataset.queries)}
    for name, modality in config.modalities.items():
        table, index = tables.get(modality.table, (None, None))
        if table is None or index is None:
            continue
        progress(f"encode {name} ({modality.encoder})")
        columns = table.select(modality.columns)
        file = config.data.path(getattr(config.data, modality.table))
        source = media_source(config.media, file.parent, name, progress)
        with _rows_of_file(table, file):
            if modality.space is not None:
                shared.append((name, columns, source, table, index))
                continue
            encoder = make_encoder(modality.encoder, modality.params).fit(columns, source)
            encoded = encoder.encode(columns, source)
        bad += source.bad
        placed = place(encoded, index.codes(table["id"]), len(index))
        result.encoders[name] = encoder
        (result.items if modality.table == "items" else result.users)[name] = placed
    for name, columns, source, table, index in shared:
        with _rows_of_file(table, source.folder / str(config.data.users)):
            encoded = encode_as(result.encoders[str(config.modalities[name].space)], columns, source)
        bad += source.bad
        result.users[name] = place(encoded, index.codes(table["id"]), len(index))
    # Only items have neighbours to find by their terms.
    users = {name: replace(modality, terms=None) for name, modality in result.users.items()}
    return result._replace(users=users, bad=tuple(bad))


def encode_rows(
    config: Config, encoders: Mapping[str, Encoder], table: str, rows: pl.DataFrame, file: Path
) -> dict[str, Encoded]:
    """Encode new rows of the `items` or `users` table, read from a file, with fitted encoders.

    File names in the rows are relative to the folder of the file.
    """
    with _rows_of_file(rows, file):
        return {
            name: _encoding(encoders, name, modality)(
                rows.select(modality.columns), media_source(config.media, file.parent, name, logger.info)
            )
            for name, modality in config.modalities.items()
            if modality.table == table
        }


def _encoding(
    encoders: Mapping[str, Encoder], name: str, modality: ModalityConfig
) -> Callable[[pl.DataFrame, Source], Encoded]:
    """Return how a modality is encoded: by its own encoder, or as in the space that it shares."""
    if modality.space is None:
        return encoders[name].encode
    return partial(encode_as, encoders[modality.space])


@contextmanager
def _rows_of_file(rows: pl.DataFrame, file: Path) -> Iterator[None]:
    """Let an encoder's complaint name the file and the row in it: it counts in rows sorted by id."""
    try:
        yield
    except DataError as error:
        row = None if error.row is None else int(rows["row"][error.row - 1])
        place = {"file": error.file or str(file), "column": error.column, "row": row}
        raise type(error)(error.problem, fix=error.fix, **place) from error  # type: ignore[arg-type]
