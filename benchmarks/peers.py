"""Ranking quality: modalrank beside its peers, on the same splits, in the same run, scored by one referee.

usage: python benchmarks/peers.py [movies tiktok mq2008] --protocol strict|full [--seeds 0 1 2] [--data DIR]
       [--referee FILE] [--peers NAME ...] [--no-modalrank] [--peer-python PATH] [--out FOLDER]

Prints a Markdown table a data set. Every peer picks its setting from a small grid by NDCG@20 on validation,
fitted on train; its test lists come from that model (strict) or from one fitted on train and validation with
that setting (full). Peers see positives only, never the test. Each entry runs in a process of its own, so its
seconds (tuning, one fit, lists) and peak memory are its own; peers that draw random numbers run once a seed,
the others once. Judged lists (mq2008) have no peers but the single rankers of the same run.

With --out, an entry that finished in that folder is not run again: a comparison that was cut off goes on, and
seeds or peers can be added. Use another folder after a change of code or data.

Peers of packages that modalrank does not need come from requirements-peers.txt. Its pins differ from
modalrank's, so install it into a virtual environment of its own and name that one's interpreter:

    python3.11 -m venv .venv-peers
    .venv-peers/bin/pip install --no-deps --require-hashes -r requirements-peers.txt
    python benchmarks/peers.py tiktok --protocol strict --peer-python .venv-peers/bin/python

VBPR also needs torch there, any build of it; BM3 and MGCN need torch in either environment. A peer whose
package is absent is shown as not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import date
from functools import cache
from pathlib import Path

import polars as pl
from peer_list import CONTENT, Fusion, Peer, peers_of
from peer_table import Entry, Referee, judged_table, log_table

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
MIN_RATING = {"movies": "4.0"}
JUDGED = ("mq2008",)
OWN = {
    "ensemble": "**ensemble**",
    "best_base": "best single base",
    "one_lightgbm": "one LightGBM lambdarank on all features",
}


class WorkerError(Exception):
    """A process ended with an error; the message is its last line."""


def reported(file: Path, work: Callable[[], dict]) -> dict:
    """Return the report in a file, and where there is none do the work and write its report there."""
    if not file.exists():
        report = work()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report))
    return json.loads(file.read_text())


def run_worker(python: str, script: str, *arguments: str) -> dict:
    """Run a script of this folder to its end and return the report that it prints last."""
    command = [python, str(HERE / script), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    last = ""
    with subprocess.Popen(command, **pipes) as process:
        for line in process.stderr:
            print(line, file=sys.stderr, end="", flush=True)
            last = line.strip() or last
        output = process.stdout.read()
    if process.returncode < 0:
        raise WorkerError(f"killed by signal {-process.returncode} after: {last}")
    if process.returncode:
        raise WorkerError(last or f"exit code {process.returncode}")
    return json.loads(output.splitlines()[-1])


@cache
def interpreter_for(needs: tuple[str, ...], pythons: tuple[str, ...]) -> str | None:
    """Return the first interpreter that can import these modules."""
    program = "import polars, scipy" + "".join(f", {module}" for module in needs)
    for python in pythons:
        if subprocess.run([python, "-c", program], capture_output=True).returncode == 0:
            return python
    return None


def prepare(name: str, data: Path, folder: Path, with_content: bool) -> None:
    """Write what peers may see, which the test is not part of."""
    (folder / "lists").mkdir(parents=True, exist_ok=True)
    table = pl.read_parquet(data / name / "interactions.parquet")
    from_rating = MIN_RATING.get(name)
    positive = pl.col("rating") >= float(from_rating) if from_rating else pl.lit(True)
    table = table.select("user_id", "item_id", "split", is_positive=positive)
    test = (pl.col("split") == "test") & pl.col("is_positive")
    table.filter(pl.col("split") != "test").write_parquet(folder / "log.parquet")
    table.filter(test).select("user_id").unique().write_parquet(folder / "users.parquet")
    items = data / name / "items.parquet"
    pl.read_parquet(items, columns=["item_id"]).write_parquet(folder / "items.parquet")
    if with_content:
        report = run_worker(sys.executable, "peer_content.py", name, str(items), str(folder / "content"))
        say(f"content vectors: {report['seconds']:.0f} s")


def run_peer(
    name: str, key: str, peer: Peer | Fusion, folder: Path, args: argparse.Namespace, known: dict[str, dict]
) -> Entry:
    """Run one peer and return its row; its report is added to `known`."""
    python = interpreter_for(peer.needs, (sys.executable, *args.peer_python))
    if python is None:
        return Entry(peer.title, note=f"not installed: {', '.join(peer.needs)}")
    say(f"{name}: {peer.title}")
    options = ["--protocol", args.protocol, "--seeds", *map(str, args.seeds)]
    if isinstance(peer, Fusion):
        options += ["--known", json.dumps({m: known[m] for m in peer.members if m in known})]
    seeds = args.seeds if peer.seeded else args.seeds[:1]
    file = folder / "reports" / f"{key}-{'-'.join(map(str, seeds))}.json"
    try:
        report = reported(
            file, lambda: run_worker(python, "peer_worker.py", name, key, str(folder), *options)
        )
    except WorkerError as error:
        return Entry(peer.title, note=f"failed: {error}")
    known[key] = report
    lists = [folder / "lists" / f"{key}-{seed}.parquet" for seed in seeds]
    seconds = f"{report['seconds']:.0f}" + (" and its members'" if isinstance(peer, Fusion) else "")
    return Entry(title_of(peer, report), lists, seconds, f"{report['gib']:.1f}")


def title_of(peer: Peer | Fusion, report: dict) -> str:
    """Return the name of a peer with the version of its package and the chosen setting."""
    title = " ".join([peer.title, *list(report["versions"].values())[:1]])
    setting = report["setting"]
    if isinstance(peer, Fusion):
        return f"{title} ({', '.join(setting['best'])})"
    shown = ", ".join(f"{key} {value}" for key, value in setting.items())
    return f"{title} ({shown})" if shown else title


def run_modalrank(name: str, folder: Path, args: argparse.Namespace) -> list[dict]:
    """Train modalrank once a seed and return the reports."""
    reports = []
    for seed in args.seeds:
        say(f"{name}: modalrank, seed {seed}")
        command = ["peer_modalrank.py", name, str(folder), "--protocol", args.protocol, "--seed", str(seed)]
        file = folder / "reports" / f"modalrank-{seed}.json"
        reports.append(reported(file, lambda command=command: run_worker(sys.executable, *command)))
    return reports


def own_entries(reports: Sequence[dict], folder: Path, seeds: Sequence[int]) -> list[Entry]:
    """Return modalrank's rows: the ensemble, and two bases of the same training runs."""
    entries = []
    for key, title in OWN.items():
        lists = [folder / "lists" / f"{key}-{seed}.parquet" for seed in seeds]
        entries.append(Entry(title, lists, "in the above", ""))
    chosen = [f"{report['chosen']} of {shown(report['bases'])}" for report in reports]
    entries[0].title += f" ({'; '.join(dict.fromkeys(chosen))})"
    entries[1].title += f" ({'; '.join(dict.fromkeys(report['best_base'] for report in reports))})"
    entries[0].seconds, entries[0].gib = cost_of(reports)
    return entries


