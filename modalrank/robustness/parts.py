"""Slices of held-out positives, those that are no candidates included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ensembles.score_frame import ACTIVITY, ScoreFrame
from ensembles.slices import NEVER_MET, RankedPositives, positive_slices
from features.builder import FeatureModel
from features.frame import BoolArray, IntArray
from features.retrievers import BEHAVIOUR
from modalrank.evaluation import Scored, Values
from modalrank.judged_form import JudgedForm
from modalrank.lists import Held
from modalrank.log_form import LogForm

# New items as if there were no others: what a ranker that never puts one in front makes of them shows here.
AMONG_THEMSELVES = f"{NEVER_MET}, among themselves"


@dataclass(frozen=True)
class Part:
    """The positives of one slice.

    Attributes
    ----------
    rows
        (n_rows,) bool: the candidates that are among them.
    total
        (n_queries + m,) how many each query has, candidates or not, in the order of `Scored.every_query`.
    among
        (n_rows,) bool: the candidates that they are ranked among; None for all.
    """

    rows: BoolArray
    total: IntArray
    among: BoolArray | None = None


def parts_of(
    form: LogForm | JudgedForm, model: FeatureModel, truth: Scored, split: Held
) -> Mapping[str, Part]:
    """Return the slices of `ensembles.slices.positive_slices` by name, of all positives of the queries.

    Items never met are there twice: among all candidates, and among themselves.

    Availability and novelty are those of the model, so that a slice holds the same positives whatever is
    removed afterwards.
    """
    frame = truth.frame
    n_queries = len(truth.every_query)
    owner = np.repeat(np.arange(frame.n_queries), frame.group_sizes)
    if isinstance(form, JudgedForm):
        return {
            name: Part(rows, np.bincount(owner[rows], minlength=n_queries))
            for name, rows in positive_slices(frame).items()
        }
    queries, items = _missed(form, truth, split)
    places = np.concatenate([owner, _places(truth, queries)])
    order = np.argsort(places, kind="stable")
    complete = _complete(frame, model, queries, items, places[order], order, n_queries)
    found = {}
    for name, rows in positive_slices(complete).items():
        unsorted = np.empty_like(rows)
        unsorted[order] = rows
        found[name] = Part(unsorted[: len(owner)], np.bincount(places[unsorted], minlength=n_queries))
    if NEVER_MET in found:
        never_met = ~frame.present[:, frame.modalities.index(BEHAVIOUR)]
        found[AMONG_THEMSELVES] = replace(found[NEVER_MET], among=never_met)
    return found


def parts_ndcg(frame: ScoreFrame, scores: Values, parts: Iterable[Part], k: int) -> list[Values]:
    """Return (n_queries + m,) NDCG@k of the positives of each slice under (n_rows,) scores.

    The other positives count as no candidates. A positive that is no candidate is not found; a query without
    any has NaN. Where positives are missed the labels are 0 and 1, as those of logs are.
    """
    everybody = RankedPositives.of(frame, scores)
    return [
        _ndcg_of(everybody if p.among is None else RankedPositives.of(frame, scores, p.among), p, k)
        for p in parts
    ]


def _ndcg_of(ranked: RankedPositives, part: Part, k: int) -> Values:
    found = np.bincount(ranked.owner[part.rows[ranked.rows]], minlength=len(part.total))
    values = np.pad(ranked.ndcg(part.rows, k), (0, len(part.total) - ranked.frame.n_queries))
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])
    share = ideal[np.minimum(found, k)] / np.where(part.total > 0, ideal[np.minimum(part.total, k)], np.nan)
    of_all: Values = np.where(part.total > 0, np.nan_to_num(values) * share, np.nan)
    return of_all


def _missed(form: LogForm, truth: Scored, split: Held) -> tuple[IntArray, IntArray]:
    """Return the positives of the queries that are no candidates, as pairs."""
    positives = form.positives(split)
    asked = np.isin(positives.queries, truth.every_query)
    queries, items = positives.queries[asked], positives.items[asked]
    n_items = form.train.n_items
    known = np.repeat(truth.queries, truth.frame.group_sizes) * n_items + truth.items
    missed = ~np.isin(queries * n_items + items, known)
    return queries[missed], items[missed]


def _places(truth: Scored, queries: IntArray) -> IntArray:
    """Return the places of queries in `every_query`."""
    order = np.argsort(truth.every_query)
    places: IntArray = order[np.searchsorted(truth.every_query[order], queries)]
    return places


def _complete(
    frame: ScoreFrame,
    model: FeatureModel,
    queries: IntArray,
    items: IntArray,
    places: IntArray,
    order: IntArray,
    n_queries: int,
) -> ScoreFrame:
    """Return the frame with the missed positives as rows."""
    context = np.zeros((len(queries), len(frame.context_names)), dtype=np.float32)
    if ACTIVITY in frame.context_names:
        context[:, frame.context_names.index(ACTIVITY)] = np.log1p(model.history.activity[queries])
    present = np.concatenate([frame.present, model.presence(queries, items)])
    borders = np.searchsorted(places, np.arange(n_queries + 1))
    return replace(
        frame,
        scores=np.zeros((len(order), 0)),
        bases=(),
        labels=np.concatenate([frame.labels, np.ones(len(queries), np.float32)])[order],
        offsets=borders.astype(np.int64),
        present=present[order],
        context=np.concatenate([frame.context, context])[order],
        query_weights=None,
        users=None,
    )
