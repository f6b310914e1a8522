"""What the commands that train on the logs of the examples share: their arguments and their tables."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from ablation import SHARED, example
from peer_table import markdown
from peers import machine


def log_parser(doc: str | None, names: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser of names of examples, by default these, and of the folder of their data."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=names, type=example, metavar="name")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MODALRANK_DATA", SHARED / "data")))
    return parser


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what changes the config of every training run."""
    parser.add_argument("--protocol", choices=["strict", "full"], default="strict")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="a value of the config")


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line and print it with date and machine; ends where the data is not there."""
    args = parser.parse_args()
    if not args.data.is_dir():
        sys.exit(f"needs the data sets in {args.data}: see --data")
    args.data = args.data.resolve()
    print(f"`{shlex.join(['python', *sys.argv])}`, {date.today()}, {machine()}.\n")
    return args


def show_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table, each row as soon as it is there."""
    print(f"**{title}**\n", *markdown(columns, []), sep="\n", flush=True)
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print(flush=True)
