"""A log as labelled frames: candidates and labels are made from hidden interactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np

from ensembles.oof import LARGE
from features.builder import FeatureModel
from features.candidates import Candidates, recall_ceilings
from features.errors import DataError
from features.frame import BoolArray, FloatArray, IntArray, RankingFrame, concatenate
from features.history import History
from features.retrievers import content_retrievers, fit_behaviour
from features.space import Space, with_graph
from features.splits import forward_cuts, hidden_folds, query_folds
from modalrank.augmentation import augmented, with_made_items, with_negatives
from modalrank.config import Config
from modalrank.dataset import Dataset
from modalrank.encoding import Encodings
from modalrank.feature_settings import feature_settings, filled_items, retrievers_of
from modalrank.lists import ALWAYS_LEARNED, Held, Lists, Progress, Training, Window
from modalrank.negatives import JUDGES, PROBE_QUERIES, Negatives, choices, hardness_of, pick_negatives
from tuning.grids import Trial, pick_setting


class LogForm:
    """What happened: candidates are generated, labels are interactions hidden from the features."""

    def __init__(self, dataset: Dataset, encodings: Encodings, progress: Progress) -> None:
        self.dataset, self.config, self.progress = dataset, dataset.config, progress
        self.users = encodings.users
        self.train = dataset.history(dataset.in_split("train"))
        self._encoded = encodings.items
        self._require_positives()
        self._require_times()
        self.trials: list[Trial] = []
        self._lots = np.random.default_rng(self.config.seed)

    def like(self, config: Config) -> LogForm:
        """Return the form under another config of the same retrievers, whose settings it takes over."""
        encodings = Encodings({}, dict(self._encoded), dict(self.users))
        other = LogForm(replace(self.dataset, config=config), encodings, self.progress)
        other.__dict__["params"] = self.params
        return other

    @cached_property
    def items(self) -> Space:
        """Item modalities with neighbours among the items of the train split."""
        return _graphed(self._encoded, self.train, self.config)

    @cached_property
    def params(self) -> dict[str, Mapping[str, float]]:
        """Kind of retriever to the setting that validation picked."""
        return self._pick_retrievers()

    @cached_property
    def _before_valid(self) -> FeatureModel:
        return self.feature_model(self.train, self.items)

    def training(self) -> Training:
        """Return one thinned frame for all label windows, and the full lists of some of their queries."""
        windows = self.windows()
        negatives = self._picked_negatives(windows)
        [(frame, folds)] = self._taught(windows, [negatives], self.config.labels.queries)
        scored = self._scored(windows, frame.n_rows)
        lists = {window.fold: self._lists(window, self._scored_users(window, scored)) for window in scored}
        scheme: Literal["cross", "forward"] = "cross" if self._hides else "forward"
        return Training(frame, folds, lists, scheme)

    def _taught(
        self, windows: list[Window], negatives: list[Negatives], queries: int
    ) -> list[tuple[RankingFrame, IntArray]]:
        """Return, for each choice of negatives, a thinned frame of some queries and the fold of each."""
        found: list[list[tuple[RankingFrame, IntArray]]] = [[] for _ in negatives]
        for number, window in enumerate(windows):
            self.progress(f"label window {number + 1} of {len(windows)}")
            users = self._drawn(window.users, -(-queries // len(windows)))
            whole, made = with_made_items(self.config, window.model, self._lots)
            models = [(whole, users, made), *augmented(self.config, window.model, users, self._lots)]
            for model, candidates in self._batches(models):
                frame = model.frame(candidates, labels=_labels(window.truth, candidates))
                hardness = hardness_of(candidates) if any(n.hard_share for n in negatives) else frame.labels
                for choice, parts in zip(negatives, found, strict=True):
                    kept = choice.keep(frame.offsets, frame.labels, hardness, self._lots)
                    thinned = frame.take_rows(kept | (frame.items >= window.truth.n_items))
                    if thinned.n_queries:
                        parts.append((thinned, np.full(thinned.n_queries, window.fold)))
        if not found[0]:
            raise DataError(
                "no candidate source found any hidden positive, expected some to learn from",
                fix="raise candidates.per_source or add retrievers",
            )
        return [
            (concatenate([f for f, _ in parts]), np.concatenate([n for _, n in parts])) for parts in found
        ]

    def _batches(
        self, models: list[tuple[FeatureModel, IntArray, int]]
    ) -> Iterator[tuple[FeatureModel, Candidates]]:
        """Yield the candidates of each model's users, with some of the last items that a model was given."""
        for model, users, made in models:
            for candidates in model.generated(users):
                yield model, with_negatives(model, candidates, made, self._lots)

    def _picked_negatives(self, windows: list[Window]) -> Negatives:
        """Return the negatives of the config, of a grid those that teach to rank validation best."""
        given = choices(self.config.labels)
        if len(given) == 1:
            return given[0]
        self.progress("choose the negatives")
        taught, judge = self._rehearsed(windows)
        frames = [frame for frame, _ in self._taught(taught, given, PROBE_QUERIES)]
        picked, trials = pick_negatives(given, frames, judge, self.config)
        self.trials += trials
        return picked

    def rehearsal(self) -> tuple[RankingFrame, Lists]:
        """Return some training queries and the lists of others, on which settings are judged."""
        taught, judge = self._rehearsed(self.windows())
        [(frame, _)] = self._taught(taught, choices(self.config.labels)[:1], PROBE_QUERIES)
        return frame, judge

    def _rehearsed(self, windows: list[Window]) -> tuple[list[Window], Lists]:
        """Return the windows to learn from and the lists to judge on.

        Under the full protocol validation is among the labels, so the last fold of it takes its place.
        """
        if self.config.protocol == "strict":
            return windows, self.held_out("valid", self._before_valid, JUDGES)
        held = windows[-1]
        judge = self._lists(held, self._drawn(held.users, JUDGES))
        return [window for window in windows if window.fold != held.fold], judge

    @property
    def _hides(self) -> bool:
        return self.config.labels.method == "hide" or self.config.protocol == "full"

    def _scored(self, windows: list[Window], n_rows: int) -> list[Window]:
        """Return the windows that are scored out of fold: of many rows the last, unless all of them choose.

        Under the strict protocol these lists only teach meta-learners, and each window costs a fit of every
        base.
        """
        scored = [window for window in windows if window.fold != ALWAYS_LEARNED]
        return scored[-1:] if self.config.protocol == "strict" and n_rows > LARGE else scored

    def _scored_users(self, window: Window, scored: list[Window]) -> IntArray:
        """Return some users; more of them where these are the ones that choose (full)."""
        ensemble = self.config.ensemble
        most = ensemble.judges if self.config.protocol == "full" else ensemble.queries
        return self._drawn(window.users, -(-most // len(scored)))

    def _drawn(self, users: IntArray, most: int | None) -> IntArray:
        return np.sort(self._lots.permutation(users)[:most])

    def _lists(self, window: Window, users: IntArray) -> Lists:
        def frames() -> Iterator[RankingFrame]:
            for candidates in window.model.generated(users):
                yield window.model.frame(candidates, labels=_labels(window.truth, candidates))

        liked = window.truth.liked[users]
        return Lists(frames, users, np.asarray(liked.sum(axis=1)).ravel().astype(np.int64))

    def model_before(self, split: Held) -> FeatureModel:
        """Return the model of the train split, refitted on valid too before the test of the full protocol."""
        if split == "valid" or self.config.protocol == "strict":
            return self._before_valid
        self.progress("refit on train and valid")
        history = self.dataset.history(self.dataset.in_split("train", "valid"))
        return self.feature_model(history, _graphed(self.items, history, self.config))

    def held_out(self, split: Held, model: FeatureModel, most: int | None = None) -> Lists:
        """Return generated candidates of the users with a positive in the split, `most` drawn of them."""
        truth = self._truth(split)
        users = self._drawn(_users_with_positive(truth), most)
        return self._lists(Window(0, self._unmet(model, split), truth, users), users)

    def positives(self, split: Held) -> Candidates:
        """Return the held-out positives as pairs sorted by (query, item)."""
        pairs = self._truth(split).liked.tocoo()
        return Candidates(
            pairs.row.astype(np.int64), pairs.col.astype(np.int64), np.zeros((pairs.nnz, 0), np.float32)
        )

    def ceilings(self) -> dict[str, float]:
        """Return the recall ceiling of every candidate source and of their union, on valid."""
        model = self._before_valid
        return recall_ceilings(
            model.retrievers,
            model.history,
            self._truth("valid"),
            model.depths,
            exclude_seen=model.settings.exclude_seen,
        )

    def feature_model(self, history: History, items: Space) -> FeatureModel:
        """Fit the retrievers on a history."""
        config, seed = self.config, self.config.seed
        retrievers = [fit_behaviour(kind, history, p, seed=seed) for kind, p in self.params.items()]
        content = content_retrievers(items, retrievers, history)
        return FeatureModel(history, items, self.users, (*retrievers, *content), feature_settings(config))

    def _unmet(self, model: FeatureModel, split: Held) -> FeatureModel:
        """Return the model whose lists leave out what was met before the split, in strict test valid too."""
        if split == "valid" or self.config.protocol == "full" or not model.settings.exclude_seen:
            return model
        met = self.dataset.history(self.dataset.in_split("train", "valid"))
        return replace(model, met=met.seen)

    def _truth(self, split: Held) -> History:
        return self.dataset.history(self.dataset.in_split(split))

    def windows(self) -> list[Window]:
        """Return the label windows of the protocol.

        Strict: interactions hidden in train, or later periods of train. Full: the newest interactions,
        those of valid, are labels too. Where there are times, valid follows the history of train as the
        test will follow that of both; where there are none, valid is hidden fold by fold from a history
        that holds the rest of it, so that the newest popularity is a feature with the same meaning as
        later on test.
        """
        if self.config.protocol == "strict":
            return [self._window(fold, self.train, *masks) for fold, masks in enumerate(self._parts())]
        n_folds, seed, truth = self.config.labels.folds, self.config.seed, self._truth("valid")
        if self.train.times is not None:
            known = [self._window(ALWAYS_LEARNED, self.train, *masks) for masks in self._parts()]
            users = _users_with_positive(truth)
            folds = query_folds(len(users), n_folds, seed)
            newest = [Window(k, self._before_valid, truth, users[folds == k]) for k in range(n_folds)]
            return [*known, *newest]
        everything = self.dataset.history(self.dataset.in_split("train", "valid"))
        folds = np.full(len(everything.users), -1)
        is_new = self.dataset.in_split("valid")[self.dataset.in_split("train", "valid")]
        folds[is_new] = hidden_folds(everything.users[is_new], n_folds, seed, hide_single=True)
        return [self._window(fold, everything, folds != fold, folds == fold) for fold in range(n_folds)]

    def _window(self, fold: int, source: History, history: BoolArray, labels: BoolArray) -> Window:
        known, truth = source.take(history), source.take(labels)
        items = self.items if source is self.train else _graphed(self.items, known, self.config)
        return Window(fold, self.feature_model(known, items), truth, _users_with_positive(truth))

    def _parts(self) -> list[tuple[BoolArray, BoolArray]]:
        """Return the (history, labels) masks of the windows in train."""
        labels, times = self.config.labels, self.train.times
        if labels.method == "hide" or times is None:
            folds = hidden_folds(self.train.users, labels.folds, self.config.seed, times)
            return [(folds != fold, folds == fold) for fold in range(labels.folds)]
        cuts = [*forward_cuts(times, labels.folds), np.inf]
        return [(times < a, (times >= a) & (times < b)) for a, b in pairwise(cuts)]

    def _pick_retrievers(self) -> dict[str, Mapping[str, float]]:
        config, truth = self.config, self._truth("valid")
        params: dict[str, Mapping[str, float]] = {}
        for retriever in retrievers_of(config):
            self.progress(f"tune {retriever.kind}")
            params[retriever.kind], trials = pick_setting(
                retriever.kind,
                retriever.grids,
                self.train,
                truth,
                k=config.ensemble.k,
                exclude_seen=config.candidates.exclude_seen,
                seed=config.seed,
            )
            self.trials += trials
        return params

    def _require_times(self) -> None:
        if self.config.labels.method == "forward" and self.train.times is None:
            raise DataError(
                "labels.method 'forward' needs times", fix="name data.columns.time, or use 'hide'"
            )

    def _require_positives(self) -> None:
        for split in ("train", "valid", "test"):
            if not self.dataset.history(self.dataset.in_split(split)).is_positive.any():
                raise DataError(
                    f"the split {split!r} has no label of at least {self.config.data.positive_from:g}",
                    fix="check data.positive_from and the split",
                )


def _graphed(items: Space, history: History, config: Config) -> Space:
    """Fill what is missing, and give every item modality its graph over the items that users can have met."""
    items = filled_items(items, history, config)
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
    known = candidates.items < truth.n_items
    return (known & np.isin(candidates.queries * truth.n_items + candidates.items, keys)).astype(np.float32)
