"""The jobs behind the commands: train and record, evaluate."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ensembles.gate import Interval, bootstrap_mean
from features.errors import TryAgainError
from modalrank.bundle import LIBRARIES, Bundle
from modalrank.config import Config
from modalrank.console import command, out, show_table
from modalrank.dataset import load_dataset
from modalrank.encoding import Encodings
from modalrank.evaluation import Slice
from modalrank.forms import make_form
from modalrank.judged_form import JudgedForm
from modalrank.lists import Held
from modalrank.log_form import LogForm
from modalrank.plots import figures
from modalrank.sampling_choice import SamplerTrial
from modalrank.scoring import Fresh, refreshed
from modalrank.store import URI_VARIABLE, fetch_model, open_store, registry, require_store, tracking_uri
from modalrank.tracking import Record, bundle_of, record
from modalrank.training import TrainResult, score_lists, slices_of, train

Say = Callable[[str], None]
# Below the working folder, where the default store is too.
UNRECORDED = Path("mlruns") / "unrecorded"


@dataclass(frozen=True)
class Evaluation:
    """What a registered model is worth on a held-out split."""

    model: str
    version: str
    split: str
    metrics: dict[str, Interval]
    slices: list[Slice]
    left_out: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def train_and_record(config: Config, say: Say) -> tuple[TrainResult, Record]:
    """Train, then log and register; nothing is written before there is a model to record.

    Raises
    ------
    TryAgainError
        If the store does not answer; after the training the model is then kept in a folder.
    """
    say("read and check the tables")
    dataset = load_dataset(config)
    require_store(config)
    result = train(dataset, say)
    say("record the run and register the model")
    try:
        open_store(config)
        with registry(tracking_uri(config)) as client:
            return result, record(client, config, result, figures(result))
    except TryAgainError as error:
        raise TryAgainError(f"{error}; {_kept(bundle_of(config, result))}") from error


def _kept(bundle: Bundle) -> str:
    """Save a model that no store took, so that its training was not for nothing, and say where."""
    folder = UNRECORDED / f"{bundle.config.name}-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
    try:
        UNRECORDED.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=UNRECORDED) as scratch:
            unfinished = Path(scratch) / "bundle"
            unfinished.mkdir()
            bundle.save(unfinished)
            unfinished.rename(folder)
    except OSError as error:
        return f"the model is lost, as it cannot be kept in {UNRECORDED}: {error}"
    return f"the model is kept: score by --model {folder}, train again to register it"


@dataclass(frozen=True)
class Opened:
    """A registered model that is ready to score the data of a config.

    Attributes
    ----------
    folder
        Where the bundle lies; what else was registered with it lies beside it.
    """

    folder: Path
    version: str
    bundle: Bundle
    encodings: Encodings
    form: LogForm | JudgedForm


def open_model(config: Config, model: str, say: Say) -> Opened:
    """Fetch a model, read the tables of a config, and bring the model up to date with them."""
    say("fetch the model")
    folder, model_version = fetch_model(tracking_uri(config), model)
    bundle = Bundle.load(folder)
    say("read and check the tables")
    dataset = load_dataset(config, bundle.queries, bundle.items)
    data = config.data
    fresh = Fresh(
        items=data.path(data.items) if data.items and bundle.model.items else None,
        users=data.path(data.users) if data.users and bundle.model.users else None,
    )
    bundle = refreshed(bundle, fresh, dataset.queries.ids.tolist(), dataset.items.ids.tolist())
    encodings = Encodings({}, dict(bundle.model.items), dict(bundle.model.users))
    return Opened(folder, model_version, bundle, encodings, make_form(dataset, encodings, say))


def evaluate_model(config: Config, model: str, split: Held, say: Say) -> Evaluation:
    """Score a held-out split of the config's data with a registered model."""
    opened = open_model(config, model, say)
    bundle, form = opened.bundle, opened.form
    say(f"score {split}")
    scored = score_lists(bundle.stack, form.held_out(split, bundle.model))
    scores = bundle.stack.meta.score(scored.frame)
    k = config.ensemble.k
    values = scored.all_metrics(scores, k)
    intervals = {name: bootstrap_mean(v, config.ensemble.bootstrap_draws) for name, v in values.items()}
    left_out = len(scored.every_query) - intervals[f"ndcg@{k}"].n
    slices = slices_of(form, bundle.model, scored, scores, k, split)
    return Evaluation(model, opened.version, split, intervals, slices, left_out)


