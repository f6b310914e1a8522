"""What sampling is worth, and what is lost when vectors disappear.

usage: python benchmarks/imbalance.py [movies tiktok] [--protocol strict|full] [--seeds N ...] [--data DIR]
       [--out DIR] [--queries N] [--removals N] [--threads N] [--config FILE] [--set a.b=c ...]

movies has natural missingness; in tiktok every vector is there until it is removed. Prints Markdown: (1)
every sampler, (2) the curves of removal and their verdicts, (3) what half of the strongest modality costs on
cold items. Bases and out-of-fold scores are shared by all samplers of a seed. --out keeps what was measured:
a run that is there already is not made again, so that the same command goes on where it was stopped. FILE,
the config of a log, takes the place of the example configs.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from ablation import ROOT, SHARED, example, say
from imbalance_worker import CLIMBED, WHOLE, K
from peer_table import markdown
from peers import WorkerError, machine, reported, run_worker

from ensembles.gate import Interval
from ensembles.samplers import NATURAL, SAMPLERS
from ensembles.slices import NEVER_MET
from modalrank.config import AUTO
from modalrank.robustness.draws import Draws

DRAWS = 2000
SHOWN_RATES = (0.0, 0.3, 0.5, 0.7, 0.9)
Table = list[str]
NOTES = f"""Reading it:
- Intervals are at 95%, over users and seeds together. Of intervals at 95% one in 20 excludes 0 by chance.
- `{WHOLE[NATURAL]}` and `{WHOLE[AUTO]}` are whole runs with that `ensemble.sampling`: ladder, gate and
  reserve; `{CLIMBED[NATURAL]}` and `{CLIMBED[AUTO]}` are the same without the reserve. The other rows are one
  rung of the ladder by each sampler at its defaults. Their differences are to that rung by `{NATURAL}`, those
  of `{WHOLE[AUTO]}` and `{CLIMBED[AUTO]}` to `{WHOLE[NATURAL]}` and `{CLIMBED[NATURAL]}`.
- The worst slice is the one with the lowest NDCG@{K} of those with at least 30 users, and of which some row
  finds something; the difference there is in the worst slice of the row that is compared with.
