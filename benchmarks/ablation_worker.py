"""One training run, and ladders climbed again on the same bases, for benchmarks/ablation.py.

usage: python benchmarks/ablation_worker.py CONFIG VALUES [--set a.b=c ...] [--beside JSON]

JSON maps names to lists of further overrides, which may differ from the config in `ensemble` alone. Writes
the metrics of every test user to VALUES, those under each of these names to a file of its own beside it, and
prints as its last line a JSON list of reports that say where they are, the config's own first.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import polars as pl

from ensembles.meta import MetaLearner
from features.errors import ModalrankError
from modalrank.config import FUSED, NEURAL, Config, load_config
from modalrank.dataset import load_dataset
from modalrank.evaluation import Values
from modalrank.ladder import meta_scores
from modalrank.training import Stages, TrainResult, climbed, finished, lay_groundwork

K = 20


def measure(
    file: Path, overrides: Sequence[str], values: Path, beside: Mapping[str, Sequence[str]]
) -> list[dict]:
    """Train, climb again for each of `beside`, write the metrics of each and return the reports."""
    start = time.perf_counter()
    config = load_config(file, overrides)
    stages = Stages(lambda text: say(f"  {text}"))
    ground = lay_groundwork(load_dataset(config), stages)
    result = finished(ground, config, stages)
    write_values(result, result.test_scores[result.chosen], values)
    retrievers = {retriever.name for retriever in result.model.retrievers}
    learned = {"learned": learned_bases(config, result.blocks, retrievers)}
    reports = [report("whole", result.stack.meta, values, start) | learned]
    for number, (name, further) in enumerate(beside.items()):
        say(f"  without {name}")
        start, own = time.perf_counter(), values.with_stem(f"{values.stem}-{number}")
        ladder = climbed(ground, load_config(file, [*overrides, *further]), lambda _: None)
        meta = ladder.metas[ladder.chosen]
        write_values(result, meta_scores({name: meta}, result.test.frame)[name], own)
        reports.append(report(name, meta, own, start))
    return reports


def report(name: str, meta: MetaLearner, values: Path, start: float) -> dict:
    """Return what was chosen, where its metrics are, and what it cost since `start`."""
    return {
        "name": name,
        "rung": rung_of(meta),
        "values": str(values),
        "seconds": time.perf_counter() - start,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def write_values(result: TrainResult, scores: Values, values: Path) -> None:
    """Write the metrics of every test user under (n_rows,) scores."""
    pl.DataFrame(
        {
            "query": result.dataset.queries.ids[result.test.every_query],
            "ndcg": result.test.ndcg(scores, K),
            "recall": result.test.recall(scores, K),
        }
    ).write_parquet(values)


def learned_bases(config: Config, blocks: Mapping[str, Sequence[str]], skip: Container[str]) -> list[dict]:
    """Return the learned bases of a finished run, each with the blocks that it read."""
    given = {} if config.bases == "auto" else {spec.name: spec.model_dump() for spec in config.bases}
    found = []
    for name, read in blocks.items():
        if name not in skip:
            family, objective = {**FUSED, **NEURAL}.get(name, ("lightgbm", None))
            spec = given.get(name, {"name": name, "family": family, "objective": objective})
            found.append({**spec, "blocks": list(read)})
    return found


def rung_of(meta: MetaLearner) -> str:
    """Return the rung that the gate chose, its base if there is one, and whether places are kept."""
    kept = ""
    if meta.name == "reserve":
        kept, meta = ", places kept", meta.inner
    used = meta.bases_used()
    base = f" ({used[0]})" if meta.name == "best_single" or len(used) == 1 else ""
    return f"{meta.name}{base}{kept}"


def say(text: str) -> None:
    """Show progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run one config."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("values", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--beside", type=json.loads, default={})
    args = parser.parse_args()
    print(json.dumps(measure(args.config, args.set, args.values, args.beside)))


if __name__ == "__main__":
    try:
        main()
    except ModalrankError as error:
        sys.exit(str(error))
