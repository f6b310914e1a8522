"""The figures of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ensembles.gate import Interval
from modalrank.training import TrainResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHOSEN, OTHER = "#1b7837", "#9970ab"


def figures(result: TrainResult) -> dict[str, Figure]:
    """Return the leaderboard on both held-out splits and the slices of the test, by name."""
    standings = result.standings
    colours = [CHOSEN if s.chosen else OTHER for s in standings]
    names = [s.name for s in standings]
    k = result.dataset.config.ensemble.k
    plots = {
        "leaderboard_valid": _bars(
            names, [s.valid for s in standings], colours, f"NDCG@{k} on validation (green: chosen)"
        ),
        "leaderboard_test": _bars(
            names, [s.test for s in standings], colours, f"NDCG@{k} on test (green: chosen)"
        ),
    }
    for kind in dict.fromkeys(part.kind for part in result.slices):
        parts = [part for part in result.slices if part.kind == kind]
        labels = [f"{part.name} (n={part.value.n})" for part in parts]
        title = f"{parts[0].metric} on test by {kind}"
        plots[f"slices_{kind}"] = _bars(labels, [part.value for part in parts], [OTHER] * len(parts), title)
    return plots


def _bars(names: list[str], values: list[Interval | None], colours: list[str], title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    for row, (name, value, colour) in enumerate(zip(names, values, colours, strict=True)):
        if value is not None:
            axes.barh(row, value.mean, color=colour, label=name)
            axes.plot([value.low, value.high], [row, row], color="black", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_title(f"{title}, with 95% bootstrap intervals")
    return figure
