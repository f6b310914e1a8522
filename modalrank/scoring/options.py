"""What is to be scored with which model, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from features.tables import sha256_of_file
from modalrank.bundle import MANIFEST
from modalrank.scoring.checks import OnError
from modalrank.scoring.fresh import Fresh

SHARD_ROWS = 250_000


@dataclass(frozen=True)
class Model:
    """A model whose alias has been resolved: its name, exact version and the folder of its bundle."""

    name: str
    version: str
    folder: Path

    def identity(self) -> dict[str, str]:
        """Return what tells it from every other one."""
        digest = sha256_of_file(self.folder / MANIFEST)
        return {"name": self.name, "version": self.version, "digest": digest}


@dataclass(frozen=True)
class Options:
    """What to score, and how.

    Attributes
    ----------
    kind
        What the input holds: pairs to score, or users to make lists for.
    given
        File, folder, glob or URL.
    top_k
        Length of the lists.
    fresh
        Newer tables.
    on_error, max_errors
        What to do about bad rows, see `checks.Policy`.
    partitions
        Hash buckets of the query that the output is divided into; 1 divides nothing.
    explain
        Add what each modality adds to a score.
    max_drift
        Refuse the result if an index of drift is above this.
    max_bad_media
        Replaces what the model's config allows.
    memory
        Bytes that the job should stay within; the output does not depend on it.
    chunk_rows
        Rows scored at once, None: as the memory allows; the output does not depend on it.
    shard_rows
        Rows of an output file.
    """

    kind: Literal["candidates", "users"]
    given: str
    top_k: int = 100
    fresh: Fresh = field(default_factory=Fresh)
    on_error: OnError = "fail"
    max_errors: int | None = None
    partitions: int = 1
    explain: bool = False
    max_drift: float | None = None
    max_bad_media: float | None = None
    memory: int = 2 << 30
    chunk_rows: int | None = None
    shard_rows: int = SHARD_ROWS

    def identity(self) -> dict[str, Any]:
        """Return what the bytes of the output depend on."""
        return {
            "kind": self.kind,
            "top_k": self.top_k if self.kind == "users" else None,
            "on_error": self.on_error,
            "max_errors": self.max_errors,
            "partitions": self.partitions,
            "explain": self.explain,
            "max_drift": self.max_drift,
            "max_bad_media": self.max_bad_media,
            "shard_rows": self.shard_rows,
            "fresh": {
                name: sha256_of_file(file) for name, file in vars(self.fresh).items() if file is not None
            },
        }
