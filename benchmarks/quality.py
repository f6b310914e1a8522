"""Ranking quality on the real data sets, strict protocol: the ensemble beside its peers, with intervals.

usage: python benchmarks/quality.py [movies tiktok mq2008] [--data DIR] [--referee FILE] [--seed N]

Lists are scored by the referee (a program of its own that shares no code with modalrank), judged queries by
modalrank's metrics. Everything is chosen on validation; the test is looked at once. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
LIST_LENGTH = 200
PEERS = {
    "popularity": ("popularity", {}),
    "EASE": ("ease", {"l2": [30, 100, 300, 1000], "neighbours": [500, 1_000_000]}),
    "RP3beta": ("rp3beta", {"alpha": [0.6, 0.8, 1.0], "beta": [0.0, 0.2, 0.4, 0.6]}),
}
MIN_RATING = {"movies": "4.0"}
JUDGED_FOLDS = 5


def load(name: str, seed: int, *overrides: str):  # noqa: ANN201 - a tuple of two of modalrank's own
    """Return the data set of an example config."""
    from modalrank.config import load_config
    from modalrank.dataset import load_dataset

    config = load_config(ROOT / "examples" / f"{name}.yaml", [f"seed={seed}", *overrides])
    return config, load_dataset(config)


def say(text: str) -> None:
    """Show progress on stderr."""
    print(f"  {text}", file=sys.stderr, flush=True)


def best_base(result) -> str:  # noqa: ANN001
    """Return the base that is best on validation."""
    return next(s.name for s in result.standings if s.role != "meta")


def lists_of(result, scores: np.ndarray) -> pl.DataFrame:  # noqa: ANN001
    """Return the lists that these candidate scores give."""
    dataset, test = result.dataset, result.test
    queries = np.repeat(test.queries, test.frame.group_sizes)
    table = pl.DataFrame(
        {"user_id": dataset.queries.ids[queries], "item_id": dataset.items.ids[test.items], "score": scores}
    ).filter(pl.col("score").is_finite())
    return table.filter(pl.col("score").rank("ordinal", descending=True).over("user_id") <= LIST_LENGTH)


def peer_lists(kind: str, grid: dict, dataset) -> pl.DataFrame:  # noqa: ANN001
    """Return the lists of one behaviour model over the whole catalogue, tuned on validation."""
    from features.candidates import top_items, user_batches
    from features.retrievers import fit_behaviour
    from tuning.grids import pick_setting

    train, valid, test = (dataset.history(dataset.in_split(split)) for split in ("train", "valid", "test"))
    params, _ = pick_setting(kind, grid, train, valid, k=20, exclude_seen=True, seed=dataset.config.seed)
    say(f"peer {kind} {params}")
    retriever = fit_behaviour(kind, train, params)
    seen = dataset.history(dataset.in_split("train", "valid")).seen
    parts = []
    for batch in user_batches(np.unique(test.users[test.is_positive]), train.n_items):
        scores = retriever.scores(train.liked[batch])
        scores[seen[batch].toarray() > 0] = np.nan
        rows, items = np.nonzero(top_items(scores, LIST_LENGTH))
        users, names = dataset.queries.ids[batch[rows]], dataset.items.ids[items]
        parts.append(pl.DataFrame({"user_id": users, "item_id": names, "score": scores[rows, items]}))
    return pl.concat(parts)


def referee(program: Path, interactions: Path, name: str, ours: Path, theirs: Path) -> dict:
    """Return the referee's verdict on two files of lists."""
    command = [sys.executable, str(program), str(interactions), str(ours), "--against", str(theirs)]
    if name in MIN_RATING:
        command += ["--min-rating", MIN_RATING[name]]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_log(name: str, program: Path, seed: int) -> list[list[str]]:
    """Train on a log and return the rows of its table."""
    from modalrank.training import train

    config, dataset = load(name, seed)
    result = train(dataset, say)
    base = best_base(result)
    lists = {f"**ensemble** ({result.chosen}: {', '.join(result.stack.meta.bases_used())})": result.chosen}
    lists |= {f"best single base ({base})": base, "one LightGBM lambdarank": "fused_lightgbm"}
    tables = {label: lists_of(result, result.test_scores[key]) for label, key in lists.items()}
    tables |= {label: peer_lists(kind, grid, dataset) for label, (kind, grid) in PEERS.items()}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = {label: Path(folder) / f"{number}.parquet" for number, label in enumerate(tables)}
        for label, table in tables.items():
            table.write_parquet(files[label])
        ours = next(iter(files.values()))
        interactions = config.data.path("interactions.parquet")
        for label, theirs in files.items():
            alone = referee(program, interactions, name, theirs, ours)
            paired = referee(program, interactions, name, ours, theirs)
            gains = [paired[f"{metric}_difference"] for metric in ("recall", "ndcg")]
            rows.append(
                [label, f"{alone['recall@20']:.4f}", f"{alone['ndcg@20']:.4f}"]
                + ["" if theirs == ours else show_gain(g["mean"], *g["ci95"]) for g in gains]
            )
    return rows


