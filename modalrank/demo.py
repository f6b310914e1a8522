"""The demo: a data set with a planted truth, and the whole line on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from modalrank.config import load_config
from modalrank.console import command, out
from modalrank.demo_data import NOISE_MODALITY, PLANTED_MODALITY, make_demo
from modalrank.jobs import Evaluation, evaluate_model, train_and_record
from modalrank.scoring import Options, Result
from modalrank.scoring_command import score_files
from modalrank.store import tracking_uri
from modalrank.tracking import Record
from modalrank.training import TrainResult
from modalrank.validation import validate

CONFIG = {
    "name": "demo",
    "data": {
        "root": "data",
        "items": "items.parquet",
        "users": "users.parquet",
        "positive_from": 4,
        "columns": {"label": "rating", "time": "timestamp"},
    },
    "split": {"by": "user_time", "valid": 0.15, "test": 0.2},
    "modalities": {
        "text": {"columns": ["title", "description"], "encoder": "text"},
        "tags": {"columns": ["tags"], "encoder": "tags"},
        "table": {"columns": ["price", "year"], "encoder": "numeric"},
        "image": {"columns": ["image"], "encoder": "image"},
        "audio": {"columns": ["audio"], "encoder": "audio"},
        "noise": {"columns": ["noise"], "encoder": "vectors"},
        "profile": {"table": "users", "columns": ["age"], "encoder": "numeric"},
    },
    "labels": {"method": "forward", "folds": 3, "negatives": 20},
    "ensemble": {"k": 10},
}


@dataclass(frozen=True)
class DemoSummary:
    """What the demo did."""

    config: Path
    checks: int
    warnings: int
    result: TrainResult
    recorded: Record
    evaluation: Evaluation
    scored: Result

    def best_modalities(self) -> list[tuple[str, float]]:
        """Return modality and NDCG on validation of its best single base, best first."""
        best: dict[str, float] = {}
        for standing in self.result.standings:
            role, _, modality = standing.role.partition(": ")
            if role == "single" and modality not in best:
                best[modality] = standing.valid.mean
        return list(best.items())

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        from modalrank.jobs import training_summary

        return {
            "config": str(self.config),
            "checks": self.checks,
            "warnings": self.warnings,
            "modalities": dict(self.best_modalities()),
            **training_summary(self.result, self.recorded),
            "evaluation": self.evaluation.as_dict(),
            "scores": self.scored.as_dict(),
        }

    def show(self) -> None:
        """Say in a few lines what happened, where the run is, and the next command to type."""
        k = self.result.dataset.config.ensemble.k
        found = self.evaluation.metrics[f"ndcg@{k}"]
        chosen = f"{self.result.chosen} of {', '.join(self.result.stack.meta.bases_used())}"
        order = " > ".join(f"{name} {value:.3f}" for name, value in self.best_modalities())
        lines = [
            f"validate   {self.checks} checks, {self.warnings} warnings, none failed",
            f"train      {len(self.result.standings)} bases and meta-learners; the gate chose {chosen}",
            f"           best single base by modality, NDCG@{k} on validation: {order}",
            f"           planted: users follow the {PLANTED_MODALITY}, and {NOISE_MODALITY} is noise",
            f"evaluate   NDCG@{k} on test {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}], n={found.n}",
            f"register   model {self.recorded.model} version {self.recorded.version}, alias challenger",
            f"score      {self.scored.rows} rows in {self.scored.out}",
            f"run        {self.recorded.run_id} in {self.recorded.uri}",
            f"next       {command('modalrank')} train {self.config}   or look around: "
            f"{command('mlflow')} ui --backend-store-uri {self.recorded.uri}",
        ]
        for line in lines:
            out.print(line, markup=False, soft_wrap=True)


def run_demo(folder: Path, seed: int, say: Callable[[str], None]) -> DemoSummary:
    """Make the data set in `folder` and validate, train, evaluate, register and score it."""
    say("make the demo data")
    make_demo(folder / "data", seed)
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "seed": seed}, sort_keys=False), encoding="utf-8")
    config = load_config(path)
    checks = validate(config)
    result, recorded = train_and_record(config, say)
    model = f"models:/{recorded.model}/{recorded.version}"
    evaluation = evaluate_model(config, model, "test", say)
    users = folder / "users_to_score.parquet"
    pl.read_parquet(folder / "data" / "users.parquet").select("user_id").write_parquet(users)
    wanted = Options("users", str(users), top_k=20)
    scored = score_files(model, wanted, folder / "scores", tracking_uri(config), say)
    warnings = sum(not check.passed for check in checks)
    return DemoSummary(path, len(checks), warnings, result, recorded, evaluation, scored)
