"""What a job says of itself: the manifest, from what is known of its shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from features.errors import DataError, GateError
from features.table_files import require_columns
from modalrank.drift import Reference, drift_from, histogram
from modalrank.scoring.batches import column_names
from modalrank.scoring.scorer import Scored
from modalrank.scoring.sources import SourceFile


class ShardFacts:
    """Counts what is scored into one shard."""

    def __init__(self, reference: Reference | None) -> None:
        self.edges = () if reference is None else reference.edges
        self.present: Counter[str] = Counter()
        self.counts = np.zeros(len(self.edges) + 1, dtype=np.int64)
        self.scored = self.fallback = 0
        self.lowest, self.highest = np.inf, -np.inf

    def add(self, chunk: Scored) -> pl.DataFrame:
        """Count a chunk and return its rows."""
        self.present.update(chunk.present)
        self.counts += histogram(chunk.scores, self.edges)
        self.scored += len(chunk.scores)
        self.fallback += int((chunk.rows["fallback"] != "none").sum())
        self.lowest = min(self.lowest, float(chunk.scores.min(initial=np.inf)))
        self.highest = max(self.highest, float(chunk.scores.max(initial=-np.inf)))
        return chunk.rows

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "scored": self.scored,
            "fallback": self.fallback,
            "present": dict(sorted(self.present.items())),
            "lowest": self.lowest,
            "highest": self.highest,
            "counts": self.counts.tolist(),
        }


def totals(shards: Sequence[Mapping[str, Any]], reference: Reference | None) -> dict[str, Any]:
    """Return the sums over the shards, and the drift from the hold-out where that is known."""
    scored = sum(shard["scored"] for shard in shards)
    present: Counter[str] = Counter()
    for shard in shards:
        present.update(shard["present"])
    counts = np.sum([shard["counts"] for shard in shards], axis=0)
    return {
        "scored": scored,
        "written": sum(shard["rows"] for shard in shards),
        "fallback": sum(shard["fallback"] for shard in shards),
        "lowest": min(shard["lowest"] for shard in shards),
        "highest": max(shard["highest"] for shard in shards),
        "coverage": {name: number / max(scored, 1) for name, number in sorted(present.items())},
        "drift": drift_from(reference, counts.tolist(), present, scored) if reference and scored else None,
    }


def require_little_drift(drift: Mapping[str, Any] | None, most: float | None) -> None:
    """Raise GateError if an index of drift is above `most`, DataError if no drift can be told."""
    if most is None:
        return
    if drift is None:
        raise DataError(
            "the model does not know the scores of its hold-out, so that no drift can be told",
            fix="train it again, or leave out --max-drift",
        )
    indices = {f"coverage of {name}": part["psi"] for name, part in drift["coverage"].items()}
    name, index = max([("scores", drift["score_psi"]), *indices.items()], key=lambda pair: pair[1])
    if index > most:
        raise GateError(
            f"the drift of {name} is {index:.3f} (population stability index), at most {most:g} is allowed; "
            "nothing was published; fix: look at the input, train again, or raise --max-drift"
        )


def ignored(sources: Iterable[SourceFile], wanted: Sequence[str]) -> list[str]:
    """Return the names of columns that are not wanted; raises DataError if a wanted one is missing."""
    found: set[str] = set()
    for source in sources:
        names = column_names(source)
        require_columns(names, wanted, source.name)
        found.update(names)
    return sorted(found - set(wanted))
