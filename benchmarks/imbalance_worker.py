"""One training run with every sampler, for benchmarks/imbalance.py.

usage: python benchmarks/imbalance_worker.py CONFIG FOLDER --queries N --removals N [--set a.b=c ...]

Bases and out-of-fold scores are made once. Writes FOLDER/values.parquet (every test query under every
sampler), FOLDER/slices.parquet (the same of slices) and FOLDER/robustness.json; prints a JSON report as its
last line.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from ensembles import Reserve, make_meta
from ensembles.meta import MetaLearner
from ensembles.samplers import NATURAL, SAMPLERS
from ensembles.slices import NEVER_MET
from modalrank.config import AUTO, Config, load_config
from modalrank.dataset import load_dataset
from modalrank.evaluation import Scored, Values
from modalrank.ladder import fit_rung, meta_scores, weighing_rung
from modalrank.robustness import Plan, Robustness, make_bench, measure, references_of
from modalrank.robustness.contestants import ENSEMBLE, FUSION
from modalrank.robustness.curves import Curve
from modalrank.robustness.parts import AMONG_THEMSELVES, Part, parts_ndcg, parts_of
from modalrank.robustness.report import as_dict
from modalrank.training import Groundwork, Stages, TrainResult, climbed, finished, lay_groundwork

K = 20
# Rows that are whole runs: the ladder climbed, and the reserve with it; and the same without the reserve.
WHOLE = {NATURAL: f"run: {NATURAL}", AUTO: f"run: {AUTO}"}
CLIMBED = {NATURAL: f"ladder: {NATURAL}", AUTO: f"ladder: {AUTO}"}
COLD = (NEVER_MET, AMONG_THEMSELVES)


def sampled_by(config: Config, sampler: str) -> Config:
    """Return the config with a sampler at its defaults."""
    drawn = {"sampling": sampler, "sampling_params": {}}
    return config.model_copy(update={"ensemble": config.ensemble.model_copy(update=drawn)})


def without_reserve(meta: MetaLearner) -> MetaLearner:
    """Return the rung below the places that are kept for new items."""
    return meta.inner if isinstance(meta, Reserve) else meta


def fitted_by(ground: Groundwork, config: Config, rung: str, sampler: str) -> MetaLearner:
    """Return a rung that learned from what a sampler draws."""
    learns = ground.oof if ground.oof and not make_meta(rung).settings_only else ground.judge
    return fit_rung(sampled_by(config, sampler), rung, replace(learns.frame))


def values_table(test: Scored, scores: dict[str, Values]) -> pl.DataFrame:
    """Return NDCG and recall of every test query under every row of the ablation."""
    parts = [
        pl.DataFrame(
            {
                "query": test.every_query,
                "sampler": [name] * len(test.every_query),
                "ndcg": test.ndcg(each, K),
                "recall": test.recall(each, K),
            }
        )
        for name, each in scores.items()
    ]
    return pl.concat(parts)


def slices_table(test: Scored, parts: Mapping[str, Part], scores: dict[str, Values]) -> pl.DataFrame:
    """Return NDCG of the queries of every slice under every row of the ablation."""
    schema = {"query": pl.Int64, "ndcg": pl.Float64, "sampler": pl.String, "slice": pl.String}
    tables = [pl.DataFrame(schema=schema)]
    for name, each in scores.items():
        found = parts_ndcg(test.frame, each, parts.values(), K)
        for part, ndcg in zip(parts, found, strict=True):
            values = {"query": test.every_query, "ndcg": ndcg}
            table = pl.DataFrame(values).filter(pl.col("ndcg").is_not_nan())
            tables.append(table.with_columns(sampler=pl.lit(name), slice=pl.lit(part)))
    return pl.concat(tables)


def strongest(ground: Groundwork) -> str | None:
    """Return the item modality of which a base alone is best on validation."""
    judge = ground.judge
    best: dict[str, float] = {}
    for column, base in enumerate(judge.frame.bases):
        reads = ground.bases.blocks[base]
        if len(reads) == 1 and reads[0] in ground.encodings.items:
            mean = float(np.nanmean(judge.ndcg(judge.frame.scores[:, column], K)))
            best[reads[0]] = max(mean, best.get(reads[0], 0.0))
    return max(best, key=lambda name: best[name]) if best else None


def cold_losses(found: Robustness, modality: str | None) -> list[dict]:
    """Return what ensemble and early fusion lose on items never met at 50% of a modality removed at random.

    `room` is half of what early fusion loses minus what the ensemble loses, paired: at least 0 is asked for.
    """
    rows = []
    for part in COLD:
        keys = [(Curve(str(modality), "random"), name, part) for name in (ENSEMBLE, FUSION)]
        if all(key in found.half for key in keys):
            ours, theirs = (found.half[key] for key in keys)
            losses = {ENSEMBLE: ours, FUSION: theirs, "room": 0.5 * theirs - ours}
            shown = {name: found.draws.interval(loss) for name, loss in losses.items()}
            plain = {
                name: {"mean": i.mean, "low": i.low, "high": i.high, "n": i.n} for name, i in shown.items()
            }
            rows.append({"modality": modality, "slice": part, **plain})
    return rows


def removal(ground: Groundwork, result: TrainResult, natural: MetaLearner, plan: Plan, queries: int) -> dict:
    """Return the curves of the run with auto, of natural sampling and of the references."""
    bench = make_bench(ground.form, result.model, ground.encodings, "test", queries)
    contest = references_of(result).beside(result.stack)
    metas = {**contest.metas, NATURAL: natural}
    found = measure(bench, replace(contest, metas=metas), plan, say)
    return as_dict(found) | {"cold": cold_losses(found, strongest(ground))}


def run(file: Path, overrides: list[str], folder: Path, queries: int, removals: int) -> dict:
    """Train, compare and remove; return the report."""
    start = time.perf_counter()
    config = sampled_by(load_config(file, overrides), AUTO)
    stages = Stages(say)
    ground = lay_groundwork(load_dataset(config), stages)
    result = finished(ground, config, stages)
    say("the ladder with natural sampling")
    natural = climbed(ground, sampled_by(config, NATURAL), say)
    rung = weighing_rung(natural, without_reserve(natural.metas[natural.chosen]).name, ground.judge, K)
    metas = {WHOLE[NATURAL]: natural.metas[natural.chosen], WHOLE[AUTO]: result.stack.meta}
    metas |= {CLIMBED[sampling]: without_reserve(metas[WHOLE[sampling]]) for sampling in CLIMBED}
    for sampler in SAMPLERS:
        say(f"{rung} by {sampler}")
        metas[sampler] = fitted_by(ground, config, rung, sampler)
    scores = meta_scores(metas, result.test.frame)
    folder.mkdir(parents=True, exist_ok=True)
    values_table(result.test, scores).write_parquet(folder / "values.parquet")
    parts = parts_of(ground.form, result.model, result.test, "test")
    slices_table(result.test, parts, scores).write_parquet(folder / "slices.parquet")
    trained = time.perf_counter() - start
    plan = Plan(K, removals, n_draws=config.ensemble.bootstrap_draws, seed=config.seed)
    robustness = removal(ground, result, metas[WHOLE[NATURAL]], plan, queries)
    (folder / "robustness.json").write_text(json.dumps(robustness))
    chosen = [trial.named for trial in result.samplers if trial.chosen]
    return {
        "rung": rung,
        "natural": natural.chosen,
        "auto": f"{result.chosen}, {chosen[0] if chosen else 'no sampler tried'}",
        "trained": trained,
        "seconds": time.perf_counter() - start,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def say(text: str) -> None:
    """Show progress on stderr."""
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Run one data set with one seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--queries", type=int, required=True)
    parser.add_argument("--removals", type=int, required=True)
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    print(json.dumps(run(args.config, args.set, args.folder, args.queries, args.removals)))


if __name__ == "__main__":
    main()
