"""Vectors on disk, keyed by what was described and by what described it."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

log = logging.getLogger(__name__)

FloatArray = NDArray[np.float32]
ENDING = ".arrow"


@dataclass(frozen=True)
class VectorCache:
    """A folder of Arrow files that only ever grows; to delete it loses nothing but time.

    Vectors lie in one subfolder a describer, named by its digest. A write is one new file, named by the
    SHA-256 of its bytes and published by a rename, so that processes may share the folder, a crash leaves
    whole files only, and a file whose bytes are not those of its name is dropped instead of believed.
    """

    folder: Path

    def read(self, describer: str, keys: Iterable[str]) -> dict[str, FloatArray]:
        """Return the vectors that are there, by key."""
        wanted = set(keys)
        found: dict[str, FloatArray] = {}
        for path in sorted((self.folder / describer).glob(f"*{ENDING}")):
            if not wanted:
                break
            table = _read(path)
            if table is None:
                continue
            here = wanted.intersection(table["key"].to_pylist())
            if here:
                vectors = _vectors(table)
                places = {key: row for row, key in enumerate(table["key"].to_pylist())}
                found |= {key: vectors[places[key]] for key in here}
                wanted -= here
        return found

    def write(self, describer: str, keys: Sequence[str], vectors: FloatArray) -> None:
        """Add the (n, d) float32 vectors of n keys."""
        if not keys:
            return
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
        columns = {
            "key": pa.array(keys, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
        table = pa.table(columns)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        content = sink.getvalue().to_pybytes()
        folder = self.folder / describer
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(content).hexdigest()
        temporary = folder / f".{name}.{os.getpid()}.tmp"
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / f"{name}{ENDING}")
        finally:
            temporary.unlink(missing_ok=True)


def _read(path: Path) -> pa.Table | None:
    """Read one file; a broken one is deleted, and one that another process deleted is none."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(content).hexdigest() != path.stem:
        log.warning("%s is not what was written there and is dropped: its vectors are made again", path)
        with suppress(OSError):
            path.unlink()
        return None
    return pa.ipc.open_file(pa.BufferReader(content)).read_all()


def _vectors(table: pa.Table) -> FloatArray:
    column = table["vector"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    rows: FloatArray = np.asarray(flat, dtype=np.float32).reshape(len(column), -1)
    return rows
