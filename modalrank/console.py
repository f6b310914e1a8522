"""What the command line shows: progress, tables and errors, or JSON for machines."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from features.contract import Check
from features.errors import ModalrankError

if TYPE_CHECKING:
    from modalrank.judging import JudgedFile

# In a file there is no terminal to fit, and a table is better read unfolded.
FILE_WIDTH = 180


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=FILE_WIDTH)


out, err = _console(stderr=False), _console(stderr=True)
logger = logging.getLogger("modalrank")

Progress = Callable[[str], None]


@contextmanager
def progress(as_json: bool) -> Iterator[Progress]:
    """Give a function that tells what is going on: a live line on a terminal, plain logs elsewhere."""
    if as_json or not err.is_terminal:
        yield logger.info
        return
    with err.status("starting") as status:
        yield status.update


def set_up_logging(verbose: bool) -> None:
    """Send the log to stderr; library chatter below a warning only when asked for."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    logger.setLevel(logging.INFO)
    for name in ("features", "rankers", "ensembles", "tuning", "modalrank"):
        logging.getLogger(name).setLevel(logging.INFO if verbose or name == "modalrank" else logging.WARNING)


def command(name: str) -> str:
    """Return how the user can type a command of this environment: its path where it is not on the PATH."""
    beside = Path(sys.executable).with_name(name)
    if shutil.which(name) or not beside.exists():
        return name
    here = Path.cwd()
    return str(beside.relative_to(here)) if beside.is_relative_to(here) else str(beside)


def show_json(value: Any) -> None:  # noqa: ANN401 - any JSON
    """Print one JSON document."""
    out.print_json(json.dumps(value, default=str))


def show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; numbers are right-aligned."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def show_checks(checks: list[Check]) -> None:
    """Print one PASS, WARN or FAIL line a check."""
    for check in checks:
        colour = "green" if check.passed else "yellow" if check.level == "warn" else "red"
        out.print(f"[{colour}]{check.line()[:4]}[/{colour}]", end="")
        out.print(check.line()[4:], markup=False, soft_wrap=True)


def show_judged(judged: JudgedFile) -> None:
    """Print where the judgements are and what they cost."""
    asked = f"{judged.asked} asked now, {judged.known} known from before, {judged.unjudged} without an answer"
    out.print(f"{judged.rows} pairs, {asked}, in {judged.file}", markup=False, soft_wrap=True)
    if judged.spent:
        out.print(f"{judged.spent}; the same command goes on where this one ended", markup=False)


def show_error(error: ModalrankError, as_json: bool) -> None:
    """Print a user's mistake on one line of stderr."""
    if as_json:
        show_json({"error": str(error), "exit_code": error.exit_code})
    err.print(f"error: {error}", markup=False, soft_wrap=True, style="red")