def shown(bases: Sequence[str]) -> str:
    """Return the names of a few bases, and of many their number."""
    return ", ".join(bases) if len(bases) <= 3 else f"{len(bases)} bases"


def cost_of(reports: Sequence[dict]) -> tuple[str, str]:
    """Return the mean seconds and the largest memory of modalrank's runs."""
    seconds = sum(report["seconds"] for report in reports) / len(reports)
    return f"{seconds:.0f}", f"{max(report['gib'] for report in reports):.1f}"


def compare_log(name: str, folder: Path, args: argparse.Namespace) -> list[str]:
    """Return the table of a log."""
    peers = peers_of(name, args.protocol)
    chosen = {key: peer for key, peer in peers.items() if args.peers is None or key in args.peers}
    prepare(name, args.data, folder, any(peer.reads_content for peer in chosen.values()))
    reports = [] if args.no_modalrank else run_modalrank(name, folder, args)
    entries = own_entries(reports, folder, args.seeds) if reports else []
    ensemble = entries[0] if entries else None
    known: dict[str, dict] = {}
    for key, peer in chosen.items():
        entries.append(run_peer(name, key, peer, folder, args, known))
    referee = Referee(args.referee, args.data / name / "interactions.parquet", MIN_RATING.get(name))
    return log_table(entries, ensemble, referee)


def compare_judged(name: str, folder: Path, args: argparse.Namespace) -> list[str]:
    """Return the table of judged folds."""
    reports = run_modalrank(name, folder, args)
    seconds, gib = cost_of(reports)
    lines = judged_table(reports, OWN)
    lines += [f"Five standard folds in {seconds} s a seed, peak {gib} GiB. The gate's choice:", ""]
    chosen = zip(args.seeds, reports, strict=True)
    return lines + [f"- seed {seed}: {'; '.join(report['chosen'])}" for seed, report in chosen]


def machine() -> str:
    """Return what the numbers were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores {platform.machine()}, {memory:.0f} GiB"


def say(text: str) -> None:
    """Show progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Read and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("MODALRANK_DATA", SHARED / "data"))
    known = {key for name in CONTENT for key in peers_of(name, "full")}
    parser.add_argument("names", nargs="*", default=["movies", "tiktok", "mq2008"], metavar="name")
    parser.add_argument("--protocol", choices=["strict", "full"], required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--referee", type=Path, default=SHARED / "tools" / "score_topk.py")
    parser.add_argument(
        "--peers", nargs="*", choices=sorted(known), metavar="peer", help=", ".join(sorted(known))
    )
    parser.add_argument("--no-modalrank", action="store_true", help="peers only, without gains")
    parser.add_argument("--peer-python", action="append", default=[], metavar="PATH", help="may be repeated")
    parser.add_argument("--out", type=Path, help="keeps lists and reports")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in (*CONTENT, *JUDGED)]
    if unknown:
        parser.error(f"unknown data set {unknown[0]!r}, known are {', '.join((*CONTENT, *JUDGED))}")
    if not args.data.is_dir() or not args.referee.is_file():
        parser.error(f"needs the data sets in {args.data} and the referee {args.referee}")
    return args


def main() -> None:
    """Compare on every data set."""
    args = arguments()
    os.environ |= {"MODALRANK_DATA": str(args.data.resolve()), "OMP_WAIT_POLICY": "passive"}
    seeds = ", ".join(map(str, args.seeds))
    print(f"{date.today()}, {machine()}, {args.protocol} protocol, seeds {seeds}.\n", flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.names:
            folder = (args.out or Path(scratch)) / f"{args.protocol}-{name}"
            compare = compare_judged if name in JUDGED else compare_log
            try:
                lines = compare(name, folder, args)
            except WorkerError as error:
                lines = [f"| failed: {error} |"]
            failed |= any("| failed: " in line for line in lines)
            print(f"**{name}, {args.protocol}**\n", *lines, "", sep="\n", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
