"""Answers on disk, keyed by question, model and row, so that a rerun costs nothing."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

MISSING: Any = object()


class Answers:
    """An SQLite file of answers; every answer is committed as it comes, so that a crash loses none."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._connected() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)"
            )

    def get(self, key: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the answer, or MISSING."""
        with self._connected() as connection:
            row = connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return MISSING if row is None else json.loads(row[0])

    def put(self, key: str, answer: Any) -> None:  # noqa: ANN401 - any JSON
        """Keep an answer; that of another process that was first stays."""
        with self._connected() as connection:
            connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, json.dumps(answer)))

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.file, timeout=60.0)) as connection, connection:
            yield connection


def answer_key(*parts: str) -> str:
    """Return the SHA-256 of question, model and row, whose borders cannot be mistaken."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
