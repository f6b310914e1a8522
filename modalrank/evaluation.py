"""What scores are worth: metrics with intervals, slices and the leaderboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ensembles.gate import Interval, Step, bootstrap_mean
from ensembles.score_frame import ScoreFrame, concatenate
from features.builder import FeatureModel
from features.candidates import Candidates
from features.frame import BoolArray, IntArray
from rankers import metrics

Values = NDArray[np.float64]

FEWEST_OF_PATTERN = 20


@dataclass(frozen=True)
class Scored:
    """Base scores of a held-out split, with the ids and the truth.

    Attributes
    ----------
    frame
        What the bases say.
    queries, items
        (n_queries,) and (n_rows,) codes.
    total_relevant
        (n_queries,) positives, retrieved or not; None where every relevant item is a row.
    unreached
        (m,) codes of queries that have a positive and for which no source found a candidate: every
        metric of theirs is 0.
    """

    frame: ScoreFrame
    queries: IntArray
    items: IntArray
    total_relevant: IntArray | None
    unreached: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def every_query(self) -> IntArray:
        """(n_queries + m,) codes, in the order of the values of a metric."""
        return np.concatenate([self.queries, self.unreached])

    def ndcg(self, scores: Values, k: int) -> Values:
        """Return (n_queries + m,) NDCG@k of the (n_rows,) scores."""
        return self._metric(metrics.ndcg, scores, k)

    def recall(self, scores: Values, k: int) -> Values:
        """Return (n_queries + m,) recall@k of the (n_rows,) scores."""
        return self._metric(metrics.recall, scores, k)

    def all_metrics(self, scores: Values, k: int) -> dict[str, Values]:
        """Return every metric by its name, one value a query."""
        named = {
            f"ndcg@{k}": metrics.ndcg,
            f"recall@{k}": metrics.recall,
            f"precision@{k}": metrics.precision,
            f"hit_rate@{k}": metrics.hit_rate,
            "map": metrics.average_precision,
            "mrr": metrics.reciprocal_rank,
        }
        cut = {name: None if name in ("map", "mrr") else k for name in named}
        return {name: self._metric(metric, scores, cut[name]) for name, metric in named.items()}

    def _metric(self, metric: metrics.Metric, scores: Values, k: int | None) -> Values:
        frame = self.frame
        values = metric(scores, frame.labels, frame.offsets, k, total_relevant=self.total_relevant)
        return np.concatenate([values, np.zeros(len(self.unreached))])


def joined(parts: Sequence[Scored]) -> Scored:
    """Put what was scored of different queries behind each other."""
    totals = [part.total_relevant for part in parts if part.total_relevant is not None]
    return Scored(
        concatenate([part.frame for part in parts]),
        np.concatenate([part.queries for part in parts]),
        np.concatenate([part.items for part in parts]),
        np.concatenate(totals) if totals else None,
        np.concatenate([part.unreached for part in parts]),
    )


@dataclass(frozen=True)
class Slice:
    """A metric on a part of the positives or queries."""

    kind: str
    name: str
    metric: str
    value: Interval


@dataclass(frozen=True)
class Standing:
    """A row of the leaderboard: a base or a meta-learner, on validation and on test."""

    name: str
    role: str
    valid: Interval
    test: Interval | None
    chosen: bool = False
    note: str = ""


def leaderboard(
    valid: Mapping[str, Values],
    test: Mapping[str, Values],
    roles: Mapping[str, str],
    chosen: str,
    steps: Iterable[Step],
    n_draws: int,
) -> list[Standing]:
    """Return all bases and meta-learners, best on validation first; the gate's words are in the notes."""
    notes = {step.name: _gate_note(step) for step in steps}
    rows = [
        Standing(
            name,
            roles[name],
            bootstrap_mean(values, n_draws),
            bootstrap_mean(test[name], n_draws) if name in test else None,
            name == chosen,
            notes.get(name, ""),
        )
        for name, values in valid.items()
    ]
    return sorted(rows, key=lambda row: -row.valid.mean)


