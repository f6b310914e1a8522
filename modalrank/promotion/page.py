"""What a promotion decided: a table on the terminal, and the same as a page and as JSON in the run."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from modalrank.promotion.gates import Gate

WIDTH = 160


@dataclass(frozen=True)
class Decision:
    """What was compared, measured and decided.

    Attributes
    ----------
    champion
        Version that was the champion, None before the first.
    evaluation
        Version whose frozen evaluation set was used.
    forced
        The champion moved although a gate refused.
    """

    model: str
    challenger: str
    champion: str | None
    evaluation: str
    gates: Sequence[Gate]
    time: str
    reason: str
    forced: bool
    notes: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        """Every gate is open."""
        return all(gate.passed for gate in self.gates)

    @property
    def verdict(self) -> str:
        """The decision in one sentence."""
        against = f"champion version {self.champion}" if self.champion else "no champion yet"
        shut = sum(not gate.passed for gate in self.gates)
        word = "passes every gate" if self.passed else f"is refused by {shut} of {len(self.gates)} gates"
        end = ", forced" if self.forced and not self.passed else ""
        return f"{self.model} version {self.challenger} {word}{end} ({against})"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "passed": self.passed, "verdict": self.verdict}

    def as_json(self) -> str:
        """Return the document for machines."""
        return json.dumps(self.as_dict(), indent=1)

    def as_page(self) -> str:
        """Return a page of HTML that needs nothing else."""
        console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
        show_decision(self, console)
        return console.export_html(inline_styles=True)


def show_decision(decision: Decision, console: Console) -> None:
    """Print the table of the gates and the verdict."""
    title = f"Promotion of {decision.model} version {decision.challenger}, {decision.time}"
    table = Table(title=title, title_justify="left")
    for column in ("gate", "asked for", "measured", "verdict"):
        table.add_column(column, overflow="fold")
    for gate in decision.gates:
        verdict = "[green]pass[/green]" if gate.passed else "[red]REFUSED[/red]"
        table.add_row(gate.name, gate.threshold, gate.measured.replace("[", r"\["), verdict)
    console.print(table)
    console.print(
        f"Judged on the evaluation set of version {decision.evaluation}, {decision.verdict}.", markup=False
    )
    for note in (*decision.notes, *([f"Reason: {decision.reason}"] if decision.reason else [])):
        console.print(note, markup=False, soft_wrap=True)
