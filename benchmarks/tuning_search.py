"""What a search of settings is worth, how fast it is, and what its record costs.

usage: python benchmarks/tuning_search.py [movies mq2008] [--trials N] [--base NAME ...] [--set a.b=c ...]
       [--data DIR]

Runs `modalrank tune` on the example configs with a tracking store and a storage of their own, one worker, and
prints a Markdown table: a row for the ensemble and for each tuned base. Gains are tuned minus default on the
outer hold-out, which is validation and which the search does not read, with the paired bootstrap 95% interval
over queries. Trials a minute are those of all studies in their time; `tracking` is the share of the whole
search which is spent in writing runs, metrics and plots. (Called so because a file `tuning.py` beside it
would hide the package.)
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import ParamSpec, TypeVar

from peer_table import markdown
from peers import machine, say

from modalrank.tuning_job.command import Part
from modalrank.tuning_job.job import Request, TuneResult, tune
from modalrank.tuning_job.record import SearchRecord, TrialRecorder

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
P, T = ParamSpec("P"), TypeVar("T")
EXAMPLES = ("movies", "mq2008")
PARTS: tuple[Part, ...] = ("bases", "ensemble")
COLUMNS = [
    "data",
    "tuned",
    "default NDCG",
    "tuned NDCG",
    "gain [95%]",
    "queries",
    "trials a minute",
    "tracking",
]


@dataclass
class Clock:
    """Seconds spent in what is watched."""

    seconds: float = 0.0

    def watching(self, work: Callable[P, T]) -> Callable[P, T]:
        """Return the same work, timed."""

        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            start = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


@contextmanager
def timed_tracking() -> Iterator[Clock]:
    """Time all that is written about trials and studies."""
    clock = Clock()
    watched = [(TrialRecorder, "__call__"), (SearchRecord, "trials_of"), (SearchRecord, "end_study")]
    before = [getattr(kind, name) for kind, name in watched]
    for (kind, name), work in zip(watched, before, strict=True):
        setattr(kind, name, clock.watching(work))
    try:
        yield clock
    finally:
        for (kind, name), work in zip(watched, before, strict=True):
            setattr(kind, name, work)


def search(config: Path, overrides: list[str], bases: list[str], trials: int) -> tuple[TuneResult, Clock]:
    """Search in a folder of its own and return what was found and the time that its record took."""
    with tempfile.TemporaryDirectory() as scratch, timed_tracking() as clock:
        store = f"tracking.uri=sqlite:///{scratch}/mlflow.db"
        request = Request(
            source=config,
            overrides=(*overrides, store),
            out=Path(scratch) / "tuned.yaml",
            parts=PARTS,
            bases=tuple(bases),
            trials=trials,
            storage=f"sqlite:///{scratch}/optuna.db",
        )
        return tune(request, say), clock


def rows(name: str, result: TuneResult, tracking: float) -> list[list[str]]:
    """Return a row for each gain; the time of all studies together stands in that of the ensemble."""
    searched = sum(result.seconds[key] for key in result.seconds if key not in ("search", "gain"))
    tried = sum(study.trials for study in result.studies)
    found = []
    for gain in result.gains:
        d = gain.difference
        whole = gain.name == "ensemble"
        found.append(
            [
                name,
                f"**{gain.name}**" if whole else gain.name,
                f"{gain.default.mean:.4f}",
                f"{gain.tuned.mean:.4f}",
                f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]",
                str(d.n),
                f"{60 * tried / searched:.1f} ({tried} trials)" if whole else "",
                f"{tracking / result.seconds['search']:.1%}" if whole else "",
            ]
        )
    return found


def main() -> None:
    """Search on every data set and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=EXAMPLES, metavar="name", help=", ".join(EXAMPLES))
    parser.add_argument("--trials", type=int, default=50, help="of each study")
    parser.add_argument("--base", action="append", default=[], help="learned base to tune; all if left out")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="override of the config")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MODALRANK_DATA", SHARED / "data")))
    args = parser.parse_args()
    unknown = [name for name in args.names if not (ROOT / "examples" / f"{name}.yaml").is_file()]
    if unknown or not args.data.is_dir():
        parser.error(f"no example {unknown[0]!r}" if unknown else f"no folder {args.data}")
    found = []
    for name in args.names:
        overrides = [f"data.root={args.data.resolve() / name}", *args.overrides]
        result, clock = search(ROOT / "examples" / f"{name}.yaml", overrides, args.base, args.trials)
        found += rows(name, result, clock.seconds)
    print(f"`{shlex.join(['python', *sys.argv])}`, {date.today()}, {machine()}.\n")
    print(*markdown(COLUMNS, found), sep="\n")


if __name__ == "__main__":
    main()
