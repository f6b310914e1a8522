"""Tiny data sets with a planted truth, written as a user would keep them: tables and a YAML config."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

N_USERS, N_ITEMS, N_COLD, EVENTS = 40, 40, 3, 12
N_QUERIES, N_DOCS = 30, 8
TASTE, PROFILE, TITLE = "taste", "profile", "title"
WORDS = {True: ["harbour", "sailor", "tide", "anchor"], False: ["glacier", "summit", "ridge", "snow"]}

LOG_CONFIG: dict[str, Any] = {
    "name": "tiny-log",
    "threads": 1,
    "data": {
        "items": "items.parquet",
        "users": "users.parquet",
        "positive_from": 4,
        "columns": {"label": "rating", "time": "time"},
    },
    "split": {"by": "user_time", "valid": 0.15, "test": 0.25},
    "modalities": {
        TASTE: {"columns": ["vector"], "encoder": "vectors"},
        TITLE: {"columns": ["title"], "encoder": "text", "params": {"dim": 4}},
        PROFILE: {"table": "users", "columns": ["age"], "encoder": "numeric"},
    },
    "candidates": {
        "retrievers": [{"kind": "popularity"}, {"kind": "item_knn", "params": {"shrink": 10}}],
        "per_source": 15,
        "content_neighbours": 10,
    },
    "labels": {"folds": 2, "negatives": 10},
    "components": 2,
    "last_k": 3,
    "bases": [
        {
            "name": TASTE,
            "family": "lightgbm",
            "blocks": [TASTE],
            "params": {"rounds": 20, "min_data_in_leaf": 5},
        },
        {"name": "fused", "family": "lightgbm", "params": {"rounds": 20, "min_data_in_leaf": 5}},
        {"name": "linear", "family": "linear", "blocks": [TASTE, TITLE, "behaviour"]},
    ],
    "ensemble": {
        "k": 5,
        "ladder": ["best_single", "rank_fusion", "linear_stack"],
        "reserve": 0,
        "sampling": "natural",
        "bootstrap_draws": 100,
    },
}

JUDGED_CONFIG: dict[str, Any] = {
    "name": "tiny-judged",
    "threads": 1,
    "data": {
        "interactions": "judged.parquet",
        "form": "judged",
        "columns": {"query": "query_id", "item": "doc_id", "label": "grade"},
    },
    "split": {"by": "query", "valid": 0.2, "test": 0.2},
    "modalities": {
        "words": {"table": "interactions", "columns": ["w1", "w2", "w3"], "encoder": "numeric"},
        "clicks": {"table": "interactions", "columns": ["c1", "c2", "c3"], "encoder": "numeric"},
    },
    "labels": {"folds": 2},
    "bases": [
        {
            "name": "words",
            "family": "lightgbm",
            "blocks": ["words"],
            "params": {"rounds": 20, "min_data_in_leaf": 5},
        },
        {"name": "linear", "family": "linear"},
    ],
    "ensemble": {
        "k": 5,
        "ladder": ["best_single", "rank_fusion", "linear_stack"],
        "bootstrap_draws": 100,
    },
}


@dataclass(frozen=True)
class World:
    """A folder with tables and the config that names them."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def rewrite(self, table: str, frame: pl.DataFrame) -> None:
        frame.write_parquet(self.folder / table)

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / name)

    def configure(self, **sections: Any) -> None:
        """Replace top-level keys of the config, or merge them where both are sections."""
        raw = yaml.safe_load(self.config.read_text())
        for name, value in sections.items():
            merges = isinstance(value, dict) and isinstance(raw.get(name), dict)
            raw[name] = {**raw[name], **value} if merges else value
        write_config(self.folder, raw)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(copy.deepcopy(config), sort_keys=False))


def item_ids() -> list[str]:
    return [f"i{number:02d}" for number in range(N_ITEMS)]


def user_ids() -> list[str]:
    return [f"u{number:02d}" for number in range(N_USERS)]


def make_log(folder: Path, seed: int = 0) -> World:
    """Write a log whose users meet and like the items that point where their taste does.

    The last three items are met by nobody, two items have no vector, every fourth has no title and the
    last user no age.
    """
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(N_ITEMS, 4))
    taste = rng.normal(size=(N_USERS, 4))
    unit_items, unit_users = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, taste))
    cosine = unit_users @ unit_items.T
    rows = []
    for user in range(N_USERS):
        drawn_to = np.exp(3 * cosine[user, : N_ITEMS - N_COLD])
        met = rng.choice(len(drawn_to), EVENTS, replace=False, p=drawn_to / drawn_to.sum())
        rows += [(user, int(item), 5 if cosine[user, item] > 0 else 2) for item in met]
    # Shuffled rows and times of their own, so that neither the file's order nor a tie tells anything.
    order = rng.permutation(len(rows))
    times = 1_700_000_000 + 1_000 * rng.permutation(len(rows))
    items, users = item_ids(), user_ids()
    pl.DataFrame(
        {
            "user_id": [users[rows[n][0]] for n in order],
            "item_id": [items[rows[n][1]] for n in order],
            "rating": [float(rows[n][2]) for n in order],
            "time": times,
        }
    ).write_parquet(folder / "interactions.parquet")
    titles = [" ".join(rng.choice(WORDS[bool(v[0] > 0)], 2, replace=False)) for v in vectors]
    pl.DataFrame(
        {
            "item_id": items,
            "vector": [None if n in (5, 15) else vectors[n].tolist() for n in range(N_ITEMS)],
            "title": [None if n % 4 == 0 else titles[n] for n in range(N_ITEMS)],
        },
        schema_overrides={"vector": pl.List(pl.Float32)},
    ).write_parquet(folder / "items.parquet")
    ages = rng.integers(18, 70, N_USERS).tolist()
    pl.DataFrame({"user_id": users, "age": [*ages[:-1], None]}).write_parquet(folder / "users.parquet")
    write_config(folder, LOG_CONFIG)
    return World(folder)


def make_judged(folder: Path, seed: int = 0) -> World:
    """Write judged lists whose grades follow `w1`; `clicks` is noise and missing for every fifth row."""
    rng = np.random.default_rng(seed)
    n = N_QUERIES * N_DOCS
    words, clicks = rng.normal(size=(2, n, 3))
    noisy = words[:, 0] + 0.3 * rng.normal(size=n)
    grades = np.digitize(noisy, [0.2, 1.0]).astype(np.float64)
    has_clicks = np.arange(n) % 5 > 0
    columns = {f"w{c + 1}": words[:, c] for c in range(3)}
    columns |= {f"c{c + 1}": np.where(has_clicks, clicks[:, c], np.nan) for c in range(3)}
    pl.DataFrame(
        {
            "query_id": [f"q{row // N_DOCS:02d}" for row in range(n)],
            "doc_id": [f"d{row:03d}" for row in rng.permutation(n)],
            "grade": grades,
            **columns,
        }
    ).with_columns(pl.col("c1", "c2", "c3").fill_nan(None)).write_parquet(folder / "judged.parquet")
    write_config(folder, JUDGED_CONFIG)
    return World(folder)


def with_cell(frame: pl.DataFrame, column: str, row: int, value: Any) -> pl.DataFrame:
    """Return the frame with one other cell; `row` counts from 1, as messages do."""
    values = frame[column].to_list()
    values[row - 1] = value
    return frame.with_columns(pl.Series(column, values, strict=False))
