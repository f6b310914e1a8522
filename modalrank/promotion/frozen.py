"""The frozen evaluation set: what a version and its later rivals are judged on, written with the model."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from ensembles.fusion import RankFusion
from features.errors import DataError
from features.frame import IntArray
from features.history import History
from features.tables import sha256_of_file
from modalrank.bundle import Bundle
from modalrank.dataset import Dataset, row_columns
from modalrank.evaluation import Values, pattern_names
from modalrank.scoring import score_candidates, score_users
from modalrank.training import TrainResult
from rankers.metrics import ndcg

DESCRIPTION = "evaluation.json"
TABLES = ("queries", "truth", "history", "expected")
# Queries whose scores are kept bit for bit.
EXPECTED_QUERIES = 20
BANDS = ((0, "0"), (1, "1-2"), (3, "3-10"), (11, "11-50"), (51, "51+"))


@dataclass(frozen=True)
class EvaluationSet:
    """Queries, their truth, and what was known before.

    Attributes
    ----------
    form
        Of the data: with `log` a model makes its own lists, with `judged` it ranks the rows of `truth`.
    k
        Cutoff of the metrics.
    queries
        `query`, `activity` (a band), and NDCG@k of the references `popularity` and `rank_fusion`, null
        where there is no such reference.
    truth
        `query`, `item`, `label`, `coldness` and `pattern`; positives of a log, all rows of judged lists with
        their ready-made features.
    history
        Interactions before the test (log): `query`, `item`, `label` and, where there are times, `time`.
    expected
        `query`, `item` and `score` of some queries, as the model scored them before it was saved.
    tables
        `items` and `users` to path and SHA-256 of the tables that describe them.
    """

    form: Literal["log", "judged"]
    k: int
    queries: pl.DataFrame
    truth: pl.DataFrame
    history: pl.DataFrame
    expected: pl.DataFrame
    tables: dict[str, dict[str, str]]

    def save(self, folder: Path) -> None:
        """Write into an existing empty folder."""
        for name in TABLES:
            getattr(self, name).write_parquet(folder / f"{name}.parquet")
        files = {name: sha256_of_file(folder / f"{name}.parquet") for name in TABLES}
        facts = {"form": self.form, "k": self.k, "tables": self.tables, "files": files}
        (folder / DESCRIPTION).write_text(json.dumps(facts, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> EvaluationSet:
        """Read what `save` wrote; raises DataError if a file is not the one that was frozen."""
        if not (folder / DESCRIPTION).is_file():
            raise DataError(
                "this version was registered without an evaluation set",
                fix="train it again, or name a version that has one with --evaluation",
                file=str(folder),
            )
        facts: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        for name, digest in facts.pop("files").items():
            file = folder / f"{name}.parquet"
            if not file.is_file() or sha256_of_file(file) != digest:
                raise DataError(
                    "it is not the file that was frozen with the model",
                    fix="restore the artifacts of the run, or train again",
                    file=str(file),
                )
        facts |= {name: pl.read_parquet(folder / f"{name}.parquet") for name in TABLES}
        return cls(**facts)

    def described_by(self, table: str) -> Path | None:
        """Return the table that described items or users, if it is still the same file."""
        known = self.tables.get(table)
        if known is None or not Path(known["path"]).is_file():
            return None
        return Path(known["path"]) if sha256_of_file(Path(known["path"])) == known["sha256"] else None


def freeze(bundle: Bundle, result: TrainResult) -> EvaluationSet:
    """Return the test of a training run as an evaluation set; at most `ensemble.judges` queries of it."""
    dataset, config = result.dataset, result.dataset.config
    every = result.test.every_query
    drawn = np.random.default_rng(config.seed).permutation(len(every))[: config.ensemble.judges]
    places = np.sort(drawn)
    codes = every[places]
    before = dataset.history(dataset.in_split("train", "valid"))
    references = {"popularity": _popularity(result, before, codes), "rank_fusion": _fusion(result)[places]}
    queries = pl.DataFrame(
        {
            "query": dataset.queries.ids[codes],
            "activity": [_band(count) for count in before.activity[codes]],
            **{name: pl.Series(values, dtype=pl.Float64) for name, values in references.items()},
        }
    ).with_columns(pl.col(*references).fill_nan(None))
    frozen = EvaluationSet(
        form=config.data.form,
        k=config.ensemble.k,
        queries=queries,
        truth=_truth(result, before, codes),
        history=_history(dataset),
        expected=pl.DataFrame(),
        tables=_tables(dataset),
    )
    sample = queries["query"].to_list()[:EXPECTED_QUERIES]
    return replace(frozen, expected=scores_of(bundle, frozen, sample))


def scores_of(bundle: Bundle, evaluation: EvaluationSet, queries: list[str]) -> pl.DataFrame:
    """Return what a model says of some queries: `query`, `item`, `score` and `rank`."""
    if evaluation.form == "judged":
        features = row_columns(bundle.config.modalities)
        absent = [name for name in features if name not in evaluation.truth.columns]
        if absent:
            raise DataError(
                f"the evaluation set has no feature {absent[0]!r}, which the model reads",
                fix="judge it on the evaluation set of a version with the same features: --evaluation",
            )
        rows = evaluation.truth.filter(pl.col("query").is_in(queries)).select("query", "item", *features)
        parts = score_candidates(bundle, rows)
    else:
        parts = score_users(bundle, queries, evaluation.k)
    empty = pl.DataFrame(
        schema={"query": pl.String, "item": pl.String, "score": pl.Float64, "rank": pl.Int64}
    )
    return pl.concat([empty, *(part.select(empty.columns) for part in parts)])


def _popularity(result: TrainResult, before: History, codes: IntArray) -> Values:
    """(n_queries,) NDCG@k of the most liked items that the user has not met; NaN for judged lists."""
    config = result.dataset.config
    if config.data.form == "judged":
        return np.full(len(codes), np.nan)
    k = config.ensemble.k
    truth = result.dataset.history(result.dataset.in_split("test")).liked
    order = np.lexsort((np.arange(before.n_items), -before.popularity))
    values = np.empty(len(codes))
    for place, code in enumerate(codes):
        met = before.seen[[code]].indices if config.candidates.exclude_seen else np.zeros(0, dtype=np.int64)
        best = order[: k + len(met)]
        best = best[~np.isin(best, met)][:k]
        positives = truth[[code]].indices
        labels = np.isin(best, positives).astype(np.float64)
        borders, total = np.array([0, len(best)]), np.array([len(positives)])
        values[place] = ndcg(-np.arange(len(best), dtype=np.float64), labels, borders, k, 0, total)[0]
    return values


def _fusion(result: TrainResult) -> Values:
    """(n_queries,) NDCG@k of the reciprocal rank fusion of all bases of the run."""
    frame = result.test.frame
    fusion = RankFusion()
    fusion.bases_ = frame.bases
    return result.test.ndcg(fusion.score(frame), result.dataset.config.ensemble.k)


def _truth(result: TrainResult, before: History, codes: IntArray) -> pl.DataFrame:
    dataset = result.dataset
    here = dataset.in_split("test") & np.isin(dataset.query_codes, codes)
    if dataset.config.data.form == "log":
        here &= dataset.interactions["label"].to_numpy() >= dataset.config.data.positive_from
    rows = dataset.interactions.filter(pl.Series(here))
    met = before.met_by[dataset.item_codes[here]]
    pairs = dataset.query_codes[here], dataset.item_codes[here]
    patterns = pattern_names(result.model.modalities, result.model.presence(*pairs))
    return rows.select("query", "item", "label", *row_columns(dataset.config.modalities)).with_columns(
        coldness=pl.Series(np.select([met == 0, met < 4], ["cold (0)", "rare (1-3)"], "warm (4+)")),
        pattern=pl.Series(patterns),
    )


def _history(dataset: Dataset) -> pl.DataFrame:
    names = [name for name in ("query", "item", "label", "time") if name in dataset.interactions.columns]
    rows = dataset.interactions.select(names)
    if dataset.config.data.form == "judged":
        return rows.clear()
    return rows.filter(pl.Series(dataset.in_split("train", "valid")))


def _tables(dataset: Dataset) -> dict[str, dict[str, str]]:
    data = dataset.config.data
    files = {name: data.path(file) for name in ("items", "users") if (file := getattr(data, name))}
    return {
        name: {"path": str(file.resolve()), "sha256": sha256_of_file(file)} for name, file in files.items()
    }


def _band(count: Any) -> str:  # noqa: ANN401 - a number of numpy
    return [name for least, name in BANDS if count >= least][-1]
