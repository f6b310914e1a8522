"""The last rung: LightGBM's LambdaMART on per-query normalised scores, held on a short leash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ensembles.meta import (
    check_trainable,
    place_unknown_last,
    read_state,
    scores_of,
    teaching_queries,
    write_state,
)
from ensembles.meta_features import normalised_features
from ensembles.score_frame import ScoreFrame
from features.frame import BoolArray, RankingFrame
from features.per_query import rows_by_size
from rankers.lightgbm_ranker import LightGBMRanker

RANKER_FOLDER = "ranker"


class LambdaMART:
    """LambdaMART (Burges, MSR-TR-2010-82) on `ensembles.meta_features.normalised_features`.

    There is no early stopping: the fold that stops it would no longer be out of fold. The defaults are
    few and small trees with large leaves instead.

    Parameters
    ----------
    leaf_share
        Smallest leaf as a share of the training rows, but not below 20 rows; the other names are those of
        `rankers.lightgbm_ranker.LightGBMRanker`.
    negatives
        Most candidates of a query without relevance to learn from, drawn at random after the features have
        been made of the whole list.

    Attributes
    ----------
    bases_
        All bases of `fit`.
    ranker_
        The fitted ranker.
    """

    name: ClassVar[str] = "lambdamart"
    settings_only: ClassVar[bool] = False

    def __init__(
        self,
        k: int = 10,
        *,
        rounds: int = 150,
        learning_rate: float = 0.05,
        num_leaves: int = 12,
        leaf_share: float = 0.01,
        lambda_l2: float = 10.0,
        feature_fraction: float = 0.5,
        bagging_fraction: float = 0.8,
        negatives: int = 100,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        self.k = k
        self.rounds = rounds
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.leaf_share = leaf_share
        self.lambda_l2 = lambda_l2
        self.feature_fraction = feature_fraction
        self.bagging_fraction = bagging_fraction
        self.negatives = negatives
        self.seed = seed
        self.threads = threads

    def fit(self, oof: ScoreFrame) -> Self:
        """Grow the trees on the queries that have a positive and a lesser candidate."""
        check_trainable(oof)
        self.bases_ = oof.bases
        train = _as_ranking_frame(oof.take_queries(teaching_queries(oof)))
        train = train.take_rows(_thinned(train, self.negatives, np.random.default_rng(self.seed)))
        self.ranker_ = LightGBMRanker(
            objective="lambdarank",
            k=self.k,
            rounds=self.rounds,
            learning_rate=self.learning_rate,
            num_leaves=self.num_leaves,
            min_data_in_leaf=max(20, round(self.leaf_share * train.n_rows)),
            lambda_l2=self.lambda_l2,
            feature_fraction=self.feature_fraction,
            bagging_fraction=self.bagging_fraction,
            seed=self.seed,
            device="cpu",
            threads=self.threads,
        ).fit(train)
        return self

    def score(self, frame: ScoreFrame) -> NDArray[np.float64]:
        """Return (n_rows,) scores; raises DataError also if modalities or context differ from `fit`."""
        scores = scores_of(frame, self.bases_)
        known = replace(frame, scores=scores, bases=self.bases_)
        ranked = self.ranker_.score(_as_ranking_frame(known))
        ranked = np.where(np.isnan(scores).all(axis=1), np.nan, ranked)
        return place_unknown_last(ranked, frame.offsets)

    def bases_used(self) -> tuple[str, ...]:
        """Return all bases of `fit`."""
        return self.bases_

    def save(self, folder: Path) -> None:
        """Write `meta.json` and the ranker's folder."""
        params = {
            "k": self.k,
            "rounds": self.rounds,
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "leaf_share": self.leaf_share,
            "lambda_l2": self.lambda_l2,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.bagging_fraction,
            "negatives": self.negatives,
            "seed": self.seed,
            "threads": self.threads,
        }
        write_state(folder, self.name, {"params": params, "bases": self.bases_})
        (folder / RANKER_FOLDER).mkdir()
        self.ranker_.save(folder / RANKER_FOLDER)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_state(folder, cls.name)
        meta = cls(**state["params"])
        meta.bases_ = tuple(state["bases"])
        meta.ranker_ = LightGBMRanker.load(folder / RANKER_FOLDER)
        return meta


def _as_ranking_frame(frame: ScoreFrame) -> RankingFrame:
    """Return the normalised features as a frame for rankers; queries without rows disappear."""
    features, names = normalised_features(frame)
    weights = frame.query_weights
    return RankingFrame(
        features=features,
        feature_names=names,
        blocks={"scores": tuple(range(len(names)))},
        labels=frame.labels,
        queries=np.repeat(np.arange(frame.n_queries), frame.group_sizes),
        items=np.arange(len(frame.labels)),
        query_weights=None if weights is None else weights[frame.group_sizes > 0],
    )


def _thinned(frame: RankingFrame, negatives: int, generator: np.random.Generator) -> BoolArray:
    """Tell the relevant rows and up to `negatives` others of every query, drawn at random."""
    keep = frame.labels > 0
    lot = np.where(keep, 2.0, generator.random(len(keep)))
    for rows in rows_by_size(frame.offsets):
        drawn = np.argsort(lot[rows], axis=1)[:, :negatives]
        keep[np.take_along_axis(rows, drawn, axis=1)] = True
    return keep
