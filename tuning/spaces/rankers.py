"""Search spaces of the rankers: for each family a plain function from a trial to parameters."""

from __future__ import annotations

from collections.abc import Mapping

from tuning.spaces.trial import Space, Suggests, Value


def lightgbm(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of a LightGBM ranker."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 4, 64, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 300, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.3, 1.0),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0),
    }


def xgboost(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of an XGBoost ranker."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
        "max_depth": trial.suggest_int("max_depth", 2, 8),
        "min_child_weight": trial.suggest_float("min_child_weight", 0.1, 100.0, log=True),
        "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 100.0, log=True),
        "subsample": trial.suggest_float("subsample", 0.4, 1.0),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1.0),
    }


def catboost(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of a CatBoost ranker; depth 8 is the limit of its pairwise losses on a GPU."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
        "depth": trial.suggest_int("depth", 3, 8),
        "l2_leaf_reg": trial.suggest_float("l2_leaf_reg", 0.5, 50.0, log=True),
    }


def linear(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of the pairwise linear ranker."""
    return {"C": trial.suggest_float("C", 1e-4, 10.0, log=True)}


def transformer(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of the transformer; a frame tells up to 20 items of a user."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 5e-4, 1e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-3, 1.0, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "length": trial.suggest_int("length", 2, 20, log=True),
    }


RANKERS: Mapping[str, Space] = {
    "lightgbm": lightgbm,
    "xgboost": xgboost,
    "catboost": catboost,
    "linear": linear,
    "transformer": transformer,
}
