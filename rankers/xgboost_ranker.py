"""XGBoost's LambdaMART, listwise and pairwise."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from features.frame import RankingFrame
from rankers.checks import check_scorable, fitted
from rankers.device import DeviceName, resolve_device
from rankers.protocol import OnRound
from rankers.storage import Manifest, constructor_parameters, read_manifest, write_manifest
from rankers.threads import fitting_threads
from rankers.training import prepare

MODEL_FILE = "model.ubj"

logger = logging.getLogger(__name__)


@dataclass
class XGBoostRanker:
    """Gradient-boosted trees with `rank:ndcg` or `rank:pairwise` (Burges, MSR-TR-2010-82).

    Parameters
    ----------
    rounds, patience
        Number of trees, and how many may pass without a better NDCG@k on `valid` before training stops.
    k
        Cutoff of that NDCG; the other names are XGBoost's own.
    threads
        0 means all.
    """

    family: ClassVar[str] = "xgboost"
    objectives: ClassVar[tuple[str, ...]] = ("rank:ndcg", "rank:pairwise")

    objective: Literal["rank:ndcg", "rank:pairwise"] = "rank:ndcg"
    rounds: int = 300
    patience: int = 30
    k: int = 10
    learning_rate: float = 0.05
    max_depth: int = 4
    min_child_weight: float = 1.0
    reg_lambda: float = 5.0
    subsample: float = 0.8
    colsample_bytree: float = 0.8
    seed: int = 0
    device: DeviceName = "auto"
    threads: int = 0

    on_round: OnRound | None = field(default=None, init=False, repr=False, compare=False)
    feature_names_: tuple[str, ...] | None = field(default=None, init=False, repr=False)
    best_rounds_: int | None = field(default=None, init=False, repr=False)
    booster_: Any = field(default=None, init=False, repr=False, compare=False)

    def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Self:
        """Learn from labelled queries, stopping early on `valid`; raises DataError as `check_trainable`."""
        import xgboost

        device = resolve_device(self.device, "xgboost")
        train, valid = prepare(train, valid)
        train_set = _matrix(train)
        booster = xgboost.train(
            self._library_parameters(device.name),
            train_set,
            num_boost_round=self.rounds,
            evals=[] if valid is None else [(_matrix(valid, reference=train_set), "valid")],
            callbacks=[] if valid is None else self._callbacks(),
            verbose_eval=False,
        )
        self.best_rounds_ = booster.num_boosted_rounds()
        # A fitted ranker is the same thing as a loaded one, and scores on the CPU wherever it was trained.
        self.booster_ = self._read(booster.save_raw("ubj"))
        self.feature_names_ = train.feature_names
        logger.info("xgboost %s: %d rounds on %d queries", self.objective, self.best_rounds_, train.n_queries)
        return self

    def score(self, frame: RankingFrame) -> NDArray[np.float64]:
        """Return (n_rows,) scores; raises DataError if the features are not those of `fit`."""
        check_scorable(frame, fitted(self.feature_names_, self.family))
        if frame.n_rows == 0:
            return np.zeros(0)
        scores = self.booster_.inplace_predict(frame.features, missing=np.nan)
        return np.asarray(scores, dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write `ranker.json` and XGBoost's UBJSON model into an existing folder."""
        names = fitted(self.feature_names_, self.family)
        learned = {"feature_names": list(names), "best_rounds": self.best_rounds_}
        write_manifest(folder, Manifest(self.family, constructor_parameters(self), learned))
        (folder / MODEL_FILE).write_bytes(self.booster_.save_raw("ubj"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        manifest = read_manifest(folder, cls.family)
        ranker = cls(**manifest.parameters)
        ranker.feature_names_ = tuple(manifest.learned["feature_names"])
        ranker.best_rounds_ = manifest.learned["best_rounds"]
        ranker.booster_ = ranker._read(bytearray((folder / MODEL_FILE).read_bytes()))
        return ranker

    def _read(self, raw: bytearray) -> Any:  # noqa: ANN401 - xgboost is untyped
        import xgboost

        booster = xgboost.Booster({"device": "cpu", "nthread": self.threads})
        booster.load_model(raw)
        return booster

    def _callbacks(self) -> list[Any]:
        import xgboost

        metric = f"ndcg@{self.k}"
        stop = xgboost.callback.EarlyStopping(
            rounds=self.patience, data_name="valid", maximize=True, save_best=True
        )
        if self.on_round is None:
            return [stop]
        on_round: OnRound = self.on_round

        class Tell(xgboost.callback.TrainingCallback):  # type: ignore[misc] # xgboost is untyped
            def after_iteration(self, model: object, epoch: int, evals_log: Any) -> bool:  # noqa: ANN401
                on_round(epoch + 1, evals_log["valid"][metric][-1])
                return False

        return [Tell(), stop]

    def _library_parameters(self, device: str) -> dict[str, Any]:
        return {
            "objective": self.objective,
            "eval_metric": f"ndcg@{self.k}",
            "learning_rate": self.learning_rate,
            "max_depth": self.max_depth,
            "min_child_weight": self.min_child_weight,
            "reg_lambda": self.reg_lambda,
            "subsample": self.subsample,
            "colsample_bytree": self.colsample_bytree,
            "tree_method": "hist",
            "device": device,
            "seed": self.seed,
            "nthread": fitting_threads(self.threads),
            "verbosity": 0,
        }


def _matrix(frame: RankingFrame, reference: Any = None) -> Any:  # noqa: ANN401 - xgboost is untyped
    import xgboost

    return xgboost.QuantileDMatrix(
        frame.features,
        label=frame.labels,
        group=frame.group_sizes,
        weight=frame.query_weights,
        missing=np.nan,
        ref=reference,
    )
