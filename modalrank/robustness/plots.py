"""One figure for everything that is removed: both metrics, both ways of removing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from modalrank.plots import CHOSEN, OTHER
from modalrank.robustness.contestants import BEHAVIOUR_ONLY, BEST, ENSEMBLE, FUSION
from modalrank.robustness.curves import METRICS, Robustness

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {ENSEMBLE: CHOSEN, FUSION: OTHER, BEST: "#2166ac", BEHAVIOUR_ONLY: "#777777"}
MODE_WORDS = {"random": "at random", "unpopular": "unpopular items first"}


def figures(found: Robustness) -> dict[str, Figure]:
    """Return a figure for every modality and for all together, by file name."""
    names = found.curves["removed"].unique(maintain_order=True)
    return {
        f"robustness_{name.replace(' ', '_')}": _figure(found, found.curves.filter(pl.col("removed") == name))
        for name in names
    }


def _figure(found: Robustness, curves: pl.DataFrame) -> Figure:
    from matplotlib.figure import Figure

    modes = found.plan.modes
    figure = Figure(figsize=(5 * len(modes), 7), layout="constrained")
    grid = figure.subplots(len(METRICS), len(modes), sharex=True, sharey="row", squeeze=False)
    for row, (metric, title) in enumerate(METRICS.items()):
        for column, mode in enumerate(modes):
            _draw(grid[row][column], curves.filter(pl.col("mode") == mode), metric)
            grid[row][column].set_title(MODE_WORDS[mode])
        grid[row][0].set_ylabel(f"{title}@{found.plan.k}")
    for axes in grid[-1]:
        axes.set_xlabel("share of the items without it")
    grid[0][0].legend()
    figure.suptitle(f"{curves['removed'][0]} removed, with 95% intervals over queries and seeds")
    return figure


def _draw(axes: Axes, curves: pl.DataFrame, metric: str) -> None:
    names = curves["name"].unique(maintain_order=True)
    for place, name in enumerate(names):
        own = curves.filter(pl.col("name") == name)
        # Of curves that are the same, the thicker one below can still be seen.
        width = 1.0 + 1.5 * (len(names) - 1 - place)
        (line,) = axes.plot(
            own["rate"], own[metric], color=COLOURS.get(name), marker="o", linewidth=width, label=name
        )
        low, high = own[f"{metric}_low"], own[f"{metric}_high"]
        axes.fill_between(own["rate"], low, high, color=line.get_color(), alpha=0.1)