- Candidates stay those of the intact catalogue while vectors are removed."""


def compared_with(name: str) -> str:
    """Return the row that a row of the ablation is compared with."""
    return next((rows[NATURAL] for rows in (WHOLE, CLIMBED) if name in rows.values()), NATURAL)


def ablation_table(values: Sequence[pl.DataFrame], slices: Sequence[pl.DataFrame]) -> Table:
    """Return the lines of the table of samplers, from one table of values and of slices a seed."""
    columns = ["sampler", f"NDCG@{K}", f"Recall@{K}", "NDCG minus natural's", "recall minus natural's"]
    columns += ["worst slice", "NDCG minus natural's in its worst slice"]
    grid = {metric: by_seed(values, metric) for metric in ("ndcg", "recall")}
    slices = found_slices(slices)
    worst = {name: worst_of(slices, name) for name in grid["ndcg"]}
    rows = []
    for name in (*WHOLE.values(), *CLIMBED.values(), *SAMPLERS):
        base = compared_with(name)
        draws = Draws(grid["ndcg"][name].shape[1], len(values), DRAWS, 0)
        means = [show(draws.interval(grid[metric][name])) for metric in grid]
        gaps = ["" if name == base else gap(grid[m][name], grid[m][base], draws) for m in grid]
        rows.append([name, *means, *gaps, worst[name][1], slice_gap(slices, name, base, worst[base][0])])
    return markdown(columns, rows)


def by_seed(tables: Sequence[pl.DataFrame], metric: str) -> dict[str, np.ndarray]:
    """Return row of the ablation to (n_seeds, n_queries) values of the same queries in the same order."""
    found: dict[str, list[np.ndarray]] = {}
    for table in tables:
        for (name,), own in table.sort("query").group_by("sampler", maintain_order=True):
            found.setdefault(str(name), []).append(own[metric].to_numpy())
    return {name: np.stack(rows) for name, rows in found.items()}


def found_slices(slices: Sequence[pl.DataFrame]) -> Sequence[pl.DataFrame]:
    """Return the tables without the slices of which no row finds anything, which cannot tell rows apart."""
    found = pl.concat(slices).filter(pl.col("ndcg") > 0)["slice"].unique()
    return [table.filter(pl.col("slice").is_in(found.to_list())) for table in slices]


def worst_of(slices: Sequence[pl.DataFrame], name: str) -> tuple[str | None, str]:
    """Return the worst slice of a row and its NDCG in words; slices that some seed lacks do not count."""
    grids = {part: slice_grid(slices, name, part) for part in sorted(set(slices[0]["slice"]))}
    means = {part: float(np.nanmean(grid)) for part, grid in grids.items() if grid is not None}
    if not means:
        return None, ""
    part = min(means, key=lambda each: means[each])
    found = interval_of(grids[part])
    return part, f"{part}: {show(found)}, n={found.n}"


def slice_grid(slices: Sequence[pl.DataFrame], name: str, part: str) -> np.ndarray | None:
    """Return (n_seeds, n_queries) NDCG of a slice, of the queries that all seeds have there."""
    own = [t.filter((pl.col("sampler") == name) & (pl.col("slice") == part)) for t in slices]
    shared = set.intersection(*(set(table["query"].to_list()) for table in own))
    if not shared:
        return None
    kept = [table.filter(pl.col("query").is_in(list(shared))).sort("query")["ndcg"] for table in own]
    return np.stack([column.to_numpy() for column in kept])


def slice_gap(slices: Sequence[pl.DataFrame], name: str, base: str, part: str | None) -> str:
    """Return the paired difference of a row to another in a slice, in words."""
    if name == base or part is None:
        return ""
    ours, theirs = (slice_grid(slices, each, part) for each in (name, base))
    if ours is None or theirs is None:
        return ""
    return gap(ours, theirs, Draws(ours.shape[1], len(ours), DRAWS, 0))


def interval_of(values: np.ndarray) -> Interval:
    """Return the interval of (n_seeds, n_queries) values."""
    return Draws(values.shape[1], len(values), DRAWS, 0).interval(values)


def gap(ours: np.ndarray, theirs: np.ndarray, draws: Draws) -> str:
    """Show a paired difference, and where 0 is not in its interval which way it points."""
    found = draws.interval(ours - theirs)
    mark = " **worse**" if found.high < 0 else " **better**" if found.low > 0 else ""
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]{mark}"


def show(found: Interval) -> str:
    """Show a mean with its interval."""
    return f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"


def curves_table(found: dict) -> Table:
    """Return the lines of the table of removal of one seed."""
    rates = [rate for rate in SHOWN_RATES if any(row["rate"] == rate for row in found["curves"])]
    rows = []
    for area in found["areas"]:
        keys = ("removed", "mode", "name")
        own = {r["rate"]: r for r in found["curves"] if all(r[key] == area[key] for key in keys)}
        means = [f"{own[rate]['ndcg']:.4f}" for rate in rates]
        areas = [bounds(area, metric) for metric in ("ndcg", "recall")]
        rows.append([*(area[key] for key in keys), *means, *areas])
    shown = [f"{rate:.0%}" for rate in rates]
    columns = ["removed", "how", "who", *shown, f"area of NDCG@{K}", f"area of Recall@{K}"]
    return markdown(columns, rows)


def verdict_lines(found: dict) -> Table:
    """Return what the curves of one seed say in words."""
    lines = [f"- {role}: {base}" for role, base in found["roles"].items()]
    lines += [f"- {verdict['line']}" for verdict in found["verdicts"]]
    for row in found["worst_slices"]:
        where = f"{row['rate']:.0%} of {row['removed']} removed, {row['mode']}"
        lines.append(
            f"- worst slice of {row['name']}: {bounds(row, 'ndcg')} {row['slice']}, n={row['n']}, {where}"
        )
    return lines


def cold_lines(found: Sequence[dict]) -> Table:
    """Return the share of the loss of early fusion that the ensemble has on cold items."""
    if not found:
        why = f"fewer than 30 users have a positive of {NEVER_MET}, or there is no early fusion"
        return [f"- no share of loss: {why}"]
    return [cold_line(cold) for cold in found]


def cold_line(cold: dict) -> str:
    """Return the same of one slice."""
    ours, theirs, room = (cold[name] for name in ("ensemble", "early fusion", "room"))
    share = "no share, as early fusion loses nothing"
    if theirs["mean"] > 0:
        share = f"a share of {ours['mean'] / theirs['mean']:.2f}"
    return (
        f"- half of {cold['modality']} removed at random, {cold['slice']} (n={ours['n']}): ensemble loses "
        f"{bounds(ours, 'mean', '')}, early fusion loses {bounds(theirs, 'mean', '')}: {share}; half of the "
        f"latter minus the former {bounds(room, 'mean', '')}"
    )


def bounds(row: dict, name: str, prefix: str | None = None) -> str:
    """Show a value of a row with its interval."""
    start = f"{name}_" if prefix is None else prefix
    return f"{row[name]:.4f} [{row[f'{start}low']:.4f}, {row[f'{start}high']:.4f}]"


def compare(file: Path, common: Sequence[str], folder: Path, args: argparse.Namespace) -> Iterable[str]:
    """Run every seed of a config and yield the lines of its section."""
    folders, reports = [], []
    for seed in args.seeds:
        say(f"{file.stem}: seed {seed}")
        own = folder / f"{file.stem}-{args.protocol}-{seed}"
        command = [str(file), str(own), "--queries", str(args.queries), "--removals", str(args.removals)]
        for text in (*common, f"seed={seed}"):
            command += ["--set", text]
        report = reported(own / "report.json", lambda command=command: worker(command))
        folders.append(own)
        reports.append(report)
    tables = [[pl.read_parquet(own / f"{name}.parquet") for own in folders] for name in ("values", "slices")]
    seeds = ", ".join(map(str, args.seeds))
    yield f"**{file.stem}** ({args.protocol} protocol, seeds {seeds})\n"
    yield from ablation_table(*tables)
    yield ""
    for seed, report in zip(args.seeds, reports, strict=True):
        yield (
            f"- seed {seed}: samplers on `{report['rung']}`; {NATURAL}: {report['natural']}; {AUTO}: "
            f"{report['auto']}; {report['trained']:.0f} s until here, {report['seconds']:.0f} s in all, "
            f"{report['gib']:.1f} GiB"
        )
    for seed, own in zip(args.seeds, folders, strict=True):
        found = json.loads((own / "robustness.json").read_text())
        yield f"\nRemoval, seed {seed}, {found['queries']} users, {found['seeds']} removals a rate:\n"
        yield from curves_table(found)
        yield ""
        yield from verdict_lines(found)
        yield from cold_lines(found["cold"])
    yield ""


def worker(command: Sequence[str]) -> dict:
    """Run one seed in a process of its own."""
    return run_worker(sys.executable, "imbalance_worker.py", *command)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(os.environ.get("MODALRANK_DATA", SHARED / "data"))
    parser.add_argument("names", nargs="*", type=example, metavar="name", help="movies, tiktok; default all")
    parser.add_argument("--protocol", choices=["strict", "full"], default="strict")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--out", type=Path, help="keeps what was measured")
    parser.add_argument("--queries", type=int, default=1000, help="most test users while vectors are removed")
    parser.add_argument("--removals", type=int, default=3, help="removals drawn at each rate")
    parser.add_argument("--threads", type=int, help="default: what the config says, which is all cores")
    parser.add_argument("--config", type=Path, help="instead of the example configs")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override a key")
    args = parser.parse_args()
    if args.config and args.names:
        parser.error("give names or --config, not both")
    if not args.config and not args.data.is_dir():
        parser.error(f"needs the data sets in {args.data}: see --data")
    return args


def main() -> None:
    """Run every data set and print its section."""
    args = arguments()
    os.environ |= {"MODALRANK_DATA": str(args.data.resolve()), "OMP_WAIT_POLICY": "passive"}
    common = [f"protocol={args.protocol}", *args.set]
    if args.threads:
        common.append(f"threads={args.threads}")
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    files = [ROOT / "examples" / f"{name}.yaml" for name in args.names or ("movies", "tiktok")]
    print(f"`{shlex.join(['python', *sys.argv])}`, {date.today()}, {machine()}.\n", flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for file in [args.config.resolve()] if args.config else files:
            try:
                lines = list(compare(file, common, args.out or Path(scratch), args))
            except WorkerError as error:
                failed, lines = True, [f"**{file.stem}** failed: {error}\n"]
            print("\n".join(lines), flush=True)
    print(NOTES)
    sys.exit(failed)


if __name__ == "__main__":
    main()
