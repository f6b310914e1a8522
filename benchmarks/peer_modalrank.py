"""modalrank's own entry in the tables: trains once and writes what the referee scores.

usage: python benchmarks/peer_modalrank.py NAME FOLDER --protocol strict|full --seed N

A log gives FOLDER/lists/{ensemble,best_base,one_lightgbm}-SEED.parquet, judged folds FOLDER/judged-SEED.json.
The last line printed is a JSON report.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[1]
LIST_LENGTH = 200
JUDGED_FOLDS = 5
ONE_LIGHTGBM = "fused_lightgbm"


def load(name: str, *overrides: str):  # noqa: ANN201 - a tuple of two of modalrank's own
    """Return the config and data set of an example."""
    from modalrank.config import load_config
    from modalrank.dataset import load_dataset

    config = load_config(ROOT / "examples" / f"{name}.yaml", overrides)
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


def run_log(name: str, folder: Path, overrides: list[str], seed: int) -> dict:
    """Train on a log and write the lists of the ensemble, the best base and the one LightGBM."""
    from modalrank.training import train

    _, dataset = load(name, *overrides)
    result = train(dataset, say)
    entries = {"ensemble": result.chosen, "best_base": best_base(result), "one_lightgbm": ONE_LIGHTGBM}
    for entry, key in entries.items():
        lists_of(result, result.test_scores[key]).write_parquet(folder / "lists" / f"{entry}-{seed}.parquet")
    return {"chosen": result.chosen, "bases": result.stack.meta.bases_used(), "best_base": best_base(result)}


def run_judged(name: str, overrides: list[str]) -> dict:
    """Train on the five standard folds and return NDCG@10 and average precision of all test queries."""
    from ensembles.gate import paired_bootstrap
    from modalrank.training import train
    from rankers.metrics import average_precision

    values: dict[str, list[np.ndarray]] = {}
    chosen = []
    for fold in range(JUDGED_FOLDS):
        order = [(fold + step) % JUDGED_FOLDS + 1 for step in range(JUDGED_FOLDS)]
        files = [f"fold{number}.parquet" for number in order]
        split = {"train": files[:3], "valid": files[3], "test": files[4]}
        _, dataset = load(name, *overrides, f"data.interactions={json.dumps(split)}")
        result = train(dataset, say)
        chosen.append(f"fold {order[4]}: {result.chosen}")
        labels, offsets = result.test.frame.labels, result.test.frame.offsets
        names = {"ensemble": result.chosen, "best_base": best_base(result)}
        names |= {s.name: s.name for s in result.standings if s.role == "fused"}
        for entry, key in names.items():
            scores = result.test_scores[key]
            both = [result.test.ndcg(scores, 10), average_precision(scores, labels, offsets)]
            values.setdefault(entry, []).append(np.stack(both))
    joined = {entry: np.concatenate(parts, axis=1) for entry, parts in values.items()}
    rows = {}
    for entry, theirs in joined.items():
        gains = [paired_bootstrap(joined["ensemble"][i], theirs[i]) for i in range(2)]
        rows[entry] = {
            "means": [float(np.nanmean(theirs[i])) for i in range(2)],
            "gains": [{"mean": g.mean, "ci95": [g.low, g.high]} for g in gains],
        }
    counted = int((~np.isnan(joined["ensemble"][0])).sum())
    left_out = joined["ensemble"].shape[1] - counted
    return {"chosen": chosen, "rows": rows, "queries": counted, "left_out": left_out}


def main() -> None:
    """Train modalrank on one data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--protocol", choices=["strict", "full"], required=True)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    start = time.perf_counter()
    overrides = [f"seed={args.seed}", f"protocol={args.protocol}"]
    judged = args.name == "mq2008"
    report = (
        run_judged(args.name, overrides) if judged else run_log(args.name, args.folder, overrides, args.seed)
    )
    report["seconds"] = time.perf_counter() - start
    report["gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(report))


if __name__ == "__main__":
    main()
