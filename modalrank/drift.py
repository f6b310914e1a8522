"""How far the scores and the modalities of a job are from those of the hold-out of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.frame import BoolArray, IntArray

PERCENTILES = np.arange(1, 100)
PSI_BINS = 10
# A bin that one side lacks would make the index infinite.
LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Reference:
    """The scored candidates of the hold-out.

    Attributes
    ----------
    rows
        Their number.
    edges
        Distinct percentiles of the scores, ascending.
    counts
        Rows below the first edge, between the edges (from each on), and from the last one on.
    coverage
        Modality to the share of rows that have it.
    """

    rows: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    coverage: Mapping[str, float]

    @classmethod
    def of(cls, scores: NDArray[np.float64], modalities: Sequence[str], present: BoolArray) -> Self:
        """Describe (n_rows,) scores and the (n_rows, n_modalities) presence of the hold-out."""
        edges = tuple(np.unique(np.percentile(scores, PERCENTILES, method="inverted_cdf")).tolist())
        coverage = {name: float(present[:, column].mean()) for column, name in enumerate(modalities)}
        return cls(len(scores), edges, tuple(histogram(scores, edges).tolist()), coverage)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `as_dict` gave."""
        return cls(values["rows"], tuple(values["edges"]), tuple(values["counts"]), values["coverage"])


def histogram(scores: NDArray[np.float64], edges: Sequence[float]) -> IntArray:
    """(n_edges + 1,) number of scores below, between and from the last of the edges on."""
    bins = np.searchsorted(np.asarray(edges), scores, side="right")
    return np.bincount(bins, minlength=len(edges) + 1)


def drift_from(
    reference: Reference, counts: Sequence[int], present: Mapping[str, int], rows: int
) -> dict[str, Any]:
    """Compare a job with the hold-out.

    Parameters
    ----------
    counts
        Histogram of the scores over the edges of the reference.
    present
        Modality to the number of the `rows` that have it.

    Returns
    -------
    dict
        `score_psi`: population stability index over tenths of the hold-out, sum of (p - q) ln(p / q);
        `score_ks`: Kolmogorov-Smirnov distance of the score distributions, at the percentiles; `coverage`:
        modality to its share, the hold-out's and the index of the two shares; `largest`: the largest index.
    """
    before, now = np.array(reference.counts, dtype=np.float64), np.array(counts, dtype=np.float64)
    p, q = now / now.sum(), before / before.sum()
    tenth = np.minimum((PSI_BINS * (np.cumsum(q) - q / 2)).astype(np.int64), PSI_BINS - 1)
    shares = {}
    for name, old in reference.coverage.items():
        new = present.get(name, 0) / rows
        index = psi(np.array([new, 1 - new]), np.array([old, 1 - old]))
        shares[name] = {"share": new, "hold_out": old, "psi": index}
    tenths = [np.asarray(np.bincount(tenth, s, PSI_BINS), dtype=np.float64) for s in (p, q)]
    score = psi(*tenths)
    return {
        "score_psi": score,
        "score_ks": float(np.abs(np.cumsum(p) - np.cumsum(q)).max()),
        "coverage": shares,
        "largest": max([score, *(part["psi"] for part in shares.values())]),
    }


def psi(now: NDArray[np.float64], before: NDArray[np.float64]) -> float:
    """Return the population stability index of two (n_bins,) distributions."""
    p, q = np.maximum(now, LEAST_SHARE), np.maximum(before, LEAST_SHARE)
    return float(np.sum((p - q) * np.log(p / q)))
