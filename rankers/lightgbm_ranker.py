"""LightGBM's LambdaMART and XE-NDCG."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from features.frame import RankingFrame
from rankers.checks import check_scorable, fitted
from rankers.compiled_trees import CompiledTrees, compiled
from rankers.device import DeviceName, resolve_device
from rankers.protocol import OnRound
from rankers.storage import Manifest, constructor_parameters, read_manifest, write_manifest
from rankers.threads import fitting_threads
from rankers.training import prepare

MODEL_FILE = "model.txt"
# Until so many rows have been scored, compiled trees save less than the seconds that making them takes.
FEWEST_COMPILED = 20_000

logger = logging.getLogger(__name__)


@dataclass
class LightGBMRanker:
    """Gradient-boosted trees with `lambdarank` (Burges, MSR-TR-2010-82) or `rank_xendcg` (Bruch, 2021).

    Parameters
    ----------
    rounds, patience
        Number of trees, and how many may pass without a better NDCG@k on `valid` before training stops.
    k
        Cutoff of that NDCG.
    bagging_fraction
        Share of the rows that each tree sees; the other names are LightGBM's own.
    threads
        0 means all; as many of them train the same model to the bit.
    """

    family: ClassVar[str] = "lightgbm"
    objectives: ClassVar[tuple[str, ...]] = ("lambdarank", "rank_xendcg")

    objective: Literal["lambdarank", "rank_xendcg"] = "lambdarank"
    rounds: int = 300
    patience: int = 60
    k: int = 10
    learning_rate: float = 0.05
    num_leaves: int = 15
    min_data_in_leaf: int = 20
    lambda_l2: float = 5.0
    feature_fraction: float = 0.8
    bagging_fraction: float = 0.8
    seed: int = 0
    device: DeviceName = "auto"
    threads: int = 0

    on_round: OnRound | None = field(default=None, init=False, repr=False, compare=False)
    feature_names_: tuple[str, ...] | None = field(default=None, init=False, repr=False)
    best_rounds_: int | None = field(default=None, init=False, repr=False)
    booster_: Any = field(default=None, init=False, repr=False, compare=False)
    _rows_scored: int = field(default=0, init=False, repr=False, compare=False)

    def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Self:
        """Learn from labelled queries, stopping early on `valid`; raises DataError as `check_trainable`."""
        import lightgbm

        resolve_device(self.device, "lightgbm")
        train, valid = prepare(train, valid)
        train_set = _dataset(train)
        booster = lightgbm.train(
            self._library_parameters(has_valid=valid is not None),
            train_set,
            num_boost_round=self.rounds,
            valid_sets=[] if valid is None else [_dataset(valid, reference=train_set)],
            callbacks=[] if valid is None else self._callbacks(),
        )
        self.best_rounds_ = booster.current_iteration() if valid is None else booster.best_iteration
        # A fitted ranker is the same thing as a loaded one: only the best rounds, and no training data.
        self.booster_ = lightgbm.Booster(model_str=booster.model_to_string(num_iteration=self.best_rounds_))
        self.feature_names_ = train.feature_names
        self._rows_scored = 0
        self.__dict__.pop("_trees", None)
        logger.info(
            "lightgbm %s: %d rounds on %d queries", self.objective, self.best_rounds_, train.n_queries
        )
        return self

    def score(self, frame: RankingFrame) -> NDArray[np.float64]:
        """Return (n_rows,) scores; raises DataError if the features are not those of `fit`."""
        check_scorable(frame, fitted(self.feature_names_, self.family))
        if frame.n_rows == 0:
            return np.zeros(0)
        self._rows_scored += frame.n_rows
        if self._rows_scored >= FEWEST_COMPILED and self._trees is not None:
            return self._trees.score(frame.features, self.threads)
        scores = self.booster_.predict(frame.features, num_threads=self.threads)
        return np.asarray(scores, dtype=np.float64)

    @cached_property
    def _trees(self) -> CompiledTrees | None:
        return compiled(fitted(self.booster_, self.family))

    def save(self, folder: Path) -> None:
        """Write `ranker.json` and LightGBM's text model into an existing folder."""
        names = fitted(self.feature_names_, self.family)
        learned = {"feature_names": list(names), "best_rounds": self.best_rounds_}
        write_manifest(folder, Manifest(self.family, constructor_parameters(self), learned))
        (folder / MODEL_FILE).write_text(self.booster_.model_to_string(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        import lightgbm

        manifest = read_manifest(folder, cls.family)
        ranker = cls(**manifest.parameters)
        ranker.feature_names_ = tuple(manifest.learned["feature_names"])
        ranker.best_rounds_ = manifest.learned["best_rounds"]
        ranker.booster_ = lightgbm.Booster(model_str=(folder / MODEL_FILE).read_text(encoding="utf-8"))
        return ranker

    def _callbacks(self) -> list[Any]:
        import lightgbm

        on_round = self.on_round
        stop = lightgbm.early_stopping(self.patience, verbose=False)
        if on_round is None:
            return [stop]
        return [lambda env: on_round(env.iteration + 1, env.evaluation_result_list[0][2]), stop]

    def _library_parameters(self, *, has_valid: bool) -> dict[str, Any]:
        return {
            "objective": self.objective,
            "metric": "ndcg" if has_valid else "None",
            "eval_at": [self.k],
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_data_in_leaf,
            "lambda_l2": self.lambda_l2,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.bagging_fraction,
            # Rows, not queries: bags of queries on several threads train another model each time.
            "bagging_freq": 1,
            "seed": self.seed,
            "num_threads": fitting_threads(self.threads),
            "deterministic": True,
            "force_row_wise": True,
            "feature_pre_filter": False,
            "verbosity": -1,
        }


def _dataset(frame: RankingFrame, reference: Any = None) -> Any:  # noqa: ANN401 - lightgbm is untyped
    import lightgbm

    return lightgbm.Dataset(
        frame.features,
        label=frame.labels,
        group=frame.group_sizes,
        weight=frame.row_weights,
        reference=reference,
        params={"feature_pre_filter": False},
    )
