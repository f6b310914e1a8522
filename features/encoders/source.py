"""Where an encoder reads from: the folder of the data, the cache, and what could not be read."""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from features.encoders.cache import VectorCache
from features.errors import DataError

T = TypeVar("T")
Progress = Callable[[str, int, int], None]


class Unreadable(NamedTuple):
    """A file that could not be read; `row` counts the table's rows from 1."""

    row: int
    path: str
    reason: str


class BadMedia(NamedTuple):
    """A file that counts as missing, the column that names it and why."""

    column: str
    path: str
    reason: str


@dataclass(frozen=True)
class Source:
    """What encoders of files and of pretrained models need besides the table.

    Attributes
    ----------
    folder
        File names are relative to it and must not leave it.
    cache
        Vectors of earlier runs, or None to describe everything again.
    progress
        Called with what is described, how many of it are done and how many there are.
    max_bad
        Share of the distinct files of a column that may be unreadable; so many, rounded up, count as
        missing, and one more is an error.
    bad
        Every file that counted as missing so far.
    """

    folder: Path
    cache: VectorCache | None = None
    progress: Progress | None = None
    max_bad: float = 1.0
    bad: list[BadMedia] = field(default_factory=list)
    _folders: dict[str, str] = field(default_factory=dict, repr=False)
    _digests: dict[tuple[str, int, int, int], str] = field(default_factory=dict, repr=False)
    _last: list[tuple[Hashable, Any]] = field(default_factory=list, repr=False)

    def report(self, column: str, noun: str, lost: dict[str, str], n_files: int) -> None:
        """Take note of unreadable files of a column, path to reason.

        Raises
        ------
        DataError
            If there are more of them than `max_bad` allows.
        """
        known = set(self.bad)
        found = (BadMedia(column, path, reason) for path, reason in lost.items())
        self.bad.extend(bad for bad in found if bad not in known)
        allowed = math.ceil(self.max_bad * n_files)
        if len(lost) > allowed:
            path, reason = next(iter(lost.items()))
            raise DataError(
                f"{len(lost)} of {n_files} {noun} files cannot be read, at most {allowed} may be; "
                f"the first is {path} ({reason})",
                fix="mend the files or the folder, or raise --max-bad-media (a share from 0 to 1)",
                column=column,
            )

    def locate(self, name: str) -> tuple[str, os.stat_result]:
        """Return the path of the file that a name in a table means, links followed, and its state.

        Raises
        ------
        ValueError
            If it is not there, is no plain file, or lies outside the folder.
        """
        root = self._real(str(self.folder))
        parent, base = os.path.split(os.path.join(root, name))
        path = os.path.join(self._real(parent), base)
        if base in ("", ".", "..") or os.path.islink(path):
            path = os.path.realpath(path)
        if os.path.commonpath((root, path)) != root:
            raise ValueError("it lies outside the data folder")
        try:
            state = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ValueError("no such file") from error
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("no such file")
        return path, state

    def _real(self, folder: str) -> str:
        """Return a folder with links followed; looked up once, as it is the same for thousands of files."""
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return self._folders[folder]

    def digest(self, path: str, state: os.stat_result) -> str:
        """Return the SHA-256 of a file, read once as long as its inode, size and time stay as they are."""
        key = (path, state.st_ino, state.st_size, state.st_mtime_ns)
        known = self._digests.get(key)
        if known is None:
            with open(path, "rb") as stream:
                known = hashlib.file_digest(stream, "sha256").hexdigest()
            self._digests[key] = known
        return known

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made last if that was for the same key: encoders fit and then encode one table."""
        if not self._last or self._last[0][0] != key:
            self._last[:] = [(key, make())]
        made: T = self._last[0][1]
        return made

    def say(self, noun: str, done: int, total: int) -> None:
        """Tell the progress to whoever asked for it."""
        if self.progress is not None:
            self.progress(noun, done, total)


Place = Path | Source
"""What encoders take: a folder will do."""


def source_of(place: Place) -> Source:
    """Return a folder as a source without a cache, and a source as it is."""
    return place if isinstance(place, Source) else Source(place)


def inside(folder: Path, name: str) -> Path:
    """Return the file that a name in a table means; raises ValueError as `Source.locate` does."""
    return Path(Source(folder).locate(name)[0])
