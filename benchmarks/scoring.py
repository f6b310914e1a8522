"""How fast batch scoring is, and how much memory it takes, beside the floor that no job can go below.

usage: python benchmarks/scoring.py [--rows N ...] [--models mixed lightgbm] [--trees N] [--repeat N]
       [--threads N] [--shuffled] [--work FOLDER] [--log MODEL]

Makes judged lists with 40 ready feature columns (50 candidates a query), trains a model of each kind, and
scores files of N rows. Every measurement is a process of its own, so that its peak of memory is its own:

- `floor`: reads the Parquet file and calls the same boosters' own `predict` on ready float32 arrays, block by
  block. Making the arrays is not counted, and there is no stack, no rank, no check and no output.
- `job`: the whole of `modalrank score` with its imports: read, check, features, bases, stack, rank, shards
  with their digests, manifest, publication.

`mixed` has one ranker each of LightGBM, XGBoost and CatBoost, `lightgbm` three of LightGBM, which jobs walk
through by a compiled loop. Printed are medians over the repetitions, floor and job in turn with the same
threads. Seconds of CPU stand beside those of the clock, because other programs disturb them less.
`--shuffled` has the job sort its input first. `--work` keeps models and files for the next run.

`--log MODEL` takes the folder of a model of a log instead (the artefact `bundle` of a version), makes lists
for all users that it knows, and tells where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from peer_table import markdown
from peers import machine, say

from ensembles import TunedFusion
from modalrank.bundle import Bundle
from modalrank.config import load_config
from modalrank.dataset import load_dataset, row_blocks
from modalrank.scoring import Model, Options, run_job
from modalrank.tracking import bundle_of
from modalrank.training import train
from rankers.protocol import Ranker

N_FEATURES, N_CANDIDATES, GROUP_ROWS = 40, 50, 250_000
TRAINING_QUERIES = 1_200
KINDS = {"mixed": ("lightgbm", "xgboost", "catboost"), "lightgbm": ("lightgbm",) * 3}
# What decides how long a booster takes: up to 500 trees of 63 leaves, and their like.
SIZES: dict[str, dict[str, Any]] = {
    "lightgbm": {"rounds": 500, "num_leaves": 63, "patience": 500},
    "xgboost": {"rounds": 500, "max_depth": 6, "patience": 500},
    "catboost": {"rounds": 500, "depth": 6, "patience": 500},
}
COLUMNS = [
    "model", "rows", "floor, rows/s", "job, rows/s", "job / floor", "job / floor by CPU", "job, GiB",
    "of the GiB at the fewest rows",
]  # fmt: skip
# What a scoring job does, by the functions that do it; what is left is ranking and counting.
STAGES = {
    "read, check and sort the input": [("job.py", "_spooled")],
    "load the model": [("bundle.py", "load")],
    "describe what is new": [("job.py", "_grown")],
    "find candidates": [("candidates.py", "retrieve"), ("candidates.py", "score_given")],
    "make features": [("builder.py", "frame")],
    "bases": [("stack.py", "base_scores")],
    "write shards": [("staging.py", "write_table")],
}
WHOLE, STACK, REST = "run_job", "stack.py", "rank, count and the rest"


@dataclass
class Watch:
    """Adds up the seconds of what is run under it, by the clock and of all cores."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is done inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def features(n_rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return ready features by name, of which one in ten is missing."""
    values = rng.normal(size=(n_rows, N_FEATURES)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    return {f"f{column}": values[:, column] for column in range(N_FEATURES)}


def ids(rows: np.ndarray) -> dict[str, list[str]]:
    """Return query and item ids of (n_rows,) row numbers, N_CANDIDATES rows a query."""
    return {
        "query_id": [f"q{row // N_CANDIDATES:09d}" for row in rows],
        "doc_id": [f"d{row % N_CANDIDATES:03d}" for row in rows],
    }


def write_training(folder: Path, kind: str, trees: int | None, threads: int) -> Path:
    """Write judged lists whose grades follow some of the features, and the config of a kind of model."""
    rng = np.random.default_rng(0)
    n_rows = TRAINING_QUERIES * N_CANDIDATES
    columns = features(n_rows, rng)
    truth = sum(np.nan_to_num(columns[f"f{column}"]) / (1 + column) for column in range(8))
    grades = np.digitize(truth + rng.normal(size=n_rows), [1.0, 2.0]).astype(np.float64)
    table = pl.DataFrame({**ids(np.arange(n_rows)), "grade": grades, **columns}).fill_nan(None)
    table.write_parquet(folder / "judged.parquet")
    params = {family: size | ({"rounds": trees} if trees else {}) for family, size in SIZES.items()}
    bases = [
        {"name": f"{family}{number}", "family": family, "params": params[family]}
        for number, family in enumerate(KINDS[kind])
    ]
    config = {
        "name": kind,
        "threads": threads,
        "data": {
            "interactions": "judged.parquet",
            "form": "judged",
            "columns": {"query": "query_id", "item": "doc_id", "label": "grade"},
        },
        "split": {"by": "query", "valid": 0.1, "test": 0.1},
        "modalities": {
            name: {"table": "interactions", "encoder": "numeric", "columns": [f"f{c}" for c in part]}
            for name, part in (("words", range(20)), ("clicks", range(20, N_FEATURES)))
        },
        "labels": {"folds": 2},
        "bases": bases,
        "ensemble": {"ladder": ["best_single"], "sampling": "natural"},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def write_model(folder: Path, kind: str, trees: int | None, threads: int) -> Path:
    """Train a model of a kind in which every base counts, and save its bundle."""
    folder.mkdir(exist_ok=True)
    config = load_config(write_training(folder, kind, trees, threads))
    result = train(load_dataset(config), say)
    fusion = TunedFusion()
    fusion.weights_ = dict.fromkeys(result.stack.bases, 1.0 / len(result.stack.bases))
    stack = replace(result.stack, meta=fusion)
    bundle = replace(bundle_of(config, result), stack=stack, blocks=dict(result.blocks))
    (folder / "bundle").mkdir(exist_ok=True)
    bundle.save(folder / "bundle")
    return folder / "bundle"


def write_candidates(path: Path, n_rows: int, *, shuffled: bool = False) -> None:
    """Write candidates in row groups of GROUP_ROWS; shuffled, rows of a query are in several groups."""
    rng = np.random.default_rng(1)
    order = rng.permutation(n_rows) if shuffled else np.arange(n_rows)
    writer = None
    for start in range(0, n_rows, GROUP_ROWS):
        rows = order[start : start + GROUP_ROWS]
        group = pa.table({**ids(rows), **features(len(rows), rng)})
        if writer is None:
            writer = pq.ParquetWriter(path, group.schema, compression="zstd")
        writer.write_table(group)
    if writer is not None:
        writer.close()


def predicted(ranker: Ranker, array: np.ndarray, threads: int) -> np.ndarray:
    """Return what the library's own call says of a ready array."""
    if ranker.family == "lightgbm":
        return ranker.booster_.predict(array, num_threads=threads)
    if ranker.family == "xgboost":
        return ranker.booster_.inplace_predict(array, missing=np.nan)
    return ranker.booster_.predict(array, thread_count=threads)


def floor(bundle: Bundle, given: Path) -> Watch:
    """Return the time of reading a file and of the bare predictions."""
    watch, file = Watch(), pq.ParquetFile(given)
    for number in range(file.num_row_groups):
        with watch.running():
            rows = pl.from_arrow(file.read_row_group(number))
        blocks = row_blocks(bundle.config.modalities, rows)
        codes = np.arange(len(rows))
        (candidates,) = bundle.model.given(codes // N_CANDIDATES, codes)
        frame = bundle.model.frame(candidates, row_blocks=blocks)
        for base in bundle.stack.bases.values():
            array = np.ascontiguousarray(frame.select_blocks(base.blocks).features)
            with watch.running():
                predicted(base.ranker, array, bundle.config.threads)
    return watch


def measured(what: str, bundle: Path, given: Path, out: Path) -> dict[str, float]:
    """Return `wall` and `cpu` seconds and the peak of memory in `gib` of a child process that measures."""
    command = [sys.executable, __file__, "--child", what, str(bundle), str(given), str(out)]
    # The number of threads is the model's.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{what} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def child(what: str, bundle: Path, given: Path, out: Path) -> None:
    """Measure in this process and print what was found."""
    if what == "floor":
        watch = floor(Bundle.load(bundle), given)
    else:
        watch = Watch()
        with watch.running():
            run_job(Model("scoring", "1", bundle), Options("candidates", str(given)), out, lambda _: None)
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"wall": watch.wall, "cpu": watch.cpu, "gib": gib}))


