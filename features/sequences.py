"""The last items of a query's user, and a vector of every item in each modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# Not imported from features.frame, which imports this module.
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ItemTable:
    """What is known of items before one cut.

    Attributes
    ----------
    modalities
        Names of M modalities.
    vectors
        M arrays (n_items, d_m) float32 by item code; rows without the modality mean nothing.
    present
        M arrays (n_items,) bool.
    """

    modalities: tuple[str, ...]
    vectors: tuple[FloatArray, ...]
    present: tuple[BoolArray, ...]

    def select(self, names: Sequence[str]) -> ItemTable:
        """Return the table of those of its modalities that are named, in its own order."""
        kept = [place for place, name in enumerate(self.modalities) if name in names]
        return ItemTable(
            tuple(self.modalities[place] for place in kept),
            tuple(self.vectors[place] for place in kept),
            tuple(self.present[place] for place in kept),
        )


@dataclass(frozen=True)
class Sequences:
    """The last items of n queries, told apart by the cut before which they are known.

    Attributes
    ----------
    recent
        (n, length) int64 item codes, the newest first, filled up with -1.
    sources
        (n,) int64 place in `tables` of what is known of the items of each query, its candidates included.
    tables
        Tables of the same modalities.
    ordered
        The places in `recent` tell an order in time.
    """

    recent: IntArray
    sources: IntArray
    tables: tuple[ItemTable, ...]
    ordered: bool

    def __post_init__(self) -> None:
        if self.sources.shape != self.recent.shape[:1]:
            raise ValueError(f"sources: got shape {self.sources.shape}, expected {self.recent.shape[:1]}")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities of the tables."""
        return self.tables[0].modalities

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Dimensions of the vectors of each modality."""
        return tuple(vectors.shape[1] for vectors in self.tables[0].vectors)

    def take(self, positions: IntArray | BoolArray) -> Sequences:
        """Return the sequences of the queries at these positions."""
        return replace(self, recent=self.recent[positions], sources=self.sources[positions])

    def select(self, names: Sequence[str]) -> Sequences:
        """Return the sequences with only the named modalities; names of others are passed over."""
        if set(self.modalities) <= set(names):
            return self
        return replace(self, tables=tuple(table.select(names) for table in self.tables))


def concatenate(parts: Sequence[Sequences | None]) -> Sequences | None:
    """Stack the sequences of several frames, of which all have some or none has; equal tables are kept once.

    Raises
    ------
    ValueError
        If some have sequences and others have none, or they differ in modalities, length or order.
    """
    given = [part for part in parts if part is not None]
    if not given:
        return None
    first = given[0]
    alike = all(
        part.modalities == first.modalities
        and part.ordered == first.ordered
        and part.recent.shape[1] == first.recent.shape[1]
        for part in given
    )
    if len(given) < len(parts) or not alike:
        raise ValueError("frames with other sequences cannot be stacked")
    tables: list[ItemTable] = []
    sources = []
    for part in given:
        places = []
        for table in part.tables:
            if table not in tables:
                tables.append(table)
            places.append(tables.index(table))
        sources.append(np.array(places, dtype=np.int64)[part.sources])
    recent = np.concatenate([part.recent for part in given])
    return Sequences(recent, np.concatenate(sources), tuple(tables), first.ordered)