def run_judged(name: str, seed: int) -> list[list[str]]:
    """Train on the five standard folds and return the rows of the table over all test queries."""
    from ensembles.gate import paired_bootstrap
    from modalrank.training import train
    from rankers.metrics import average_precision

    values: dict[str, list[np.ndarray]] = {}
    chosen = []
    for fold in range(JUDGED_FOLDS):
        order = [(fold + step) % JUDGED_FOLDS + 1 for step in range(JUDGED_FOLDS)]
        files = [f"fold{number}.parquet" for number in order]
        split = {"train": files[:3], "valid": files[3], "test": files[4]}
        _, dataset = load(name, seed, f"data.interactions={json.dumps(split)}")
        result = train(dataset, say)
        chosen.append(f"fold {order[4]}: {result.chosen}")
        labels, offsets = result.test.frame.labels, result.test.frame.offsets
        names = {"**ensemble**": result.chosen, "best single base": best_base(result)}
        names |= {s.name: s.name for s in result.standings if s.role == "fused"}
        for label, key in names.items():
            scores = result.test_scores[key]
            both = [result.test.ndcg(scores, 10), average_precision(scores, labels, offsets)]
            values.setdefault(label, []).append(np.stack(both))
    joined = {label: np.concatenate(parts, axis=1) for label, parts in values.items()}
    ours = joined["**ensemble**"]
    rows = []
    for label, theirs in joined.items():
        gains = [paired_bootstrap(ours[i], theirs[i]) for i in range(2)]
        means = [f"{np.nanmean(theirs[i]):.4f}" for i in range(2)]
        rows.append(
            [label, *means] + ["" if theirs is ours else show_gain(g.mean, g.low, g.high) for g in gains]
        )
    counted = int((~np.isnan(ours[0])).sum())
    left_out = ours.shape[1] - counted
    note = f"{counted} queries, {left_out} all-zero left out"
    rows.append([f"(gate: {'; '.join(chosen)}; {note})", *[""] * 4])
    return rows


def show_gain(mean: float, low: float, high: float) -> str:
    """Show the ensemble's gain over a peer, with its 95% interval."""
    mark = " **worse**" if high < 0 else ""
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]{mark}"


def run_one(name: str, program: Path, seed: int) -> None:
    """Run one data set in this process and print its rows, time and memory as JSON."""
    start = time.perf_counter()
    rows = run_judged(name, seed) if name == "mq2008" else run_log(name, program, seed)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"rows": rows, "seconds": time.perf_counter() - start, "gib": memory}))


def main() -> None:
    """Run every data set in a process of its own and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=["movies", "tiktok", "mq2008"])
    data = Path(os.environ.get("MODALRANK_DATA", SHARED / "data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--referee", type=Path, default=SHARED / "tools" / "score_topk.py")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        run_one(args.names[0], args.referee, args.seed)
        return
    if not args.data.is_dir() or not args.referee.is_file():
        sys.exit(
            f"needs the data sets in {args.data} and the referee {args.referee}: see --data and --referee"
        )
    environment = {**os.environ, "MODALRANK_DATA": str(args.data.resolve()), "OMP_WAIT_POLICY": "passive"}
    print(
        f"{date.today()}, {os.cpu_count()} cores {platform.machine()}, seed {args.seed}, strict protocol.\n"
    )
    for name in args.names:
        command = [sys.executable, __file__, name, "--worker", "--seed", str(args.seed)]
        command += ["--referee", str(args.referee)]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )
        found = json.loads(done.stdout.splitlines()[-1])
        metrics = ("NDCG@10", "MAP") if name == "mq2008" else ("Recall@20", "NDCG@20")
        print(f"**{name}** ({found['seconds']:.0f} s with peers, peak {found['gib']:.1f} GiB)\n")
        print(f"| | {metrics[0]} | {metrics[1]} | ensemble's gain in {metrics[0]} | in {metrics[1]} |")
        print("|---|---|---|---|---|")
        for row in found["rows"]:
            print("| " + " | ".join(row) + " |")
        print(flush=True)


if __name__ == "__main__":
    main()
