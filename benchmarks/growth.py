"""How time and memory of a training run grow with the number of users.

usage: python benchmarks/growth.py [tiktok movies] [--times 10] [--protocol strict|full] [--seed N]
       [--data DIR] [--set a.b=c ...]

Prints a Markdown table a data set: the tables as they are, and with every user there so many times under
another id; the catalogue stays. Each row is a training run in a process of its own, one after the other.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from ablation import METRICS, ROOT, run, say
from leaks import Tables, write_changed
from log_command import add_run_arguments, log_parser, parsed, show_rows


def replicated(
    events: pl.DataFrame, items: pl.DataFrame, _: np.random.Generator | None = None, *, times: int
) -> Tables:
    """Return every user of a log so many times, each time under another id."""
    copies = [
        events.with_columns(pl.format("{}-{}", "user_id", pl.lit(copy)).alias("user_id"))
        for copy in range(times)
    ]
    return pl.concat(copies), items


def grow(name: str, args: argparse.Namespace) -> Iterator[list[str]]:
    """Yield the rows of the table of one data set."""
    first: dict = {}
    with tempfile.TemporaryDirectory() as scratch:
        for times in (1, args.times):
            say(f"{name}: users {times} times")
            data, values = Path(scratch) / f"{times}", Path(scratch) / "values.parquet"
            write_changed(args.data / name, data, partial(replicated, times=times), args.seed)
            common = [f"protocol={args.protocol}", f"seed={args.seed}", f"data.root={data}", *args.set]
            report = run(ROOT / "examples" / f"{name}.yaml", common, values)
            first = first or report
            n_events = pl.scan_parquet(data / "interactions.parquet").select(pl.len()).collect().item()
            found = pl.read_parquet(values)
            yield [
                f"{n_events:,}",
                f"{report['seconds']:.0f}",
                f"{report['gib']:.1f}",
                *(f"{report[unit] / first[unit]:.1f}" for unit in ("seconds", "gib")),
                *(f"{found[metric].mean():.4f}" for metric in METRICS),
            ]


def main() -> None:
    """Train on every data set and its replication, and print the tables."""
    parser = log_parser(__doc__, ["tiktok"])
    add_run_arguments(parser)
    parser.add_argument("--times", type=int, default=10)
    args = parsed(parser)
    columns = ["interactions", "seconds", "GiB", "of the seconds", "of the GiB", *METRICS.values()]
    for name in args.names:
        show_rows(f"{name}, {args.protocol}", columns, grow(name, args))


if __name__ == "__main__":
    main()