def rows_of(kind: str, bundle: Path, files: Mapping[int, Path], repeat: int, work: Path) -> list[list[str]]:
    """Measure a model on files by their number of rows, and return the rows of the table."""
    table, least = [], 0.0
    for n_rows, given in sorted(files.items()):
        pairs = []
        for number in range(repeat):
            say(f"{kind}, {n_rows:,} rows, {number + 1} of {repeat}")
            with tempfile.TemporaryDirectory(dir=work) as name:
                pairs.append([measured(what, bundle, given, Path(name) / "out") for what in ("floor", "job")])
        speed = [
            f"{n_rows / statistics.median(pair[side]['wall'] for pair in pairs):,.0f}" for side in (0, 1)
        ]
        ratio = [
            f"{statistics.median(bare[clock] / job[clock] for bare, job in pairs):.2f}"
            for clock in ("wall", "cpu")
        ]
        gib = statistics.median(job["gib"] for _, job in pairs)
        least = least or gib
        table.append([kind, f"{n_rows:,}", *speed, *ratio, f"{gib:.2f}", f"{gib / least:.2f}"])
        say("| " + " | ".join(table[-1]) + " |")
    return table


def trees_of(bundle: Path) -> str:
    """Return the number of trees of every base of a model."""
    bases = Bundle.load(bundle).stack.bases.values()
    return ", ".join(f"{base.ranker.family} {base.ranker.best_rounds_}" for base in bases)


