"""CatBoost's YetiRank, QueryRMSE and QuerySoftMax."""

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

MODEL_FILE = "model.cbm"

logger = logging.getLogger(__name__)


@dataclass
class CatBoostRanker:
    """Oblivious trees with `YetiRank` (Gulin et al., JMLR W&CP 14, 2011), `QueryRMSE` or `QuerySoftMax`.

    Scores of a model trained on CUDA differ a little from run to run; on the CPU they are deterministic.

    Parameters
    ----------
    rounds, patience
        Number of trees, and how many may pass without a better NDCG@k on `valid` before training stops.
    k
        Cutoff of that NDCG; the other names are CatBoost's own.
    threads
        0 means all.
    """

    family: ClassVar[str] = "catboost"
    objectives: ClassVar[tuple[str, ...]] = ("YetiRank", "QueryRMSE", "QuerySoftMax")

    objective: Literal["YetiRank", "QueryRMSE", "QuerySoftMax"] = "YetiRank"
    rounds: int = 300
    patience: int = 30
    k: int = 10
    learning_rate: float = 0.05
    depth: int = 5
    l2_leaf_reg: float = 5.0
    random_strength: float = 1.0
    leaf_estimation_iterations: int = 3
    seed: int = 0
    device: DeviceName = "auto"
    threads: int = 0

    on_round: OnRound | None = field(default=None, init=False, repr=False, compare=False)
    feature_names_: tuple[str, ...] | None = field(default=None, init=False, repr=False)
    best_rounds_: int | None = field(default=None, init=False, repr=False)
    booster_: Any = field(default=None, init=False, repr=False, compare=False)

    def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Self:
        """Learn from labelled queries, stopping early on `valid`; raises DataError as `check_trainable`."""
        import catboost

        train, valid = prepare(train, valid)
        device = resolve_device(self.device, "catboost", int(train.group_sizes.max()))
        booster = catboost.CatBoost(self._library_parameters(device.name))
        if valid is None:
            booster.fit(_pool(train))
        else:
            # CatBoost takes no callback on a GPU.
            tell = None if self.on_round is None or device.name == "cuda" else _Tell(self.on_round)
            booster.fit(
                _pool(train),
                eval_set=_pool(valid),
                use_best_model=True,
                early_stopping_rounds=self.patience,
                callbacks=None if tell is None else [tell],
            )
            if tell is not None and tell.raised is not None:
                raise tell.raised
        self.best_rounds_ = int(booster.tree_count_)
        self.booster_ = booster
        self.feature_names_ = train.feature_names
        logger.info(
            "catboost %s: %d rounds on %d queries", self.objective, self.best_rounds_, train.n_queries
        )
        return self

    def score(self, frame: RankingFrame) -> NDArray[np.float64]:
        """Return (n_rows,) scores; raises DataError if the features are not those of `fit`."""
        check_scorable(frame, fitted(self.feature_names_, self.family))
        if frame.n_rows == 0:
            return np.zeros(0)
        return np.asarray(
            self.booster_.predict(frame.features, thread_count=self.threads or -1), dtype=np.float64
        )

    def save(self, folder: Path) -> None:
        """Write `ranker.json` and CatBoost's binary model into an existing folder."""
        names = fitted(self.feature_names_, self.family)
        learned = {"feature_names": list(names), "best_rounds": self.best_rounds_}
        write_manifest(folder, Manifest(self.family, constructor_parameters(self), learned))
        self.booster_.save_model(str(folder / MODEL_FILE), format="cbm")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        import catboost

        manifest = read_manifest(folder, cls.family)
        ranker = cls(**manifest.parameters)
        ranker.feature_names_ = tuple(manifest.learned["feature_names"])
        ranker.best_rounds_ = manifest.learned["best_rounds"]
        ranker.booster_ = catboost.CatBoost().load_model(str(folder / MODEL_FILE), format="cbm")
        return ranker

    def _library_parameters(self, device: str) -> dict[str, Any]:
        return {
            "loss_function": self.objective,
            "eval_metric": f"NDCG:top={self.k};type=Exp;hints=skip_train~true",
            "iterations": self.rounds,
            "learning_rate": self.learning_rate,
            "depth": self.depth,
            "l2_leaf_reg": self.l2_leaf_reg,
            "random_strength": self.random_strength,
            # Left to CatBoost it is 1 or 100 for QuerySoftMax, depending on the number of rounds.
            "leaf_estimation_iterations": self.leaf_estimation_iterations,
            # On a GPU the default is ordered boosting, which is another model.
            "boosting_type": "Plain",
            "task_type": "GPU" if device == "cuda" else "CPU",
            "random_seed": self.seed,
            "thread_count": fitting_threads(self.threads) or -1,
            "allow_writing_files": False,
            "logging_level": "Silent",
        }


class _Tell:
    """Tells the value after every round; CatBoost would lose what is raised there, so it is kept."""

    def __init__(self, on_round: OnRound) -> None:
        self.on_round = on_round
        self.raised: Exception | None = None

    def after_iteration(self, info: Any) -> bool:  # noqa: ANN401 - catboost is untyped
        """Return whether to go on."""
        told = info.metrics["validation"]
        values = next(values for name, values in told.items() if name.startswith("NDCG"))
        try:
            self.on_round(info.iteration, values[-1])
        except Exception as error:
            self.raised = error
        return self.raised is None


def _pool(frame: RankingFrame) -> Any:  # noqa: ANN401 - catboost is untyped
    import catboost

    return catboost.Pool(
        frame.features,
        label=frame.labels,
        group_id=np.repeat(np.arange(frame.n_queries), frame.group_sizes),
        group_weight=frame.row_weights,
    )
