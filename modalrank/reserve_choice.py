"""Which new items get a place: those that show the most liked ones at a bounded cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ensembles import MedianScore, MetaLearner, Reserve
from ensembles.meta import teaching_queries
from ensembles.reserve import SCORE, Places, evidence_of, merit_of, new_rows
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
    """What new items need for a place, and the (n_rows,) scores of the judging queries with the places."""

    weights: Mapping[str, float]
    least: float
    scores: Values


@dataclass(frozen=True)
class Newcomers:
    """The new items of the judging lists and their merits, which are the same whatever orders the lists.

    Attributes
    ----------
    judge, k, slots
        The judging lists, and the most places that are kept, of the first k.
    meta
        Scores new items.
    is_new
        (n_rows,) bool: nobody has met the item.
    merits
        Ways to weigh the evidence, each with the (n_rows,) merits by it.
    """

    judge: Scored
    k: int
    slots: int
    meta: MedianScore
    is_new: BoolArray
    merits: tuple[tuple[Mapping[str, float], Values], ...]

    @classmethod
    def among(cls, judge: Scored, config: Config) -> Newcomers | None:
        """Learn to score the new items; None where no place may be kept or nobody likes one of them."""
        frame, k = judge.frame, config.ensemble.k
        slots = min(config.ensemble.reserve, k - 1)
        if slots < 1 or BEHAVIOUR not in frame.modalities:
            return None
        is_new = new_rows(frame, BEHAVIOUR, frame.content)
        among_new = frame.take_rows(is_new)
        if not len(teaching_queries(among_new)):
            return None
        meta = MedianScore(k, seed=config.seed).fit(among_new)
        evidence = evidence_of(frame, meta, is_new)
        ways = {SCORE: 1.0}, _log_odds(evidence, frame.labels > 0)
        return cls(judge, k, slots, meta, is_new, tuple((way, merit_of(evidence, way)) for way in ways))

    def places(self, scores: Values) -> Choice | None:
        """Return the places that show the most liked new items at a cost of at most MOST_COST.

        Parameters
        ----------
        scores
            (n_rows,) what orders the judging lists.

        Returns
        -------
        Choice or None
            None where no places show a liked new item more than the lists without them.
        """
        judge, k = self.judge, self.k
        ndcg, recall = judge.ndcg(scores, k), judge.recall(scores, k)
        most, best_ndcg, best = self._found(scores) + 1, 0.0, None
        for weights, merit in self.merits:
            # From many places to few, which show fewer of them.
            for least in reversed(_thresholds(merit, len(judge.every_query))):
                placed = Places.ordered(judge.frame, scores, merit, least).with_reserve(self.slots, k)
                found = self._found(placed)
                if found < most:
                    break
                after = judge.ndcg(placed, k)
                mean = float(np.nanmean(after))
                better = found > most or best is None or mean > best_ndcg
                if better and _affordable(after, ndcg) and _affordable(judge.recall(placed, k), recall):
                    most, best_ndcg, best = found, mean, Choice(weights, least, placed)
        return best

    def reserve(self, inner: MetaLearner, choice: Choice) -> Reserve:
        """Return the meta-learner that keeps the chosen places in the lists of another one."""
        return Reserve(
            inner,
            self.meta,
            BEHAVIOUR,
            self.slots,
            self.k,
            told_by=self.judge.frame.content,
            weights=choice.weights,
            least=choice.least,
        )

    def _found(self, scores: Values) -> int:
        """Return how many liked new items are among the first k of their lists."""
        liked = (self.judge.frame.labels > 0) & self.is_new
        return int((liked & _among_first(scores, self.judge, self.k)).sum())


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
