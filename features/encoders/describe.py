"""Values of a column, files or texts, as descriptors; each distinct content once, and once a cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.encoders.columns import as_text
from features.encoders.source import Source, Unreadable

log = logging.getLogger(__name__)

Content = TypeVar("Content")
FloatArray = NDArray[np.float32]

CHUNK = 256
LARGEST_FILE = 2 << 30


class _Failure(str):
    """Why a value could not be described."""


@dataclass(frozen=True)
class Describer(Generic[Content]):
    """How values of one kind become numbers, with nothing learned from the table.

    Attributes
    ----------
    noun
        What a value is called in a message.
    width
        Number of components of a descriptor; None where only the loaded model tells it.
    load
        Gets the content of a file or a text, however it may fail; called in threads.
    each
        Turns a content into what `describe` takes; called in the threads, too.
    describe
        Turns these into (n, width) float32; a row depends on its content alone.
    identity
        All that decides the descriptors besides the content: name, version, parameters, weights.
    libraries
        Distributions whose version may change the bits.
    files
        Values are names of files, not texts.
    largest
        Bytes of a file beyond which it is not opened.
    """

    noun: str
    width: int | None
    load: Callable[[Path], Content] | Callable[[str], Content]
    each: Callable[[Content], FloatArray] | None = None
    describe: Callable[[list[Any]], FloatArray] = np.stack
    identity: Mapping[str, object] = field(default_factory=dict)
    libraries: Sequence[str] = ()
    files: bool = True
    largest: int = LARGEST_FILE

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the identity and the versions of the libraries: the describer's part of a cache key."""
        versions = {name: installed(name) for name in self.libraries}
        whole = {"noun": self.noun, "width": self.width, "identity": self.identity, "libraries": versions}
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()

    def rows(self, column: pl.Series, source: Source) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Describe each distinct content once, those of the cache not at all.

        Returns
        -------
        rows
            (present.sum(), width) float32.
        present
            (n,) bool: the row has a value that could be read. One warning tells how many could not.

        Raises
        ------
        DataError
            If more files are unreadable than the source allows, or the column is not of text.
        """
        values = as_text(column, "file names" if self.files else "text")
        distinct = values.drop_nulls().unique(maintain_order=True).to_list()
        keys = self._keys(distinct, source)
        contents = (self.digest, column.name, tuple(values), tuple(keys.values()))
        return source.once(contents, lambda: self._rows(values, keys, source))

    def _rows(
        self, column: pl.Series, keys: Mapping[str, str | _Failure], source: Source
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        distinct = list(keys)
        described, lost = self._described(keys, source)
        lost = {value: lost[value] for value in distinct if value in lost}
        if lost:
            first = next(iter(lost))
            log.warning(
                "column %r: %d of %d %s files could not be read and count as missing, the first is %s (%s)",
                column.name,
                len(lost),
                len(distinct),
                self.noun,
                first,
                lost[first],
            )
        source.report(column.name, self.noun, lost, len(distinct))
        present = np.array([value is not None and value not in lost for value in column], dtype=np.bool_)
        rows = [described[str(keys[value])] for value in column if value is not None and value not in lost]
        whole = np.stack(rows) if rows else np.zeros((0, self.width or 0))
        return whole.astype(np.float32), present

    def unreadable(self, column: pl.Series, source: Source) -> list[Unreadable]:
        """List the rows whose file is not there or cannot be decoded."""
        values = as_text(column, "file names")
        distinct = values.drop_nulls().unique(maintain_order=True).to_list()
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            tried = dict(zip(distinct, pool.map(lambda v: self._load(v, source), distinct), strict=True))
        bad = {value: str(result) for value, result in tried.items() if isinstance(result, _Failure)}
        return [Unreadable(i, value, bad[value]) for i, value in enumerate(values, 1) if value in bad]

    def _keys(self, distinct: list[str], source: Source) -> dict[str, str | _Failure]:
        """Return value to the SHA-256 of its content."""

        def key(value: str) -> str | _Failure:
            if not self.files:
                return hashlib.sha256(value.encode()).hexdigest()
            try:
                return source.digest(*self._checked(value, source))
            except (OSError, ValueError, RuntimeError) as error:
                return _reason(error)

        # A task a chunk: handing over a small file each costs more than to read it.
        chunks = [distinct[start : start + CHUNK] for start in range(0, len(distinct), CHUNK)]
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            found = pool.map(lambda chunk: [key(value) for value in chunk], chunks)
            return dict(zip(distinct, (k for part in found for k in part), strict=True))

    def _described(
        self, keys: Mapping[str, str | _Failure], source: Source
    ) -> tuple[dict[str, FloatArray], dict[str, str]]:
        """Return key to descriptor, and value to the reason why it has none."""
        lost = {value: str(key) for value, key in keys.items() if isinstance(key, _Failure)}
        by_key: dict[str, list[str]] = {}
        for value, key in keys.items():
            if not isinstance(key, _Failure):
                by_key.setdefault(key, []).append(value)
        found = source.cache.read(self.digest, by_key) if source.cache else {}
        new = [key for key in by_key if key not in found]
        # Neighbours in a chunk are about as long, which is what a batch of texts wants.
        if not self.files:
            new.sort(key=lambda key: (len(by_key[key][0]), key))
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for start in range(0, len(new), CHUNK):
                source.say(self.noun, start, len(new))
                chunk = new[start : start + CHUNK]
                loaded = list(pool.map(lambda key: self._work(by_key[key][0], source), chunk))
                good = {k: c for k, c in zip(chunk, loaded, strict=True) if not isinstance(c, _Failure)}
                for key, content in zip(chunk, loaded, strict=True):
                    if isinstance(content, _Failure):
                        lost |= dict.fromkeys(by_key[key], str(content))
                if good:
                    rows = np.asarray(self.describe(list(good.values())), dtype=np.float32)
                    found |= dict(zip(good, rows, strict=True))
                    if source.cache:
                        source.cache.write(self.digest, list(good), rows)
        if new:
            source.say(self.noun, len(new), len(new))
        return found, lost

    def _work(self, value: str, source: Source) -> Any:  # noqa: ANN401 - whatever `describe` takes
        content = self._load(value, source)
        return content if isinstance(content, _Failure) or self.each is None else self.each(content)

    def _load(self, value: str, source: Source) -> Content | _Failure:
        try:
            content = Path(self._checked(value, source)[0]) if self.files else value
            return self.load(content)  # type: ignore[arg-type]
        # Decoders raise errors of any type on broken bytes, and one file must not end a run.
        except Exception as error:
            return _reason(error)

    def _checked(self, name: str, source: Source) -> tuple[str, os.stat_result]:
        path, state = source.locate(name)
        if state.st_size > self.largest:
            raise ValueError(f"it has {state.st_size} bytes, at most {self.largest} are read")
        return path, state


def _reason(error: Exception) -> _Failure:
    return _Failure(str(error) or type(error).__name__)
