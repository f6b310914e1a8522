"""What the curves say in words."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from modalrank.robustness.contestants import BEHAVIOUR_ONLY
from modalrank.robustness.curves import METRICS, Robustness


class Verdict(NamedTuple):
    """Whether an ensemble ever falls below behaviour only in a metric.

    Attributes
    ----------
    below
        Rows of the differences whose interval lies below 0.
    """

    name: str
    metric: str
    line: str
    below: pl.DataFrame


def verdicts(found: Robustness) -> list[Verdict]:
    """Return one verdict an ensemble and metric.

    Every rate of every curve is looked at by itself at 95%, without a correction for their number, and so
    it is harder to be called never below.
    """
    if BEHAVIOUR_ONLY not in found.roles:
        line = "no base reads behaviour only, so that there is nothing to fall below"
        return [
            Verdict(name, metric, f"{name}: {line}", found.differences)
            for name in found.ensembles
            for metric in METRICS
        ]
    return [_verdict(found, name, metric) for name in found.ensembles for metric in METRICS]


def _verdict(found: Robustness, name: str, metric: str) -> Verdict:
    base = f"{BEHAVIOUR_ONLY} ({found.roles[BEHAVIOUR_ONLY]}) in {METRICS[metric]}@{found.plan.k}"
    own = found.differences.filter(pl.col("name") == name)
    below = own.filter(pl.col(f"{metric}_high") < 0)
    words = f"never significantly below {base}"
    if not below.is_empty():
        places = ", ".join(_place(row, metric) for row in below.sort(metric).head(3).to_dicts())
        words = f"below {base} at {len(below)} of {len(own)}: most at {places}"
    return Verdict(name, metric, f"{name}: {words}", below)


def worst_slices(found: Robustness) -> pl.DataFrame:
    """Return the worst slice of every contestant over all rates, with what was removed there."""
    if found.slices.is_empty():
        return found.slices
    return found.slices.sort("ndcg", "slice").group_by("name", maintain_order=True).first()


def _place(row: dict[str, Any], metric: str) -> str:
    gap = f"{row[metric]:+.4f} [{row[f'{metric}_low']:+.4f}, {row[f'{metric}_high']:+.4f}]"
    return f"{row['removed']} {row['mode']} {row['rate']:.0%} ({gap})"