def measure(args: argparse.Namespace, work: Path) -> None:
    """Measure every kind and size, and print the table."""
    files, table = {}, []
    for n_rows in map(int, args.rows):
        files[n_rows] = work / f"{'shuffled' if args.shuffled else 'sorted'}_{n_rows}.parquet"
        if not files[n_rows].exists():
            say(f"write {n_rows:,} rows")
            unfinished = files[n_rows].with_suffix(".part")
            write_candidates(unfinished, n_rows, shuffled=args.shuffled)
            unfinished.rename(files[n_rows])
    threads = args.threads or os.cpu_count() or 1
    for kind in args.models:
        folder = work / f"{kind}_{args.trees or 'all'}_{threads}"
        bundle = folder / "bundle"
        if not (bundle / "manifest.json").exists():
            write_model(folder, kind, args.trees, threads)
        print(f"Trees of `{kind}`: {trees_of(bundle)}.")
        table += rows_of(kind, bundle, files, args.repeat, work)
    print("", *markdown(COLUMNS, table), sep="\n")


def seconds_by_stage(stats: pstats.Stats) -> dict[str, float]:
    """Return the seconds of each stage of a profiled job, which sum up to those of the whole."""
    spent: dict[tuple[str, str], float] = {}
    for (file, _, function), (*_, cumulative, _) in stats.stats.items():  # type: ignore[attr-defined]
        key = Path(file).name, function
        spent[key] = spent.get(key, 0.0) + cumulative
    found = {stage: sum(spent.get(key, 0.0) for key in keys) for stage, keys in STAGES.items()}
    found["meta-learner"] = spent.get((STACK, "score"), 0.0) - found["bases"]
    return found | {REST: spent["job.py", WHOLE] - sum(found.values())}


def show_log(folder: Path) -> None:
    """Score lists for all users of a model and print the speed and where the time goes."""
    bundle = Bundle.load(folder)
    with tempfile.TemporaryDirectory() as name:
        users = Path(name) / "users.parquet"
        pl.DataFrame({bundle.config.data.columns.query: bundle.queries.ids}).write_parquet(users)
        profile, watch = cProfile.Profile(), Watch()
        options = Options("users", str(users), top_k=100)
        with watch.running():
            job = profile.runcall(
                run_job, Model("log", "1", folder), options, Path(name) / "out", lambda _: None
            )
    counts, speed = job.manifest["counts"], job.manifest["counts"]["scored"] / watch.wall
    print(
        f"{counts['scored']:,} candidates of {counts['queries']:,} users, {len(bundle.stack.bases)} bases: "
        f"{watch.wall:.1f} s ({watch.cpu:.1f} s of CPU), {speed:,.0f} rows/s.\n"
    )
    stages = seconds_by_stage(pstats.Stats(profile))
    whole = sum(stages.values())
    rows = [[stage, f"{seconds:.2f}", f"{seconds / whole:.0%}"] for stage, seconds in stages.items()]
    print(*markdown(["where the time goes", "seconds", "share"], rows), sep="\n")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=float, nargs="+", default=[1e5, 5e5])
    parser.add_argument("--models", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--trees", type=int, help="most trees of every booster, instead of 500")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0 means all cores")
    parser.add_argument("--shuffled", action="store_true", help="rows in no order")
    parser.add_argument("--work", type=Path, help="folder that keeps models and files")
    parser.add_argument("--log", type=Path, metavar="MODEL", help="folder of a model of a log")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], *map(Path, args.child[1:]))
        return
    print(f"`{shlex.join(['python', *sys.argv])}`, {date.today()}, {machine()}.\n")
    if args.log:
        show_log(args.log)
    elif args.work:
        args.work.mkdir(parents=True, exist_ok=True)
        measure(args, args.work)
    else:
        with tempfile.TemporaryDirectory() as name:
            measure(args, Path(name))


if __name__ == "__main__":
    main()