def coldness_slices(
    scored: Scored, scores: Values, model: FeatureModel, positives: Candidates, k: int
) -> list[Slice]:
    """Recall@k of the held-out positives on items never, rarely (1-3) and often met before the cut."""
    found = _found(scored, scores, positives, k)
    degree = model.history.met_by[positives.items]
    parts = {"cold (0)": degree == 0, "rare (1-3)": (degree > 0) & (degree < 4), "warm (4+)": degree >= 4}
    return [_positive_slice("item", name, found, part, k) for name, part in parts.items() if part.any()]


def pattern_slices(
    scored: Scored, scores: Values, model: FeatureModel, positives: Candidates, k: int
) -> list[Slice]:
    """Recall@k of the held-out positives by the set of modalities that they have."""
    found = _found(scored, scores, positives, k)
    present = model.presence(positives.queries, positives.items)
    names = _rare_joined(pattern_names(model.modalities, present))
    return [_positive_slice("pattern", str(name), found, names == name, k) for name in np.unique(names)]


def activity_slices(scored: Scored, values: Values, model: FeatureModel, k: int) -> list[Slice]:
    """NDCG@k of queries by how much of the user is known."""
    activity = model.history.activity[scored.every_query]
    borders = [(0, 0), (1, 2), (3, 10), (11, 50), (51, np.inf)]
    slices = []
    for low, high in borders:
        part = (activity >= low) & (activity <= high)
        if part.any():
            name = f"{low}" if low == high else f"{low}-{high}" if np.isfinite(high) else f"{low}+"
            slices.append(Slice("activity", name, f"ndcg@{k}", bootstrap_mean(values[part])))
    return slices


def query_pattern_slices(scored: Scored, values: Values, k: int) -> list[Slice]:
    """NDCG@k of judged queries by the modalities of their best candidate."""
    frame = scored.frame
    order = np.lexsort((-frame.labels, np.repeat(np.arange(frame.n_queries), frame.group_sizes)))
    names = _rare_joined(pattern_names(frame.modalities, frame.present[order[frame.offsets[:-1]]]))
    metric = f"ndcg@{k}"
    return [
        Slice("pattern", str(name), metric, bootstrap_mean(values[names == name]))
        for name in np.unique(names)
    ]


def pattern_names(modalities: tuple[str, ...], present: BoolArray) -> NDArray[np.str_]:
    """(n_rows,) names of availability patterns, such as `behaviour+image`, or `none`."""
    return pattern_series(modalities, present).to_numpy().astype(np.str_)


def pattern_series(modalities: tuple[str, ...], present: BoolArray) -> pl.Series:
    """Return `pattern_names` as a String series, which long tables are made of quickly."""
    bits = np.zeros(len(present), dtype=np.int64)
    for column in range(len(modalities)):
        bits |= present[:, column].astype(np.int64) << column
    patterns, code = np.unique(bits, return_inverse=True)
    names = [
        "+".join(name for column, name in enumerate(modalities) if pattern >> column & 1) or "none"
        for pattern in patterns.tolist()
    ]
    return pl.Series(names, dtype=pl.String).gather(code)


def _rare_joined(names: NDArray[np.str_]) -> NDArray[np.str_]:
    """Call the patterns with fewer than FEWEST_OF_PATTERN members `other patterns`: they show only noise."""
    kinds, code, count = np.unique(names, return_inverse=True, return_counts=True)
    return np.where(count < FEWEST_OF_PATTERN, "other patterns", kinds)[code]


def _found(scored: Scored, scores: Values, positives: Candidates, k: int) -> BoolArray:
    """(n_positives,) bool: the positive is among the first k of its query."""
    frame = scored.frame
    order = metrics.rank_order(scores, frame.offsets)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.repeat(frame.offsets[:-1], frame.group_sizes)
    hit = (place < k) & (frame.labels > 0)
    n_items = int(max(scored.items.max(initial=0), positives.items.max(initial=0))) + 1
    keys = np.repeat(scored.queries, frame.group_sizes)[hit] * n_items + scored.items[hit]
    return np.isin(positives.queries * n_items + positives.items, keys)


def _positive_slice(kind: str, name: str, found: BoolArray, part: BoolArray, k: int) -> Slice:
    return Slice(kind, name, f"recall@{k} of positives", bootstrap_mean(found[part].astype(np.float64)))


def _gate_note(step: Step) -> str:
    gain = step.difference
    word = "accepted" if step.accepted else "refused"
    return f"{word}: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] against {step.against}"
