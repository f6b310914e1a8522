"""Which new items get a place: those that show the most liked ones at a bounded cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ensembles import MedianScore, MetaLearner, Reserve
from ensembles.meta import teaching_queries
from ensembles.reserve import SCORE, Places, new_rows
from features.frame import BoolArray
from features.retrievers import BEHAVIOUR
from modalrank.config import Config
from modalrank.evaluation import Scored, Values
from rankers.metrics import rank_order

# New items that are good enough for a place, for each query on average.
RATES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
# Share of NDCG@k and of recall@k that places for new items may cost, and how sure of that one has to be:
# standard errors between the mean and its lower bound of 95%, one-sided.
MOST_COST = 0.01
ERRORS = 1.645


@dataclass(frozen=True)
class Choice:
    """A reserve and the (n_rows,) scores of the judging queries under it."""

    meta: Reserve
    scores: Values


@dataclass(frozen=True)
class _Lists:
    """The judging lists: (n_rows,) scores, (n_queries + unreached,) metrics, and liked new items shown."""

    scores: Values
    ndcg: Values
    recall: Values
    found: int


def choose_reserve(config: Config, inner: MetaLearner, scores: Values, judge: Scored) -> Choice | None:
    """Return the reserve that shows the most liked new items at a cost of at most MOST_COST, if one does.

    Parameters
    ----------
    inner
        The meta-learner that the gate chose.
    scores
        Its (n_rows,) scores of the judging queries.

    Returns
    -------
    Choice or None
        None where no reserve finds a liked new item more than the lists without one.
    """
    frame, k = judge.frame, config.ensemble.k
    slots = min(config.ensemble.reserve, k - 1)
    if slots < 1 or BEHAVIOUR not in frame.modalities:
        return None
    told_by = frame.content
    is_new = new_rows(frame, BEHAVIOUR, told_by)
    among_new = frame.take_rows(is_new)
    if not len(teaching_queries(among_new)):
        return None
    newcomers = MedianScore(k, seed=config.seed).fit(among_new)
    reserve = partial(Reserve, inner, newcomers, BEHAVIOUR, slots, k, told_by=told_by)

    def lists(after: Values) -> _Lists:
        hits = (frame.labels > 0) & is_new & _among_first(after, judge, k)
        return _Lists(after, judge.ndcg(after, k), judge.recall(after, k), int(hits.sum()))

    before = lists(scores)
    best: tuple[tuple[int, float], Choice] | None = None
    for weights in ({SCORE: 1.0}, _log_odds(reserve().evidence(frame), frame.labels > 0)):
        merit = reserve(weights=weights).merit(frame)
        for least in _thresholds(merit, len(judge.every_query)):
            kept = lists(Places.ordered(frame, scores, merit, least).with_reserve(slots, k))
            if not (_affordable(kept.ndcg, before.ndcg) and _affordable(kept.recall, before.recall)):
                continue
            value = kept.found, float(np.nanmean(kept.ndcg))
            if kept.found > before.found and (best is None or value > best[0]):
                best = value, Choice(reserve(weights=weights, least=least), kept.scores)
    return best[1] if best is not None else None


def _log_odds(evidence: Mapping[str, Values], liked: BoolArray) -> dict[str, float]:
    """Return the weights by which the evidence tells the log-odds that a new item is liked.

    By logistic regression on standardised evidence: the context tells who likes new items at all.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    known = ~np.isnan(evidence[SCORE])
    if liked[known].all() or not liked[known].any():
        return {SCORE: 1.0}
    design = np.column_stack([values[known] for values in evidence.values()])
    scaler = StandardScaler().fit(design)
    solved = LogisticRegression().fit(scaler.transform(design), liked[known])
    return dict(zip(evidence, (solved.coef_[0] / scaler.scale_).tolist(), strict=True))


def _thresholds(merit: Values, n_queries: int) -> list[float]:
    """Return the merit that RATES of the new items have, from few of them to many."""
    known = -np.sort(-merit[~np.isnan(merit)])
    counts = {min(max(round(rate * n_queries), 1), len(known)) for rate in RATES} if len(known) else set()
    return [float(known[count - 1]) for count in sorted(counts)]


def _affordable(after: Values, before: Values) -> bool:
    """Tell whether (n,) values surely cost at most MOST_COST of what was there before."""
    beyond = after - (1.0 - MOST_COST) * before
    counted = beyond[~np.isnan(beyond)]
    return bool(counted.mean() >= ERRORS * counted.std() / np.sqrt(len(counted)))


def _among_first(scores: Values, judge: Scored, k: int) -> BoolArray:
    """(n_rows,) bool: the row is among the first k of its query."""
    offsets = judge.frame.offsets
    order = rank_order(scores, offsets)
    first = np.zeros(len(order), dtype=bool)
    first[order] = np.arange(len(order)) - np.repeat(offsets[:-1], judge.frame.group_sizes) < k
    return first
