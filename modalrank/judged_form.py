"""Judged lists as labelled frames: every row is a candidate with a label, and queries are the unit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from features.builder import FeatureModel
from features.candidates import Candidates
from features.frame import FloatArray, RankingFrame
from features.splits import query_folds
from modalrank.config import Config
from modalrank.dataset import Dataset, row_blocks
from modalrank.encoding import Encodings
from modalrank.feature_settings import feature_settings, filled_items
from modalrank.lists import Held, Lists, Progress, Training, whole
from tuning.grids import Trial


class JudgedForm:
    """Judged lists: every row is a candidate with a label, and queries are the unit."""

    def __init__(self, dataset: Dataset, encodings: Encodings, progress: Progress) -> None:
        self.dataset, self.config, self.progress = dataset, dataset.config, progress
        self._encodings = encodings
        self.trials: list[Trial] = []
        nothing = dataset.history(np.zeros(len(dataset.interactions), dtype=bool))
        settings = feature_settings(self.config)
        items = filled_items(encodings.items, nothing, self.config)
        self._model = FeatureModel(nothing, items, encodings.users, (), settings)

    def training(self) -> Training:
        """Return the train rows (with those of valid in the full protocol), in folds of queries."""
        splits = ("train",) if self.config.protocol == "strict" else ("train", "valid")
        frame = self._frame(splits, self._model)
        folds = query_folds(frame.n_queries, self.config.labels.folds, self.config.seed)
        lists = {fold: whole(frame.take_queries(np.flatnonzero(folds == fold))) for fold in np.unique(folds)}
        return Training(frame, folds, lists, "cross")

    def like(self, config: Config) -> JudgedForm:
        """Return the form under another config."""
        return JudgedForm(replace(self.dataset, config=config), self._encodings, self.progress)

    def rehearsal(self) -> tuple[RankingFrame, Lists]:
        """Return the training rows, and those of valid to judge settings on (full: the last fold)."""
        training = self.training()
        if self.config.protocol == "strict":
            return training.frame, self.held_out("valid", self._model)
        last = int(training.folds.max())
        frame = training.frame.take_queries(np.flatnonzero(training.folds != last))
        return frame, training.lists[last]

    def held_out(self, split: Held, model: FeatureModel, most: int | None = None) -> Lists:
        """Return the judged rows of the queries of the split, `most` drawn of them."""
        frame = self._frame((split,), model)
        drawn = np.random.default_rng(self.config.seed).permutation(frame.n_queries)[:most]
        return whole(frame.take_queries(np.sort(drawn)))

    def model_before(self, split: Held) -> FeatureModel:
        """Return the feature model, which knows no interaction."""
        return self._model

    def _frame(self, splits: tuple[str, ...], model: FeatureModel) -> RankingFrame:
        keep = self.dataset.in_split(*splits)
        codes = self.dataset.query_codes[keep], self.dataset.item_codes[keep]
        order = np.lexsort((codes[1], codes[0]))
        rows = self.dataset.interactions.filter(keep)[order]
        candidates = Candidates(codes[0][order], codes[1][order], np.zeros((len(order), 0), np.float32))
        blocks = row_blocks(self.config.modalities, rows)
        frame = model.frame(candidates, labels=rows["label"].to_numpy().astype(np.float32), row_blocks=blocks)
        if "weight" in rows.columns:
            return replace(frame, query_weights=_query_weights(frame, rows["weight"].to_numpy()))
        return frame


def _query_weights(frame: RankingFrame, weights: FloatArray) -> FloatArray:
    sums = np.add.reduceat(weights, frame.offsets[:-1])
    return (sums / frame.group_sizes).astype(np.float32)
