"""The output of a job: made beside its place, shard by shard, and published by one rename."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from features.errors import DataError, TryAgainError
from features.tables import sha256_of_file

MANIFEST, SUCCESS, SKIPPED = "_manifest.json", "_SUCCESS", "skipped"
FORMAT = 2  # of the output
ROW_GROUP_ROWS = 100_000
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold the only right to write an output; it ends with the process.

    Raises
    ------
    TryAgainError
        If another process has it, or the disk is full.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out.parent / f".{out.name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise TryAgainError(
            f"another process is writing {out}; run the command again when it has ended"
        ) from error
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise TryAgainError(
            f"no room left to write {error.filename or out} ({os.strerror(error.errno)}); what was there "
            "before is untouched: make room and run the command again, it goes on where it ended"
        ) from error
    finally:
        # Whoever gets hold of a file that is no longer there tries again, so that this is no race.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def require_replaceable(out: Path) -> None:
    """Refuse an output folder that holds anything but an earlier output; raises DataError."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError("this is a file, expected a folder", fix="name another --out", file=str(out))
    known = {MANIFEST, SUCCESS}
    manifest = read_manifest(out)
    if manifest is not None:
        known |= {part["file"] for part in (*manifest["shards"], *manifest["skipped_files"])}
    there = sorted(file.relative_to(out).as_posix() for file in out.rglob("*") if not file.is_dir())
    others = [name for name in there if name not in known]
    if others:
        raise DataError(
            f"the folder holds {others[0]!r}, which no finished scoring job wrote",
            fix="name a new or empty folder with --out",
            file=str(out),
        )


def read_manifest(out: Path) -> dict[str, Any] | None:
    """Return what a finished job said of itself, None where there is none."""
    try:
        manifest: dict[str, Any] = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        return manifest if manifest.get("format") == FORMAT else None
    except (OSError, ValueError):
        return None


def is_whole(folder: Path, part: Mapping[str, Any]) -> bool:
    """Tell whether a file is the one that was written."""
    file = folder / part["file"]
    if not file.is_file() or file.stat().st_size != part["bytes"]:
        return False
    return sha256_of_file(file) == str(part["sha256"])


class Staging:
    """The folder beside an output in which a job is done.

    `work` and `downloads` hold what goes away, `ready` what is published.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.root = out.parent / f".{out.name}.job"
        self.work, self.ready = self.root / "work", self.root / "ready"
        self.downloads = self.root / "downloads"
        self.is_open = False

    def open(self, job: str) -> None:
        """Keep what an earlier run of the same job left, and nothing of any other."""
        mark = self.work / "job"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != job:
            for folder in (self.work, self.ready):
                shutil.rmtree(folder, ignore_errors=True)
            for folder in (self.work / "shards", self.ready):
                folder.mkdir(parents=True)
            write_durably(mark, job)
        self.is_open = True

    def discard(self, *, everything: bool = True) -> None:
        """Remove everything of the job but what is published, or only the copies of its input."""
        shutil.rmtree(self.root if everything else self.downloads, ignore_errors=True)
        if self.root.exists() and not any(self.root.iterdir()):
            self.root.rmdir()

    def note(self, name: str) -> dict[str, Any] | None:
        """Return what was noted under a name, None where nothing was or it is not whole."""
        try:
            noted: dict[str, Any] = json.loads((self.work / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return noted

    def write_note(self, name: str, value: Mapping[str, Any]) -> None:
        """Note something for a later run."""
        write_durably(self.work / f"{name}.json", json.dumps(value))

    def take_over(self, part: Mapping[str, Any]) -> None:
        """Bring a whole file of the published output into this job."""
        target = self.ready / part["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.out / part["file"], target)

    def write_table(self, name: str, table: pl.DataFrame) -> dict[str, Any]:
        """Write a Parquet file under a temporary name, sync it and rename it; return its facts."""
        target = self.ready / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.work / f"{target.name}.tmp"
        write_parquet(table, temporary)
        facts = {"file": name, "rows": len(table)} | facts_of(temporary)
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
        return facts

    def publish(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest and `_SUCCESS`, and put the output in its place by one rename."""
        write_durably(self.ready / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        write_durably(self.ready / SUCCESS, "")
        if self.out.exists():
            _exchange(self.ready, self.out)
        else:
            self.ready.rename(self.out)
        sync(self.out.parent)
        self.discard()

    def mend(self) -> None:
        """Finish or undo a publication that a crash cut between two renames; see `_exchange`."""
        aside = _aside(self.out)
        if not aside.exists():
            return
        if self.out.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(self.out)


def facts_of(file: Path) -> dict[str, Any]:
    """Return the digest and the size of a file."""
    return {"sha256": sha256_of_file(file), "bytes": file.stat().st_size}


def digest_of(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_parquet(table: pl.DataFrame, file: Path) -> None:
    """Write a table with statistics and checksums."""
    # Polars' own writer does not tell a full disk from any other error.
    pq.write_table(
        table.to_arrow(),
        file,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        compression_level=1,
        write_page_checksum=True,
    )


def write_durably(file: Path, text: str) -> None:
    """Write a small file so that a crash leaves the old or the new one."""
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    temporary.replace(file)
    sync(file.parent)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _aside(out: Path) -> Path:
    return out.parent / f".{out.name}.old"


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step where the system can, and in two that `mend` can finish elsewhere."""
    library = ctypes.CDLL(None, use_errno=True)
    if hasattr(library, "renameat2"):
        paths = os.fsencode(new), os.fsencode(old)
        if library.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(code, os.strerror(code), str(new))
    aside = _aside(old)
    old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside)
