"""The job behind `evaluate --robustness`: measured on a registered model, kept in the run of its training."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from features.removal import MODES
from modalrank.bases import sequence_length
from modalrank.config import Config
from modalrank.jobs import Opened, Say, open_model
from modalrank.lists import Held
from modalrank.robustness.bench import make_bench
from modalrank.robustness.contestants import FUSION, References
from modalrank.robustness.curves import METRICS, Plan, Robustness, measure
from modalrank.robustness.plots import figures
from modalrank.robustness.report import TABLES, as_dict
from modalrank.robustness.verdicts import verdicts
from modalrank.store import registry, tracking_uri
from rankers.transformer_ranker import TransformerRanker

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "robustness"
REFERENCES = "references"


@dataclass(frozen=True)
class Asked:
    """What to look at.

    Attributes
    ----------
    seeds
        Removals drawn at each rate.
    queries
        Most queries, drawn at random.
    """

    model: str
    split: Held = "test"
    seeds: int = 3
    queries: int = 2000


def model_robustness(config: Config, asked: Asked, say: Say) -> tuple[Robustness, str | None]:
    """Return what a registered model loses with its vectors, and the run that it was written into.

    A model given as a folder has no run.

    Raises
    ------
    DataError
        If the version has no bases to be compared with, or no item has content.
    """
    opened = open_model(config, asked.model, say)
    references = References.load(opened.folder.with_name(REFERENCES))
    if FUSION not in references.roles:
        say("fit an early fusion, which the config has none of")
        references = references.with_fusion(config, opened.form.training().frame)
    contestants = references.beside(opened.bundle.stack)
    model = opened.bundle.model
    if contestants.stack.uses_family(TransformerRanker.family):
        model = replace(model, settings=replace(model.settings, sequence=sequence_length(config)))
    bench = make_bench(opened.form, model, opened.encodings, asked.split, asked.queries)
    plan = Plan(
        config.ensemble.k,
        asked.seeds,
        # Documents of judged lists are not popular or unpopular: each is of its own query.
        modes=MODES if config.data.form == "log" else ("random",),
        n_draws=config.ensemble.bootstrap_draws,
        seed=config.seed,
    )
    found = measure(bench, contestants, plan, say)
    return found, _record(config, opened, asked, found, say)


def _record(config: Config, opened: Opened, asked: Asked, found: Robustness, say: Say) -> str | None:
    if not asked.model.startswith("models:/"):
        return None
    say("record")
    name = asked.model.removeprefix("models:/").partition("@")[0].partition("/")[0]
    with registry(tracking_uri(config)) as client:
        run: str = client.get_model_version(name, opened.version).run_id
        _log(client, run, asked.split, found)
    return run


def _log(client: MlflowClient, run: str, split: str, found: Robustness) -> None:
    from mlflow.entities import Metric
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    values: dict[str, float] = {}
    for row in found.areas.to_dicts():
        place = f"{FOLDER}.{split}.{row['removed']}.{row['mode']}.{row['name']}"
        values |= {f"{place}.area_{metric}_at_{found.plan.k}": row[metric] for metric in METRICS}
    for verdict in verdicts(found):
        place = f"{FOLDER}.{split}.{verdict.name}.places_below_behaviour_only"
        values[f"{place}_{verdict.metric}_at_{found.plan.k}"] = float(len(verdict.below))
    metrics = [Metric(name, value, now, 0) for name, value in values.items() if value == value]
    client.log_batch(run, metrics=metrics)
    for name in TABLES:
        client.log_text(run, getattr(found, name).write_csv(), f"{FOLDER}/{split}/{name}.csv")
    client.log_text(run, json.dumps(as_dict(found), indent=1), f"{FOLDER}/{split}/robustness.json")
    for name, figure in figures(found).items():
        client.log_figure(run, figure, f"{FOLDER}/{split}/{name}.png")
