"""How many places new items get, and for whom: what shows the most of them at a bounded cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ensembles import MetaLearner, Reserve, make_meta
from ensembles.meta import teaching_queries
from ensembles.reserve import Places, activity_of, known_to, new_rows
from ensembles.score_frame import ACTIVITY
from features.frame import BoolArray
from features.retrievers import BEHAVIOUR
from modalrank.config import Config
from modalrank.evaluation import Scored, Values
from rankers.metrics import rank_order

# Bases that say which new items come first: few positives are new, and one base would be best by luck.
VOTES = 5
# Places are kept for these shares of the users, the most active ones.
SHARES = (1.0, 0.5, 0.2, 0.1, 0.05)
# Share of NDCG@k and of recall@k that places for new items may cost, and how sure of that one has to be:
# standard errors between the mean and its lower bound of 95%, one-sided.
MOST_COST = 0.02
ERRORS = 1.645


@dataclass(frozen=True)
class Choice:
    """A reserve and the (n_rows,) scores of the judging queries under it."""

    meta: Reserve
    scores: Values


@dataclass(frozen=True)
class _Lists:
    """The judging lists with a number of places kept for everybody: (n_queries + unreached,) values each."""

    scores: Values
    ndcg: Values
    recall: Values
    found: Values


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
    if not config.ensemble.reserve or BEHAVIOUR not in frame.modalities:
        return None
    told_by = frame.content
    is_new = new_rows(frame, BEHAVIOUR, told_by)
    among_new = frame.take_rows(is_new)
    if not len(teaching_queries(among_new)):
        return None
    newcomers = make_meta("rank_fusion", k=k, seed=config.seed, params={"best": VOTES}).fit(among_new)
    is_new &= known_to(newcomers, frame)
    places = Places.ordered(frame, is_new, scores, newcomers.score(frame.take_rows(is_new)))

    def lists(slots: int) -> _Lists:
        after = places.with_reserve(np.full(frame.n_queries, slots), k) if slots else scores
        hits = (frame.labels > 0) & is_new & _among_first(after, judge, k)
        owner = np.repeat(np.arange(frame.n_queries), frame.group_sizes)
        found = np.bincount(owner, hits, minlength=len(judge.every_query)).astype(np.float64)
        return _Lists(after, judge.ndcg(after, k), judge.recall(after, k), found)

    before = lists(0)
    activity = ACTIVITY if ACTIVITY in frame.context_names else None
    best: tuple[tuple[float, float], Choice] | None = None
    for slots in range(1, min(config.ensemble.reserve, k - 1) + 1):
        kept = lists(slots)
        for active_from, active in _shares(activity_of(frame, activity), len(judge.unreached)):
            value = _value(before, kept, active)
            if value is not None and (best is None or value > best[0]):
                meta = Reserve(
                    inner,
                    newcomers,
                    BEHAVIOUR,
                    slots,
                    k,
                    told_by=told_by,
                    activity=activity,
                    active_from=active_from,
                )
                rows = np.repeat(active[: frame.n_queries], frame.group_sizes)
                # Where no place is kept the order is that of the inner meta-learner.
                untouched = places.with_reserve(np.zeros(frame.n_queries, dtype=np.int64), k)
                best = value, Choice(meta, np.where(rows, kept.scores, untouched))
    return best[1] if best is not None else None


def _shares(activity: Values, n_unreached: int) -> Iterator[tuple[float, BoolArray]]:
    """Yield the least activity and the (n_queries + n_unreached,) users who have it, for every share."""
    for share in SHARES:
        least = float(np.quantile(activity, 1.0 - share, method="higher")) if share < 1.0 else 0.0
        yield least, np.concatenate([activity >= least, np.zeros(n_unreached, dtype=bool)])


def _value(before: _Lists, kept: _Lists, active: BoolArray) -> tuple[float, float] | None:
    """Return the liked new items shown and the NDCG, or None where it costs too much or finds no more."""
    ndcg, recall = (
        np.where(active, after, without)
        for after, without in ((kept.ndcg, before.ndcg), (kept.recall, before.recall))
    )
    found = float(np.where(active, kept.found, before.found).sum())
    affordable = _affordable(ndcg, before.ndcg) and _affordable(recall, before.recall)
    return (found, float(np.nanmean(ndcg))) if affordable and found > before.found.sum() else None


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
