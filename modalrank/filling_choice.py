"""Whether, and how, missing vectors of items are guessed: by the gate, on queries that teach nothing."""

from __future__ import annotations

import numpy as np

from ensembles.gate import climb
from ensembles.oof import Base, fit_base
from features.filling import Method
from features.frame import IntArray
from modalrank.evaluation import Values
from modalrank.judged_form import JudgedForm
from modalrank.lists import Lists
from modalrank.log_form import LogForm
from rankers.metrics import ndcg
from rankers.registry import make_ranker
from tuning.grids import Trial


def with_filling(form: LogForm | JudgedForm) -> LogForm | JudgedForm:
    """Return the form with the filling that the gate chooses, and its trials.

    Each filling of the config is judged by a LightGBM ranker on all features. None is the answer unless the
    lower bound of the paired gain in NDCG@k of another one is above 0.
    """
    config = form.config
    if len(config.fillings) == 1:
        return form
    k, draws = config.ensemble.k, config.ensemble.bootstrap_draws
    forms: dict[Method, LogForm | JudgedForm] = {}
    values: list[tuple[str, Values]] = []
    for method in config.fillings:
        form.progress(f"filling {method}")
        forms[method] = form.like(config.model_copy(update={"filling": method}))
        values.append((method, _judged(forms[method])))
    name, _ = climb(values, n_draws=draws, seed=config.seed)
    (chosen,) = [method for method in forms if method == name]
    form.progress(f"filling: {chosen} of NDCG@{k} " + ", ".join(f"{m} {v.mean():.4f}" for m, v in values))
    trials = [Trial("filling", {"method": method}, float(each.mean())) for method, each in values]
    # What probing drew must not change what is drawn later.
    found = form.like(config.model_copy(update={"filling": chosen}))
    found.trials = [*form.trials, *trials]
    return found


def _judged(form: LogForm | JudgedForm) -> Values:
    """Return the NDCG@k of every judging user that has a positive, 0 where no source found a candidate."""
    config = form.config
    frame, judge = form.rehearsal()
    base = Base("probe", lambda: make_ranker("lightgbm", seed=config.seed, threads=config.threads))
    ranker = fit_base(base, frame, config.seed)
    values = np.zeros(len(judge.queries))
    for part in judge.frames():
        here = part.queries[part.offsets[:-1]]
        totals = _totals(judge, here)
        each = ndcg(ranker.score(part), part.labels, part.offsets, config.ensemble.k, config.seed, totals)
        values[np.searchsorted(judge.queries, here)] = np.nan_to_num(each)
    return values


def _totals(lists: Lists, queries: IntArray) -> IntArray | None:
    if lists.total_relevant is None:
        return None
    totals: IntArray = lists.total_relevant[np.searchsorted(lists.queries, queries)]
    return totals
