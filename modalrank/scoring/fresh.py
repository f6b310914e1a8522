"""Brings a bundle up to date with ids, tables and interactions that are newer than it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from features.builder import FeatureModel
from features.encoders import Encoded
from features.errors import DataError
from features.filling import filled
from features.history import UNKNOWN, History, IdIndex
from features.retrievers import BEHAVIOUR, content_retrievers
from features.space import ModalityVectors, Space, extended, place
from features.tables import read_interactions
from modalrank.bundle import Bundle
from modalrank.dataset import canonical_columns, read_entity_table
from modalrank.encoding import encode_rows


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
    content = content_retrievers(item_space, retrievers, known)
    if history is not None:
        known = _coded_history(history, query_ids, item_ids, model.history.positive_from)
    grown = FeatureModel(known, item_space, user_space, (*retrievers, *content), model.settings)
    return replace(bundle, queries=query_ids, items=item_ids, model=grown)


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
    added = {}
    for name, modality in space.items():
        nothing = Encoded(np.zeros((0, modality.vectors.shape[1]), np.float32), np.zeros(0, dtype=bool))
        here = encoded.get(name, nothing)
        added[name] = place(here, codes if name in encoded else codes[:0], n_new)
    if table == "items":
        added = _guessed(bundle, space, added)
    # The items that the graph was made over when the model was trained.
    known = bundle.model.history.popularity > 0
    neighbours = bundle.config.candidates.content_neighbours
    return {
        name: extended(modality, Encoded(new.vectors, new.present, new.terms), known, neighbours, new.guessed)
        for name, modality in space.items()
        for new in (added[name],)
    }


def _guessed(bundle: Bundle, space: Space, added: Space) -> dict[str, ModalityVectors]:
    """Return the appended rows with guesses for what they lack, as the model's filling makes them."""
    settings, n_old = bundle.model.settings, len(bundle.items)
    if settings.filling == "none":
        return dict(added)
    n_new = len(next(iter(added.values())).present)
    both = {
        name: ModalityVectors(
            np.concatenate([old.vectors, added[name].vectors]),
            np.concatenate([old.present, added[name].present]),
            guessed=np.concatenate([old.filled, np.zeros(n_new, dtype=bool)]),
        )
        for name, old in space.items()
    }
    is_new = np.arange(n_old + n_new) >= n_old
    liked = bundle.model.history.resized(len(bundle.queries), n_old + n_new).liked
    guesses = filled(
        both, liked, settings.filling, sources=~is_new, targets=is_new, fixed=settings.categories
    )
    return {
        name: replace(
            added[name],
            vectors=each.vectors[n_old:],
            present=each.present[n_old:],
            guessed=each.filled[n_old:],
        )
        for name, each in guesses.items()
    }


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
