"""What the curves say in words."""

from __future__ import annotations

from typing import Any, NamedTuple

import polars as pl

from modalrank.robustness.contestants import BEHAVIOUR_ONLY
from modalrank.robustness.curves import Robustness


class Verdict(NamedTuple):
    """Whether an ensemble ever falls below behaviour only in NDCG@k.

    Attributes
    ----------
    below
        Rows of the differences whose interval lies below 0.
    """

    name: str
    line: str
    below: pl.DataFrame


def verdicts(found: Robustness) -> list[Verdict]:
    """Return one verdict an ensemble.

    Every rate of every curve is looked at by itself at 95%, without a correction for their number, and so
    it is harder to be called never below.
    """
    if BEHAVIOUR_ONLY not in found.roles:
        line = "no base reads behaviour only, so that there is nothing to fall below"
        return [Verdict(name, f"{name}: {line}", found.differences) for name in found.ensembles]
    base = f"{BEHAVIOUR_ONLY} ({found.roles[BEHAVIOUR_ONLY]}) in NDCG@{found.plan.k}"
    result = []
    for name in found.ensembles:
        own = found.differences.filter(pl.col("name") == name)
        below = own.filter(pl.col("ndcg_high") < 0)
        if below.is_empty():
            words = f"never significantly below {base}"
        else:
            places = ", ".join(_place(row) for row in below.sort("ndcg").head(3).to_dicts())
            words = f"below {base} at {len(below)} of {len(own)}: most at {places}"
        result.append(Verdict(name, f"{name}: {words}", below))
    return result


def worst_slices(found: Robustness) -> pl.DataFrame:
    """Return the worst slice of every contestant over all rates, with what was removed there."""
    if found.slices.is_empty():
        return found.slices
    return found.slices.sort("ndcg", "slice").group_by("name", maintain_order=True).first()


def _place(row: dict[str, Any]) -> str:
    gap = f"{row['ndcg']:+.4f} [{row['ndcg_low']:+.4f}, {row['ndcg_high']:+.4f}]"
    return f"{row['removed']} {row['mode']} {row['rate']:.0%} ({gap})"
