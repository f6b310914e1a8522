"""The job behind `modalrank tune`: one learned base, judged out of fold on the training queries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ensembles.oof import Base, out_of_fold
from features.errors import ConfigError
from modalrank.bases import learned_bases, ranker_maker
from modalrank.config import Config
from modalrank.console import out
from modalrank.dataset import load_dataset
from modalrank.encoding import fit_encoders
from modalrank.forms import make_form
from rankers.metrics import mean_of, ndcg
from tuning.spaces import SPACES
from tuning.study import Tuned, run_study


def tune_base(config: Config, base: str, trials: int, journal: Path, say: Callable[[str], None]) -> Tuned:
    """Search the settings of a learned base by its out-of-fold NDCG@k; validation and test stay untouched.

    Raises
    ------
    ConfigError
        If the config has no learned base of this name.
    """
    say("read and check the tables")
    dataset = load_dataset(config)
    form = make_form(dataset, fit_encoders(dataset, say), say)
    training = form.training()
    specs = {spec.name: spec for spec in learned_bases(config, training.frame)}
    if base not in specs:
        raise ConfigError(f"no learned base {base!r}", fix=f"name one of {', '.join(specs)}")
    spec = specs[base]

    def objective(params: dict[str, float]) -> float:
        tried = spec.model_copy(update={"params": {**spec.params, **params}})
        maker, modality = ranker_maker(config, tried, training.frame)
        frame = training.frame
        scores = out_of_fold(
            [Base(base, maker, modality)], frame, training.folds, scheme=training.scheme, seed=config.seed
        )[:, 0]
        values = ndcg(np.nan_to_num(scores, nan=-np.inf), frame.labels, frame.offsets, config.ensemble.k)
        return mean_of(values).mean

    return run_study(
        f"{config.name}.{base}",
        SPACES[spec.family],
        objective,
        n_trials=trials,
        journal=journal,
        seed=config.seed,
        say=say,
    )


def show_tuning(base: str, tuned: Tuned) -> None:
    """Print what was gained, and the section to put into the config."""
    found = f"{tuned.value:.4f} after {tuned.n_trials} trials, untuned {tuned.default_value:.4f}"
    out.print(f"{base}: out-of-fold NDCG {found}")
    if tuned.value <= tuned.default_value:
        out.print("Nothing better than the untuned setting was found.")
        return
    params: dict[str, Any] = {"bases": [{"name": base, "params": tuned.params}]}
    out.print("Put these params into the config's section of this base:")
    out.print(yaml.safe_dump(params, sort_keys=False), markup=False, end="")
