"""Measures one version in a process of its own: python -m modalrank.promotion.worker JOB.json.

Prints nothing; writes `lists.parquet` and `measured.json` beside the job. A clean process shows what the
night job will see: the model as it was saved, its own peak of memory, and no state of another model.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features.errors import ModalrankError
from features.tables import read_entities
from modalrank.bundle import Bundle
from modalrank.dataset import row_columns
from modalrank.promotion.frozen import EvaluationSet, scores_of
from modalrank.scoring import Fresh, refreshed, score_candidates

LISTS, MEASURED, FAILED = "lists.parquet", "measured.json", "failed.json"
TIMED_QUERIES, REPEATS = 100, 3


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes
    ----------
    bundle, evaluation
        Folders.
    own
        The folder of the version's own evaluation set, whose expected scores it must repeat.
    items, users
        Tables that describe items and users which the model does not know.
    smoke
        Only repeat the expected scores.
    """

    bundle: str
    evaluation: str
    own: str
    items: str | None = None
    users: str | None = None
    smoke: bool = False


@dataclass(frozen=True)
class Measured:
    """What a version does and costs.

    Attributes
    ----------
    repeated
        Number of expected scores, and how many of them came out bit for bit.
    stressed
        Number of pairs without any modality, and how many got a finite score.
    met
        Number of evaluation positives that the model was trained on.
    unknown
        Interactions of the frozen history left out because nothing describes their items to the model.
    cpu_ms
        Median CPU milliseconds a query.
    gib, mib
        Peak memory of the process and size of the model.
    """

    repeated: tuple[int, int]
    stressed: tuple[int, int]
    met: int
    unknown: int
    cpu_ms: float
    gib: float
    mib: float


def measure(job: Job, folder: Path) -> Measured:
    """Measure a version and write its lists into a folder."""
    bundle = Bundle.load(Path(job.bundle))
    own = EvaluationSet.load(Path(job.own))
    repeated = _repeated(bundle, own)
    if job.smoke:
        return Measured(repeated, (0, 0), 0, 0, 0.0, 0.0, 0.0)
    evaluation = EvaluationSet.load(Path(job.evaluation))
    stressed = _stressed(bundle, evaluation)
    met = _met(bundle, evaluation)
    bundle, unknown = _brought_up_to_date(bundle, evaluation, job)
    queries = evaluation.queries["query"].to_list()
    scores_of(bundle, evaluation, queries).write_parquet(folder / LISTS)
    spent = [_cpu_seconds(bundle, evaluation, queries[:TIMED_QUERIES]) for _ in range(REPEATS)]
    return Measured(
        repeated=repeated,
        stressed=stressed,
        met=met,
        unknown=unknown,
        cpu_ms=1e3 * float(np.median(spent)) / min(len(queries), TIMED_QUERIES),
        gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        mib=sum(file.stat().st_size for file in Path(job.bundle).rglob("*") if file.is_file()) / 2**20,
    )


def _repeated(bundle: Bundle, own: EvaluationSet) -> tuple[int, int]:
    """Count the expected scores and those that this process repeats bit for bit."""
    again = scores_of(bundle, own, own.expected["query"].unique(maintain_order=True).to_list())
    both = own.expected.join(again, on=["query", "item"], how="left", suffix="_again")
    return both.height, int((both["score"] == both["score_again"]).sum())


def _stressed(bundle: Bundle, evaluation: EvaluationSet) -> tuple[int, int]:
    """Count pairs of a stranger and items of which nothing is known, and those with a finite score."""
    items = [f"nothing known of {number}" for number in range(5)]
    stranger = "nobody seen before"
    grown = refreshed(bundle, Fresh(), [stranger], items, described=False)
    features = row_columns(bundle.config.modalities)
    rows = pl.DataFrame({"query": [stranger] * len(items), "item": items}).with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in features
    )
    scores = pl.concat(list(score_candidates(grown, rows)))["score"]
    return len(items), int(scores.is_finite().sum())


def _met(bundle: Bundle, evaluation: EvaluationSet) -> int:
    """Count the evaluation positives that are in the model's own history."""
    history, truth = bundle.model.history, evaluation.truth
    if evaluation.form == "judged":
        return 0
    known = pl.DataFrame(
        {"query": bundle.queries.ids[history.users], "item": bundle.items.ids[history.items]},
        schema={"query": pl.String, "item": pl.String},
    )
    return truth.join(known, on=["query", "item"], how="semi").height


def _brought_up_to_date(bundle: Bundle, evaluation: EvaluationSet, job: Job) -> tuple[Bundle, int]:
    """Return the model with what was known before the evaluation, as the night job would bring it."""
    if evaluation.form == "judged":
        rows = evaluation.truth
        return refreshed(bundle, Fresh(), rows["query"], rows["item"].unique(), described=False), 0
    items = Path(job.items) if job.items and bundle.model.items else None
    users = Path(job.users) if job.users and bundle.model.users else None
    described = set(bundle.items.ids.tolist())
    if items is not None:
        described |= set(read_entities(items, bundle.config.data.item_id, [])["id"])
    known = evaluation.history
    if bundle.model.items:
        known = known.filter(pl.col("item").is_in(list(described)))
    names = bundle.config.data.columns
    given = {"query": names.query, "item": names.item, "label": names.label, "time": names.time}
    columns = {old: new for old, new in given.items() if new is not None and old in known.columns}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "history.parquet"
        known.select(pl.col(old).alias(new) for old, new in columns.items()).write_parquet(file)
        fresh = Fresh(items, users, file)
        grown = refreshed(bundle, fresh, evaluation.queries["query"], [])
    return grown, evaluation.history.height - known.height


def _cpu_seconds(bundle: Bundle, evaluation: EvaluationSet, queries: list[str]) -> float:
    start = time.process_time()
    scores_of(bundle, evaluation, queries)
    return time.process_time() - start


def main() -> None:
    """Run the job of a file; a user's mistake is written down for the parent to tell."""
    file = Path(sys.argv[1])
    try:
        measured = measure(Job(**json.loads(file.read_text(encoding="utf-8"))), file.parent)
    except ModalrankError as error:
        (file.parent / FAILED).write_text(json.dumps({"error": str(error)}), encoding="utf-8")
        sys.exit(error.exit_code)
    (file.parent / MEASURED).write_text(json.dumps(asdict(measured)), encoding="utf-8")


if __name__ == "__main__":
    main()
