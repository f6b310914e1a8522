"""How fast batch scoring is, and how much memory it takes, beside the floor that no job can go below.

usage: python benchmarks/scoring.py [--rows N ...] [--models mixed lightgbm] [--trees N] [--repeat N]
       [--threads N] [--log]

Makes judged lists with 40 ready feature columns (50 candidates a query), trains a model of each kind, and
scores files of N rows. Every measurement is a process of its own, so that its peak of memory is its own:

- `floor`: reads the Parquet file and calls the same boosters' own `predict` on ready float32 arrays, block by
  block. Making the arrays is not counted, and there is no stack, no rank, no check and no output.
- `job`: the whole of `modalrank score`: read, check, features, bases, stack, rank, shards with their digests,
  manifest, publication.

`mixed` has one ranker each of LightGBM, XGBoost and CatBoost, `lightgbm` three of LightGBM, which jobs walk
through by a compiled loop. Printed are medians over the repetitions, interleaved, floor and job in turn.
`--log` scores lists for users of the movies data set instead and tells where the time goes.
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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
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
from features.frame import RankingFrame
from modalrank.bundle import Bundle
from modalrank.config import load_config
from modalrank.dataset import load_dataset, row_blocks
from modalrank.scoring import Model, Options, run_job
from modalrank.tracking import bundle_of
from modalrank.training import train
from rankers.block_ranker import BlockRanker

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
N_FEATURES, N_CANDIDATES, GROUP_ROWS = 40, 50, 250_000
TRAINING_QUERIES = 1_200
KINDS = {"mixed": ("lightgbm", "xgboost", "catboost"), "lightgbm": ("lightgbm",) * 3}
# What decides how long a booster takes: 500 trees of 63 leaves, and their like.
SIZES: dict[str, dict[str, Any]] = {
    "lightgbm": {"rounds": 500, "num_leaves": 63, "patience": 500},
    "xgboost": {"rounds": 500, "max_depth": 6, "patience": 500},
    "catboost": {"rounds": 500, "depth": 6, "patience": 500},
}
FUNCTIONS = 12


def features(n_rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return ready features by name, of which one in ten is missing."""
    values = rng.normal(size=(n_rows, N_FEATURES)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    return {f"f{column}": values[:, column] for column in range(N_FEATURES)}


def ids(start: int, n_rows: int) -> dict[str, list[str]]:
    """Return query and item ids, N_CANDIDATES rows a query."""
    rows = range(start, start + n_rows)
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
    table = pl.DataFrame({**ids(0, n_rows), "grade": grades, **columns}).fill_nan(None)
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
    folder.mkdir()
    config = load_config(write_training(folder, kind, trees, threads))
    result = train(load_dataset(config), say)
    fusion = TunedFusion()
    fusion.weights_ = dict.fromkeys(result.stack.bases, 1.0 / len(result.stack.bases))
    stack = replace(result.stack, meta=fusion)
    bundle = replace(bundle_of(config, result), stack=stack, blocks=dict(result.blocks))
    (folder / "bundle").mkdir()
    bundle.save(folder / "bundle")
    return folder / "bundle"


def write_candidates(path: Path, n_rows: int) -> None:
    """Write candidates in row groups of GROUP_ROWS."""
    rng = np.random.default_rng(1)
    writer = None
    for start in range(0, n_rows, GROUP_ROWS):
        size = min(GROUP_ROWS, n_rows - start)
        group = pa.table({**ids(start, size), **features(size, rng)})
        if writer is None:
            writer = pq.ParquetWriter(path, group.schema, compression="zstd")
        writer.write_table(group)
    if writer is not None:
        writer.close()


def predictions(base: BlockRanker, frame: RankingFrame, threads: int) -> float:
    """Return the seconds of the library's own call on the ready array of a base."""
    array = np.ascontiguousarray(frame.select_blocks(base.blocks).features)
    ranker, start = base.ranker, time.perf_counter()
    if ranker.family == "lightgbm":
        ranker.booster_.predict(array, num_threads=threads)
    elif ranker.family == "xgboost":
        ranker.booster_.inplace_predict(array, missing=np.nan)
    else:
        ranker.booster_.predict(array, thread_count=threads or -1)
    return time.perf_counter() - start


def floor(bundle: Bundle, given: Path) -> float:
    """Return the seconds of reading a file and of the bare predictions."""
    seconds, file = 0.0, pq.ParquetFile(given)
    for number in range(file.num_row_groups):
        start = time.perf_counter()
        rows = pl.from_arrow(file.read_row_group(number))
        seconds += time.perf_counter() - start
        rows = rows.rename({"query_id": "query", "doc_id": "item"})
        blocks = row_blocks(bundle.config.modalities, rows)
        codes = np.arange(len(rows))
        (candidates,) = bundle.model.given(codes // N_CANDIDATES, codes)
        frame = bundle.model.frame(candidates, row_blocks=blocks)
        for base in bundle.stack.bases.values():
            seconds += predictions(base, frame, bundle.config.threads)
    return seconds


def measured(what: str, bundle: Path, given: Path, out: Path) -> dict[str, float]:
    """Return seconds and peak of memory of a child process that measures."""
    command = [sys.executable, __file__, "--child", what, str(bundle), str(given), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{what} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def child(what: str, bundle: Path, given: Path, out: Path) -> None:
    """Measure in this process and print what was found."""
    if what == "floor":
        seconds = floor(Bundle.load(bundle), given)
    else:
        start = time.perf_counter()
        run_job(Model("scoring", "1", bundle), Options("candidates", str(given)), out, lambda _: None)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


def rows_of(kind: str, bundle: Path, sizes: list[int], repeat: int, scratch: Path) -> Iterator[list[str]]:
    """Yield a row of the table for each size."""
    for n_rows in sizes:
        given = scratch / f"{n_rows}.parquet"
        if not given.exists():
            say(f"write {n_rows:,} rows")
            write_candidates(given, n_rows)
        found: dict[str, list[dict[str, float]]] = {"floor": [], "job": []}
        for number in range(repeat):
            for what, values in found.items():
                say(f"{kind}, {n_rows:,} rows: {what}, {number + 1} of {repeat}")
                values.append(measured(what, bundle, given, scratch / f"out_{kind}_{n_rows}_{number}"))
        ratio = statistics.median(
            a["seconds"] / b["seconds"] for a, b in zip(found["floor"], found["job"], strict=True)
        )
        seconds = {what: statistics.median(v["seconds"] for v in values) for what, values in found.items()}
        speed = [f"{n_rows / seconds[what]:,.0f}" for what in found]
        gib = statistics.median(value["gib"] for value in found["job"])
        yield [kind, f"{n_rows:,}", *speed, f"{ratio:.2f}", f"{gib:.2f}"]


def show_log(data: Path, threads: int) -> None:
    """Score lists for all users of movies and print the speed and where the time goes."""
    with tempfile.TemporaryDirectory() as name, suppress(BrokenPipeError):
        scratch = Path(name)
        overrides = [f"data.root={data / 'movies'}", f"threads={threads}"]
        config = load_config(ROOT / "examples" / "movies.yaml", overrides)
        result = train(load_dataset(config), say)
        bundle = bundle_of(config, result)
        (scratch / "bundle").mkdir()
        bundle.save(scratch / "bundle")
        users = scratch / "users.parquet"
        pl.DataFrame({"user_id": result.dataset.queries.ids}).write_parquet(users)
        profile, start = cProfile.Profile(), time.perf_counter()
        job = profile.runcall(
            run_job,
            Model("movies", "1", scratch / "bundle"),
            Options("users", str(users), top_k=100),
            scratch / "out",
            lambda _: None,
        )
        seconds, scored = time.perf_counter() - start, job.manifest["counts"]["scored"]
        print(f"{scored:,} candidates of {job.manifest['counts']['queries']} users in {seconds:.1f} s:")
        print(f"{scored / seconds:,.0f} rows/s with the profiler on; the functions that took longest:\n")
        ours = "/(features|rankers|ensembles|modalrank)/"
        pstats.Stats(profile, stream=sys.stdout).sort_stats("cumtime").print_stats(ours, FUNCTIONS)


def main() -> None:
    """Measure every kind and size, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=float, nargs="+", default=[1e6, 5e6])
    parser.add_argument("--models", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--trees", type=int, help="of every booster, instead of 500")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0 means all cores")
    parser.add_argument("--log", action="store_true", help="lists for the users of movies instead")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("MODALRANK_DATA", SHARED / "data")))
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], *map(Path, args.child[1:]))
        return
    print(f"`{shlex.join(['python', *sys.argv])}`, {date.today()}, {machine()}.\n")
    if args.log:
        show_log(args.data.resolve(), args.threads)
        return
    with tempfile.TemporaryDirectory() as name:
        scratch, found = Path(name), list[list[str]]()
        for kind in args.models:
            bundle = write_model(scratch / kind, kind, args.trees, args.threads)
            found += rows_of(kind, bundle, [int(n) for n in args.rows], args.repeat, scratch)
    columns = ["model", "rows", "floor, rows/s", "job, rows/s", "job / floor", "job, GiB"]
    print(*markdown(columns, found), sep="\n")


if __name__ == "__main__":
    main()
