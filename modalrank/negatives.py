"""Which candidates that are no positives the rankers learn from: drawn at random, or the best ranked."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensembles.oof import Base, fit_base
from features.candidates import Candidates
from features.frame import BoolArray, FloatArray, IntArray, RankingFrame
from features.per_query import average_ranks
from modalrank.config import Config
from modalrank.label_config import LabelConfig
from modalrank.lists import Lists
from rankers.metrics import mean_of, ndcg
from rankers.registry import make_ranker
from tuning.grids import Trial

# Training queries of a probe, and the queries that judge it.
PROBE_QUERIES = 2000
JUDGES = 1000


@dataclass(frozen=True)
class Negatives:
    """How many negatives of a training query are kept.

    Attributes
    ----------
    number
        Negatives of each query with a positive, as far as there are so many.
    hard_share
        Share of them that is taken from the best ranked, the others are drawn at random of the rest.
    """

    number: int
    hard_share: float = 0.0

    def keep(
        self, offsets: IntArray, labels: FloatArray, hardness: FloatArray, rng: np.random.Generator
    ) -> BoolArray:
        """Tell the rows to learn from: positives and the negatives of queries that have one.

        Parameters
        ----------
        offsets
            (n_queries + 1,) row borders.
        labels, hardness
            (n_rows,) relevance, and how well a row is ranked; equal ones are drawn.
        """
        lot = rng.random(len(labels))
        n_hard = round(self.hard_share * self.number)
        is_negative = labels <= 0
        hard = is_negative & (_places(offsets, np.where(is_negative, -hardness, np.inf), lot) < n_hard)
        # Positives come first, then the hard ones, then the others in the order of their lots.
        first = np.where(is_negative, np.where(hard, 1, 2), 0)
        sizes = np.diff(offsets)
        query = np.repeat(np.arange(len(sizes)), sizes)
        n_positive = np.bincount(query, ~is_negative, minlength=len(sizes)).astype(np.int64)
        most = np.where(n_positive > 0, n_positive + self.number, 0)
        keep: BoolArray = _places(offsets, first, lot) < most[query]
        return keep


def hardness_of(candidates: Candidates) -> FloatArray:
    """(n_rows,) float32 mean over the retrievers of the rank in the list, from 1 (best) to 0 (no opinion)."""
    if not candidates.scores.shape[1]:
        return np.zeros(len(candidates.items), dtype=np.float32)
    ranks = average_ranks(candidates.scores.astype(np.float64), candidates.offsets)
    hardness: FloatArray = np.nan_to_num(ranks).mean(axis=1).astype(np.float32)
    return hardness


def choices(labels: LabelConfig) -> list[Negatives]:
    """Return every combination of the numbers and the shares that a config lists."""
    numbers = labels.negatives if isinstance(labels.negatives, list) else [labels.negatives]
    shares = labels.hard_negatives if isinstance(labels.hard_negatives, list) else [labels.hard_negatives]
    return [Negatives(number, share) for number, share in itertools.product(numbers, shares)]


def pick_negatives(
    given: Sequence[Negatives], frames: Sequence[RankingFrame], judge: Lists, config: Config
) -> tuple[Negatives, list[Trial]]:
    """Return the choice whose LightGBM ranks the full lists of `judge` best, and all trials.

    Parameters
    ----------
    frames
        Training queries thinned by each choice; none of them may be a query of `judge`.
    """

    def probe() -> Base:
        return Base("probe", lambda: make_ranker("lightgbm", seed=config.seed, threads=config.threads))

    probes = [fit_base(probe(), frame, config.seed) for frame in frames]
    values: list[list[np.ndarray]] = [[] for _ in given]
    for frame in judge.frames():
        total = None
        if judge.total_relevant is not None:
            heads = frame.queries[frame.offsets[:-1]]
            total = judge.total_relevant[np.searchsorted(judge.queries, heads)]
        for found, ranker in zip(values, probes, strict=True):
            scores = ranker.score(frame)
            found.append(ndcg(scores, frame.labels, frame.offsets, config.ensemble.k, config.seed, total))
    trials = [
        Trial(
            "negatives",
            {"negatives": choice.number, "hard_negatives": choice.hard_share},
            mean_of(np.concatenate(found)).mean,
        )
        for choice, found in zip(given, values, strict=True)
    ]
    best = max(range(len(trials)), key=lambda number: trials[number].ndcg)
    return given[best], trials


def _places(offsets: IntArray, key: np.ndarray, lot: np.ndarray) -> IntArray:
    """(n_rows,) place of each row within its query by rising key, equal ones by rising lot."""
    sizes = np.diff(offsets)
    order = np.lexsort((lot, key, np.repeat(np.arange(len(sizes)), sizes)))
    places = np.empty(len(key), dtype=np.int64)
    places[order] = np.arange(len(key)) - np.repeat(offsets[:-1], sizes)
    return places
