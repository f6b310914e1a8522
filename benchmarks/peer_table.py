"""Scores the entries of a data set with the referee and lays them out as Markdown tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

METRICS = ("recall", "ndcg")
SLICES = ("train_0", "train_1_3")


@dataclass
class Entry:
    """One row: what it is called, where its lists are (one file a seed, or one for all), what it cost.

    `note` says why there are no lists, where there are none.
    """

    title: str
    lists: list[Path] = field(default_factory=list)
    seconds: str = ""
    gib: str = ""
    note: str = ""


class Referee:
    """The program that scores lists; it shares no code with modalrank or the peers."""

    def __init__(self, program: Path, interactions: Path, min_rating: str | None) -> None:
        self.command = [sys.executable, str(program), str(interactions)]
        self.options = ["--min-rating", min_rating] if min_rating else []

    def score(self, lists: Path, against: Path | None) -> dict:
        """Return the metrics of `lists`, and the gains of `against` over it with their intervals."""
        command = [*self.command, str(lists), *self.options]
        command += ["--against", str(against)] if against else []
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        scored = {metric: found[f"{metric}@20"] for metric in METRICS}
        scored |= {name: found["slices"][name]["recall"] for name in SLICES}
        for metric in METRICS if against else ():
            # The referee subtracts the second from the first; a gain is the other way round.
            loss = found[f"{metric}_difference"]
            low, high = (-bound for bound in reversed(loss["ci95"]))
            scored[f"{metric}_gain"] = {"mean": -loss["mean"], "ci95": [low, high]}
        return scored | {"users": found["users"], "slices": found["slices"]}


def log_table(entries: Sequence[Entry], ensemble: Entry | None, referee: Referee) -> list[str]:
    """Return the lines of a table of top-k lists; the gains are the ensemble's over each row."""
    rows, positives = [], {}
    for entry in entries:
        if not entry.lists:
            rows.append([entry.title, entry.note, *[""] * 7])
            continue
        ours = ensemble.lists if ensemble else [None] * len(entry.lists)
        count = max(len(entry.lists), len(ours))
        scored = [referee.score(_of(entry.lists, i), _of(ours, i)) for i in range(count)]
        alone = scored[: len(entry.lists)]
        means = [show_mean([s[metric] for s in alone]) for metric in (*METRICS, *SLICES)]
        gains = ["", ""]
        if ensemble and entry is not ensemble:
            gains = [show_gain([s[f"{metric}_gain"] for s in scored]) for metric in METRICS]
        rows.append([entry.title, *means[:2], *gains, *means[2:], entry.seconds, entry.gib])
        positives = scored[0]
    columns = ["", "Recall@20", "NDCG@20", *gain_columns("Recall@20", "NDCG@20"), "recall, 0 in train"]
    lines = markdown([*columns, "recall, 1-3 in train", "seconds", "GiB"], rows)
    if positives:
        counts = [found["positives"] for found in positives["slices"].values()]
        shown = ", ".join(str(count) for count in counts)
        note = "test positives on items with 0, 1-3 and more interactions in train"
        lines += ["", f"{positives['users']} users; {note}: {shown}."]
    return lines


def judged_table(reports: Sequence[dict], titles: dict[str, str]) -> list[str]:
    """Return the lines of the table over the test queries of judged folds, one report a seed."""
    rows = []
    for entry in reports[0]["rows"]:
        found = [report["rows"][entry] for report in reports if entry in report["rows"]]
        means = [show_mean([row["means"][i] for row in found]) for i in range(2)]
        gains = [
            show_gain([row["gains"][i] for row in found]) if entry != "ensemble" else "" for i in range(2)
        ]
        rows.append([titles.get(entry, entry), *means, *gains])
    lines = markdown(["", "NDCG@10", "MAP", *gain_columns("NDCG@10", "MAP")], rows)
    first = reports[0]
    lines += ["", f"{first['queries']} queries; {first['left_out']} without a relevant document left out."]
    return lines


def gain_columns(*metrics: str) -> list[str]:
    """Return the headings of the gains."""
    return [f"ensemble's gain in {metric}, interval of every seed" for metric in metrics]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def show_mean(values: Sequence[float | None]) -> str:
    """Show the mean of a metric over seeds; None, where a slice has no positive, as nothing."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.4f}" if known else ""


def show_gain(gains: Sequence[dict]) -> str:
    """Show a mean gain, the 95% interval of every seed, and where a seed is significantly worse."""
    mean = np.mean([gain["mean"] for gain in gains])
    bounds = [gain["ci95"] for gain in gains]
    intervals = " ".join(f"[{low:+.4f}, {high:+.4f}]" for low, high in bounds)
    mark = " **worse**" if any(high < 0 for _, high in bounds) else ""
    return f"{mean:+.4f} {intervals}{mark}"


def _of(files: Sequence[Path | None], seed: int) -> Path | None:
    return files[min(seed, len(files) - 1)]
