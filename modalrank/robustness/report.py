"""What was found, as tables on the terminal and as plain values."""

from __future__ import annotations

from typing import Any

import polars as pl

from modalrank.console import out, show_table
from modalrank.robustness.curves import HALF, METRICS, TOGETHER, Robustness
from modalrank.robustness.plots import MODE_WORDS
from modalrank.robustness.verdicts import verdicts, worst_slices

SHOWN_RATES = (0.0, 0.3, 0.5, 0.7, 0.9)
TABLES = ("curves", "differences", "areas", "slices")


def as_dict(found: Robustness) -> dict[str, Any]:
    """Return plain values."""
    return {
        "k": found.plan.k,
        "seeds": found.plan.seeds,
        "queries": found.n_queries,
        "seconds": found.seconds,
        "roles": dict(found.roles),
        "verdicts": [{**v._asdict(), "below": v.below.to_dicts()} for v in verdicts(found)],
        "worst_slices": worst_slices(found).to_dicts(),
        **{name: getattr(found, name).to_dicts() for name in TABLES},
    }


def show(found: Robustness) -> None:
    """Print the curves, the slices and the verdicts."""
    k = found.plan.k
    rates = [rate for rate in SHOWN_RATES if rate in found.plan.rates]
    show_table(
        f"NDCG@{k} with a share of the vectors removed; area: mean height of the curve, 95% intervals",
        ["removed", "how", "who", *(f"{rate:.0%}" for rate in rates), "area", f"area of recall@{k}"],
        [_curve_row(found, area, rates) for area in found.areas.to_dicts()],
    )
    _show_slices(found)
    for role, base in found.roles.items():
        out.print(f"{role} is {base}", markup=False, soft_wrap=True)
    for line in dict.fromkeys(verdict.line for verdict in verdicts(found)):
        out.print(line, markup=False, soft_wrap=True)
    for row in worst_slices(found).to_dicts():
        where = f"{row['slice']}, n={row['n']}, with {row['rate']:.0%} of {row['removed']} removed"
        words = f"worst slice of {row['name']}: {_interval(row, 'ndcg')} {where} {MODE_WORDS[row['mode']]}"
        out.print(words, markup=False, soft_wrap=True)
    out.print(
        f"{found.n_queries} queries, {found.plan.seeds} seeds, {found.seconds / 60:.1f} minutes; the "
        "candidates are those of the intact catalogue at every rate.",
        soft_wrap=True,
    )


def _show_slices(found: Robustness) -> None:
    """Print the slices with nothing removed and with half of everything removed."""
    if found.slices.is_empty():
        return
    groups = found.slices["removed"].unique(maintain_order=True).to_list()
    removed = TOGETHER if TOGETHER in groups else groups[0]
    here = found.slices.filter((pl.col("removed") == removed) & (pl.col("mode") == found.plan.modes[0]))
    rows = []
    for (part, name), own in here.group_by("slice", "name", maintain_order=True):
        before, half = (own.filter((pl.col("rate") - rate).abs() < 1e-9).to_dicts() for rate in (0.0, HALF))
        lost = [_interval(half[0], "ndcg"), _interval(half[0], "loss")] if half else ["", ""]
        rows.append([str(part), str(name), str(before[0]["n"]), _interval(before[0], "ndcg"), *lost])
    show_table(
        f"NDCG@{found.plan.k} of slices, half of {removed} removed at random",
        ["slice", "who", "queries", "nothing removed", "half removed", "loss"],
        sorted(rows, key=lambda row: row[0]),
    )


def _curve_row(found: Robustness, area: dict[str, Any], rates: list[float]) -> list[str]:
    keys = ("removed", "mode", "name")
    own = found.curves.filter(*(pl.col(key) == area[key] for key in keys))
    means = [f"{own.row(found.plan.rates.index(rate), named=True)['ndcg']:.4f}" for rate in rates]
    areas = [_interval(area, metric) for metric in METRICS]
    return [area["removed"], MODE_WORDS[area["mode"]], area["name"], *means, *areas]


def _interval(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.4f} [{row[f'{name}_low']:.4f}, {row[f'{name}_high']:.4f}]"