def diagnose() -> dict[str, str]:
    """Return what this machine offers."""
    from rankers.device import resolve_device

    facts = {"python": platform.python_version(), "cores": str(os.cpu_count())}
    facts |= {name: version(name) for name in ("modalrank", "mlflow", "optuna", *LIBRARIES)}
    for library in ("lightgbm", "xgboost", "catboost"):
        device = resolve_device("auto", library)
        facts[f"device of {library}"] = f"{device.name}: {device.reason}"
    facts["tracking"] = os.environ.get(URI_VARIABLE) or Config().tracking.uri
    return facts


def training_summary(result: TrainResult, recorded: Record) -> dict[str, Any]:
    """Return what a training run found, in plain values."""
    return {
        "record": asdict(recorded),
        "chosen": result.chosen,
        "metrics": {name: asdict(value) for name, value in result.metrics.items()},
        "leaderboard": [asdict(standing) for standing in result.standings],
        "slices": [asdict(part) for part in result.slices],
        "samplers": [asdict(trial) for trial in result.samplers],
        "ceilings": result.ceilings,
        "bad_media": [bad._asdict() for bad in result.encodings.bad],
        "seconds": result.seconds,
    }


def show_training(result: TrainResult, recorded: Record) -> None:
    """Print the leaderboard, the metrics, and where the run is."""
    k = result.dataset.config.ensemble.k
    rows = [
        [f"{s.name}{' *' if s.chosen else ''}", s.role, _interval(s.valid), _interval(s.test), s.note]
        for s in result.standings
    ]
    show_table(
        f"Leaderboard, NDCG@{k} with 95% intervals (* chosen on validation)",
        ["name", "role", "validation", "test", "gate"],
        rows,
    )
    if result.samplers:
        _show_samplers(result.samplers, k)
    _show_metrics("Test", result.metrics, result.slices)
    left_out = len(result.test.every_query) - result.metrics[f"ndcg@{k}"].n
    out.print(f"{left_out} test queries have no positive and are left out.")
    if result.ceilings:
        shares = ", ".join(f"{name} {share:.3f}" for name, share in result.ceilings.items())
        out.print(f"Recall ceiling of the candidates on validation: {shares}")
    if result.encodings.bad:
        listed = "all are in the run's bad_media.csv"
        out.print(f"{len(result.encodings.bad)} files cannot be read and count as missing; {listed}.")
    out.print(f"Chosen: {result.chosen}, reading {', '.join(result.stack.meta.bases_used())}")
    out.print(f"Run {recorded.run_id} in {recorded.uri}, model {recorded.model} version {recorded.version}")
    given = "--users" if result.model.retrievers else "--candidates"
    arguments = f"--model models:/{recorded.model}@challenger {given} FILE --out DIR"
    out.print(f"Next: {command('modalrank')} score {arguments}", markup=False, soft_wrap=True)


def _show_samplers(samplers: Sequence[SamplerTrial], k: int) -> None:
    rows = []
    for trial in samplers:
        worst = trial.worst
        slice_words = "" if worst is None else f"{worst.mean:.4f} {worst.name}, n={worst.n}"
        name = f"{trial.named}{' *' if trial.chosen else ''}"
        rows.append([name, _interval(trial.ndcg), _interval(trial.gain), slice_words])
    show_table(
        f"Samplers of {samplers[0].rung}, NDCG@{k} on validation (* chosen)",
        ["sampler", "mean", "gain over the ladder before", "worst slice"],
        rows,
    )


def show_evaluation(evaluation: Evaluation) -> None:
    """Print metrics and slices."""
    _show_metrics(f"{evaluation.model} on {evaluation.split}", evaluation.metrics, evaluation.slices)
    out.print(f"{evaluation.left_out} queries have no positive and are left out.")


def _show_metrics(title: str, metrics: dict[str, Interval], slices: list[Slice]) -> None:
    rows = [["all queries", name, _interval(value), str(value.n)] for name, value in metrics.items()]
    rows += [[f"{s.kind}: {s.name}", s.metric, _interval(s.value), str(s.value.n)] for s in slices]
    show_table(title, ["slice", "metric", "mean [95%]", "n"], rows)


def _interval(value: Interval | None) -> str:
    if value is None:
        return ""
    return f"{value.mean:.4f} [{value.low:.4f}, {value.high:.4f}]"
