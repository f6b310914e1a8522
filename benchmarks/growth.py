"""How time and memory of a training run grow with the number of users.

usage: python benchmarks/growth.py [tiktok movies] [--times 10] [--protocol strict|full] [--seed N]
       [--data DIR] [--set a.b=c ...]

Prints a Markdown table a data set: the tables as they are, and with every user there so many times under
another id; the catalogue stays. Each row is a training run in a process of its own, one after the other.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from ablation import METRICS, ROOT, SHARED, example, run, say
from leaks import Tables, write_changed
from peer_table import markdown
from peers import machine


def replicated(times: int, events: pl.DataFrame, items: pl.DataFrame) -> Tables:
    """Return every user of a log so many times, each time under another id."""
    copies = [
        events.with_columns(pl.format("{}-{}", "user_id", pl.lit(copy)).alias("user_id"))
        for copy in range(times)
    ]
    return pl.concat(copies), items


def grow(name: str, args: argparse.Namespace) -> list[list[str]]:
    """Return the rows of the table of one data set."""
    rows, reports = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for times in (1, args.times):
            say(f"{name}: users {times} times")
            data, values = Path(scratch) / str(times), Path(scratch) / "values.parquet"

            def change(events: pl.DataFrame, items: pl.DataFrame, _: np.random.Generator) -> Tables:
                return replicated(times, events, items)  # noqa: B023 - used before the next turn

            write_changed(args.data / name, data, change, args.seed)
            common = [f"protocol={args.protocol}", f"seed={args.seed}", f"data.root={data}", *args.set]
            report = run(ROOT / "examples" / f"{name}.yaml", common, values)
            reports.append(report)
            growth = [f"{report[unit] / reports[0][unit]:.1f}" for unit in ("seconds", "gib")]
            found = pl.read_parquet(values)
            size = [f"{pl.scan_parquet(data / 'interactions.parquet').select(pl.len()).collect().item():,}"]
            means = [f"{found[metric].mean():.4f}" for metric in METRICS]
            rows.append([*size, f"{report['seconds']:.0f}", f"{report['gib']:.1f}", *growth, *means])
    return rows


def main() -> None:
    """Train on every data set and its replication, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=["tiktok"], type=example, metavar="name")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--protocol", choices=["strict", "full"], default="strict")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="a value of the config")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MODALRANK_DATA", SHARED / "data")))
    args = parser.parse_args()
    if not args.data.is_dir():
        sys.exit(f"needs the data sets in {args.data}: see --data")
    args.data = args.data.resolve()
    print(f"`{shlex.join(['python', *sys.argv])}`, {date.today()}, {machine()}.\n")
    columns = ["interactions", "seconds", "GiB", "of the seconds", "of the GiB", *METRICS.values()]
    for name in args.names:
        print(
            f"**{name}, {args.protocol}**\n", *markdown(columns, grow(name, args)), "", sep="\n", flush=True
        )


if __name__ == "__main__":
    main()
