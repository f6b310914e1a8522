"""The two forms of data as the same thing: labelled frames to train, to choose and to test on.

A log needs candidates and labels made from hidden interactions; judged lists bring both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np

from features.builder import FeatureModel, FeatureSettings
from features.candidates import Candidates, recall_ceilings
from features.errors import DataError
from features.frame import BoolArray, FloatArray, IntArray, RankingFrame, concatenate
from features.history import History
from features.retrievers import content_retriever, fit_behaviour
from features.space import Space, with_graph
from features.splits import forward_cuts, hidden_folds, query_folds
from modalrank.config import Config
from modalrank.dataset import Dataset, row_blocks
from modalrank.encoding import Encodings
from tuning.grids import Trial, pick_setting

Progress = Callable[[str], None]
Held = Literal["valid", "test"]


@dataclass(frozen=True)
class Training:
    """Labelled queries to train on, and the fold in which each is scored out of fold."""

    frame: RankingFrame
    folds: IntArray
    scheme: Literal["cross", "forward"]


class Form(Protocol):
    """What the training run needs of a data set."""

    def training(self) -> Training:
        """Return the training queries."""
        ...

    def held_out(self, split: Held, model: FeatureModel) -> Iterator[RankingFrame]:
        """Yield the labelled queries of a held-out split in batches."""
        ...

    def queries(self, split: Held) -> IntArray:
        """Return the codes of the queries of a held-out split, with candidates or without, ascending."""
        ...

    def teaching(self, frame: RankingFrame) -> RankingFrame:
        """Return what a held-out frame has to teach, thinned like the training queries."""
        ...

    def total_relevant(self, split: Held, queries: IntArray) -> IntArray | None:
        """Return the number of positives of each query, retrieved or not; None where all are rows."""
        ...

    def model_before(self, split: Held) -> FeatureModel:
        """Return the feature model that may be used to score a held-out split."""
        ...


class LogForm:
    """What happened: candidates are generated, labels are interactions hidden from the features."""

    def __init__(self, dataset: Dataset, encodings: Encodings, progress: Progress) -> None:
        self.dataset, self.config, self.progress = dataset, dataset.config, progress
        self.users = encodings.users
        self.train = dataset.history(dataset.in_split("train"))
        self._encoded = encodings.items
        self._require_positives()
        self.trials: list[Trial] = []
        self._lots = np.random.default_rng(self.config.seed)

    @cached_property
    def items(self) -> Space:
        """Item modalities with neighbours among the items of the train split."""
        return _graphed(self._encoded, self.train, self.config)

    @cached_property
    def params(self) -> dict[str, dict[str, float]]:
        """Kind of retriever to the setting that validation picked."""
        return self._pick_retrievers()

    @cached_property
    def _before_valid(self) -> FeatureModel:
        return self.feature_model(self.train, self.items)

    def training(self) -> Training:
        """Return one frame for each label window: hidden folds, or windows of time."""
        frames, folds = [], []
        for number, (history, labels) in enumerate(self._windows()):
            self.progress(f"label window {number + 1}")
            model = self.feature_model(self.train.take(history), self.items)
            truth = self.train.take(labels)
            for candidates in model.generated(_users_with_positive(truth)):
                frame = self.teaching(model.frame(candidates, labels=_labels(truth, candidates)))
                if frame.n_queries:
                    frames.append(frame)
                    folds.append(np.full(frame.n_queries, number))
        if not frames:
            raise DataError(
                "no candidate source found any hidden positive, expected some to learn from",
                fix="raise candidates.per_source or add retrievers",
            )
        scheme: Literal["cross", "forward"] = "cross" if self.config.labels.method == "hide" else "forward"
        return Training(concatenate(frames), np.concatenate(folds), scheme)

    def teaching(self, frame: RankingFrame) -> RankingFrame:
        """Return the queries that have a positive, with some of their negatives, drawn at random."""
        negatives = self.config.labels.negatives
        return frame.take_rows(_sample_negatives(frame.offsets, frame.labels, negatives, self._lots))

    def model_before(self, split: Held) -> FeatureModel:
        """Return the model of the train split, refitted on valid too before the test of the full protocol."""
        if split == "valid" or self.config.protocol == "strict":
            return self._before_valid
        self.progress("refit on train and valid")
        history = self.dataset.history(self.dataset.in_split("train", "valid"))
        return self.feature_model(history, _graphed(self.items, history, self.config))

    def held_out(self, split: Held, model: FeatureModel) -> Iterator[RankingFrame]:
        """Yield generated candidates of every user with a positive in the split."""
        truth = self._truth(split)
        for candidates in self._unmet(model, split).generated(self.queries(split)):
            yield model.frame(candidates, labels=_labels(truth, candidates))

    def queries(self, split: Held) -> IntArray:
        """Return the users with a positive in the split."""
        return _users_with_positive(self._truth(split))

    def total_relevant(self, split: Held, queries: IntArray) -> IntArray:
        """Return the number of held-out positives of each query."""
        liked = self._truth(split).liked[queries]
        return np.asarray(liked.sum(axis=1)).ravel().astype(np.int64)

    def positives(self, split: Held) -> Candidates:
        """Return the held-out positives as pairs sorted by (query, item)."""
        pairs = self._truth(split).liked.tocoo()
        return Candidates(
            pairs.row.astype(np.int64), pairs.col.astype(np.int64), np.zeros((pairs.nnz, 0), np.float32)
        )

    def ceilings(self) -> dict[str, float]:
        """Return the recall ceiling of every candidate source and of their union, on valid."""
        model, settings = self._before_valid, self._before_valid.settings
        return recall_ceilings(
            model.retrievers,
            model.history,
            self._truth("valid"),
            settings.per_source,
            exclude_seen=settings.exclude_seen,
        )

    def feature_model(self, history: History, items: Space) -> FeatureModel:
        """Fit the retrievers on a history."""
        config, seed = self.config, self.config.seed
        retrievers = [fit_behaviour(kind, history, p, seed=seed) for kind, p in self.params.items()]
        content = [content_retriever(n, m) for n, m in items.items() if m.graph is not None]
        return FeatureModel(history, items, self.users, (*retrievers, *content), feature_settings(config))

    def _unmet(self, model: FeatureModel, split: Held) -> FeatureModel:
        """Return the model whose lists leave out what was met before the split, in strict test valid too."""
        if split == "valid" or self.config.protocol == "full" or not model.settings.exclude_seen:
            return model
        met = self.dataset.history(self.dataset.in_split("train", "valid"))
        return replace(model, met=met.seen)

    def _truth(self, split: Held) -> History:
        return self.dataset.history(self.dataset.in_split(split))

    def _windows(self) -> list[tuple[BoolArray, BoolArray]]:
        labels, times = self.config.labels, self.train.times
        if labels.method == "hide":
            folds = hidden_folds(self.train.users, labels.folds, self.config.seed, times)
            return [(folds != fold, folds == fold) for fold in range(labels.folds)]
        if times is None:
            raise DataError(
                "labels.method 'forward' needs times", fix="name data.columns.time, or use 'hide'"
            )
        cuts = [*forward_cuts(times, labels.folds), np.inf]
        return [(times < a, (times >= a) & (times < b)) for a, b in pairwise(cuts)]

    def _pick_retrievers(self) -> dict[str, dict[str, float]]:
        config, truth = self.config, self._truth("valid")
        params: dict[str, dict[str, float]] = {}
        for retriever in config.candidates.retrievers:
            self.progress(f"tune {retriever.kind}")
            params[retriever.kind], trials = pick_setting(
                retriever.kind,
                retriever.params,
                self.train,
                truth,
                k=config.ensemble.k,
                exclude_seen=config.candidates.exclude_seen,
                seed=config.seed,
            )
            self.trials += trials
        return params

    def _require_positives(self) -> None:
        for split in ("train", "valid", "test"):
            if not self.dataset.history(self.dataset.in_split(split)).is_positive.any():
                raise DataError(
                    f"the split {split!r} has no label of at least {self.config.data.positive_from:g}",
                    fix="check data.positive_from and the split",
                )


class JudgedForm:
    """Judged lists: every row is a candidate with a label, and queries are the unit."""

    def __init__(self, dataset: Dataset, encodings: Encodings) -> None:
        self.dataset, self.config = dataset, dataset.config
        nothing = dataset.history(np.zeros(len(dataset.interactions), dtype=bool))
        settings = feature_settings(self.config)
        self._model = FeatureModel(nothing, encodings.items, encodings.users, (), settings)

    def training(self) -> Training:
        """Return the train rows, scored out of fold by groups of queries."""
        frame = self._frame("train", self._model)
        folds = query_folds(frame.n_queries, self.config.labels.folds, self.config.seed)
        return Training(frame, folds, "cross")

    def held_out(self, split: Held, model: FeatureModel) -> Iterator[RankingFrame]:
        """Yield the judged rows of the split."""
        yield self._frame(split, model)

    def queries(self, split: Held) -> IntArray:
        """Return the queries that have rows in the split."""
        return np.unique(self.dataset.query_codes[self.dataset.in_split(split)])

    def teaching(self, frame: RankingFrame) -> RankingFrame:
        """Return the frame as it is."""
        return frame

    def total_relevant(self, split: Held, queries: IntArray) -> None:
        """Return None: every relevant item is a row."""

    def model_before(self, split: Held) -> FeatureModel:
        """Return the feature model, which knows no interaction."""
        return self._model

    def _frame(self, split: str, model: FeatureModel) -> RankingFrame:
        keep = self.dataset.in_split(split)
        codes = self.dataset.query_codes[keep], self.dataset.item_codes[keep]
        order = np.lexsort((codes[1], codes[0]))
        rows = self.dataset.interactions.filter(keep)[order]
        candidates = Candidates(codes[0][order], codes[1][order], np.zeros((len(order), 0), np.float32))
        blocks = row_blocks(self.config.modalities, rows)
        frame = model.frame(candidates, labels=rows["label"].to_numpy().astype(np.float32), row_blocks=blocks)
        if "weight" in rows.columns:
            return replace(frame, query_weights=_query_weights(frame, rows["weight"].to_numpy()))
        return frame


def make_form(dataset: Dataset, encodings: Encodings, progress: Progress) -> LogForm | JudgedForm:
    """Return the form that the config names."""
    if dataset.config.data.form == "log":
        return LogForm(dataset, encodings, progress)
    return JudgedForm(dataset, encodings)


def feature_settings(config: Config) -> FeatureSettings:
    """Return the settings of features and candidates that a config asks for."""
    return FeatureSettings(
        per_source=config.candidates.per_source,
        last_k=config.last_k if config.data.columns.time is not None else 0,
        components=config.components,
        exclude_seen=config.candidates.exclude_seen,
        contrast=config.data.columns.label is not None,
    )


def _graphed(items: Space, history: History, config: Config) -> Space:
    """Give every item modality its neighbour graph over the items that a user can have met."""
    if not config.candidates.content:
        return items
    known, neighbours = history.popularity > 0, config.candidates.content_neighbours
    return {name: with_graph(modality, known, neighbours) for name, modality in items.items()}


def _users_with_positive(history: History) -> IntArray:
    return np.unique(history.users[history.is_positive])


def _labels(truth: History, candidates: Candidates) -> FloatArray:
    """(n_rows,) float32: 1 where the candidate is a positive of the truth."""
    positive = truth.is_positive
    keys = truth.users[positive] * truth.n_items + truth.items[positive]
    return np.isin(candidates.queries * truth.n_items + candidates.items, keys).astype(np.float32)


def _sample_negatives(
    offsets: IntArray, labels: FloatArray, negatives: int, rng: np.random.Generator
) -> BoolArray:
    """Keep the positives of every query that has one and up to `negatives` others, drawn at random."""
    sizes = np.diff(offsets)
    query = np.repeat(np.arange(len(sizes)), sizes)
    has_positive = np.bincount(query, labels, minlength=len(sizes)) > 0
    lot = np.where(labels > 0, -1.0, rng.random(len(labels)))
    order = np.lexsort((lot, query))
    place = np.empty(len(labels), dtype=np.int64)
    n_positive = np.bincount(query, labels > 0, minlength=len(sizes)).astype(np.int64)
    place[order] = np.arange(len(labels)) - np.repeat(offsets[:-1], sizes)
    keep: BoolArray = has_positive[query] & (place < (n_positive + negatives)[query])
    return keep


def _query_weights(frame: RankingFrame, weights: FloatArray) -> FloatArray:
    sums = np.add.reduceat(weights, frame.offsets[:-1])
    return (sums / frame.group_sizes).astype(np.float32)
