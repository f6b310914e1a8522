"""Descriptors of files that a column names; shared by the encoders of images and audio."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.encoders.columns import as_text

log = logging.getLogger(__name__)

Content = TypeVar("Content")
Result = TypeVar("Result")
FloatArray = NDArray[np.float32]


class Unreadable(NamedTuple):
    """A file that could not be read; `row` counts the table's rows from 1."""

    row: int
    path: str
    reason: str


class _Failure(str):
    """Why a file could not be read."""


@dataclass(frozen=True)
class FileDescriptor(Generic[Content]):
    """How files of one kind become numbers.

    Attributes
    ----------
    noun
        What a file is called in a warning.
    width
        Number of components of a descriptor.
    read
        Opens and decodes a file, however it may fail.
    describe
        Turns the content into (width,) float32, for every content that `read` gives.
    """

    noun: str
    width: int
    read: Callable[[Path], Content]
    describe: Callable[[Content], FloatArray]

    def rows(self, names: pl.Series, source: Path) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Describe each distinct file once.

        Returns
        -------
        rows
            (present.sum(), width) float32.
        present
            (n,) bool: the row names a file that could be read. One warning tells how many could not.
        """
        paths = as_text(names, "file names")
        distinct, described = _each_file(paths, source, self._describe)
        position = {name: i for i, name in enumerate(distinct)}
        found = [position[name] if name is not None else -1 for name in paths]
        lost = {i for i, result in enumerate(described) if isinstance(result, _Failure)}
        rows = [described[i] for i in found if i >= 0 and i not in lost]
        present = np.array([i >= 0 and i not in lost for i in found], dtype=np.bool_)
        if lost:
            first = min(lost)
            log.warning(
                "column %r: %d of %d %s files could not be read and count as missing, the first is %s (%s)",
                names.name,
                len(lost),
                len(distinct),
                self.noun,
                distinct[first],
                described[first],
            )
        return np.array(rows, dtype=np.float32).reshape(-1, self.width), present

    def unreadable(self, names: pl.Series, source: Path) -> list[Unreadable]:
        """List the rows whose file is not there or cannot be decoded."""
        paths = as_text(names, "file names")
        distinct, tried = _each_file(paths, source, self._try)
        reasons = {name: str(r) for name, r in zip(distinct, tried, strict=True) if isinstance(r, _Failure)}
        return [Unreadable(i, name, reasons[name]) for i, name in enumerate(paths, 1) if name in reasons]

    def _describe(self, path: Path) -> FloatArray | _Failure:
        content = self._read(path)
        return content if isinstance(content, _Failure) else self.describe(content)

    def _try(self, path: Path) -> _Failure | None:
        content = self._read(path)
        return content if isinstance(content, _Failure) else None

    def _read(self, path: Path) -> Content | _Failure:
        try:
            if not path.is_file():
                return _Failure("no such file")
            return self.read(path)
        # Decoders raise errors of any type on broken bytes, and one file must not end a run.
        except Exception as error:
            return _Failure(str(error) or type(error).__name__)


def _each_file(
    paths: pl.Series, source: Path, work: Callable[[Path], Result]
) -> tuple[list[str], list[Result]]:
    """Return the distinct paths in order of appearance and what `work` gives for each."""
    distinct = paths.drop_nulls().unique(maintain_order=True).to_list()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return distinct, list(pool.map(work, (source / name for name in distinct)))
