"""Finds the files of an input: a file, a folder, a glob, or any of them behind a URL."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import DataError, TryAgainError
from features.table_files import ENDINGS, sha256_of_file

COPY_BYTES = 4 << 20


@dataclass(frozen=True)
class SourceFile:
    """One file of an input.

    Attributes
    ----------
    name
        What the user knows it by: its path or URL.
    path
        Where it is on this machine.
    key
        Its path below the input, which does not change when the whole input is moved.
    sha256, size, changed
        Of the content when it was found: digest, bytes and time of the last change in nanoseconds.
    """

    name: str
    path: Path
    key: str
    sha256: str
    size: int
    changed: int

    def require_unchanged(self) -> None:
        """Raise TryAgainError if the file is no longer the one whose digest was taken."""
        now = self.path.stat()
        if (now.st_size, now.st_mtime_ns) != (self.size, self.changed):
            raise TryAgainError(f"{self.name} was changed while it was read; run the command again")


def find_files(given: str, downloads: Path) -> list[SourceFile]:
    """Return the table files of an input, sorted by name, with their digests.

    Parameters
    ----------
    given
        A file, a folder (searched with its subfolders, names that begin with `_` or `.` left out), a glob,
        or one of these as a URL that fsspec knows.
    downloads
        Folder for copies of remote files; made when it is needed. What is scored is then what was hashed.

    Raises
    ------
    DataError
        If there is no such file, or none with an extension of a table.
    TryAgainError
        If a remote store does not answer.
    """
    if "://" in given:
        return _remote(given, downloads)
    path = Path(given)
    if path.is_dir():
        root, found = path, [file for file in path.rglob("*") if file.is_file()]
    elif path.exists() or not glob.has_magic(given):
        return [_described(given, path, path.name)]
    else:
        root = _root_of(given)
        found = [file for name in glob.glob(given, recursive=True) if (file := Path(name)).is_file()]
    keys = {file.relative_to(root).as_posix(): file for file in found}
    wanted = _tables(list(keys), given)
    return [_described(str(keys[key]), keys[key], key) for key in wanted]


def _root_of(pattern: str) -> Path:
    """Return the folder before the first part of a pattern that has a wildcard."""
    parts = Path(pattern).parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _tables(keys: Sequence[str], given: str) -> list[str]:
    """Return the keys of tables, sorted; what is hidden or a mark of another job is none."""
    seen = [key for key in keys if not any(part[0] in "_." for part in Path(key).parts)]
    tables = sorted(key for key in seen if key.lower().endswith(ENDINGS))
    if not tables:
        raise DataError(
            f"got no table among {len(seen)} files, expected one of {', '.join(ENDINGS)}",
            fix="correct the path or the pattern",
            file=given,
        )
    return tables


def _described(name: str, path: Path, key: str) -> SourceFile:
    digest = sha256_of_file(path)
    facts = path.stat()
    return SourceFile(name, path, key, digest, facts.st_size, facts.st_mtime_ns)


def _remote(given: str, downloads: Path) -> list[SourceFile]:
    import fsspec

    try:
        store, path = fsspec.core.url_to_fs(given)
        if glob.has_magic(path):
            root = str(_root_of(path))
            found = [name for name in store.glob(path) if store.isfile(name)]
        elif store.isdir(path):
            root, found = path, store.find(path)
        else:
            root, found = path.rpartition("/")[0], [path]
        start = len(root.rstrip("/")) + 1 if root not in ("", ".") else 0
        keys = {name[start:]: name for name in found}
        return [
            _copied(store, keys[key], key, downloads / f"{number:05d}")
            for number, key in enumerate(_tables(list(keys), given))
        ]
    except (ImportError, ValueError) as error:
        raise DataError(
            f"this kind of URL cannot be read ({error})", fix="install its fsspec package", file=given
        ) from error
    except FileNotFoundError as error:
        raise DataError("there is no such file", fix="correct the URL", file=given) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise TryAgainError(f"{given} does not answer: {error}") from error


def _copied(store: Any, path: str, key: str, folder: Path) -> SourceFile:  # noqa: ANN401 - fsspec is untyped
    """Copy a remote file, taking its digest on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    local, digest = folder / Path(key).name, hashlib.sha256()
    with store.open(path, "rb") as source, local.open("wb") as target:
        while block := source.read(COPY_BYTES):
            digest.update(block)
            target.write(block)
    facts = local.stat()
    name = store.unstrip_protocol(path)
    return SourceFile(name, local, key, digest.hexdigest(), facts.st_size, facts.st_mtime_ns)
