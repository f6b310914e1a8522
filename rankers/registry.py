"""Rankers by the name of their family: made from a config, or loaded from a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from features.errors import ConfigError, DataError
from rankers.block_ranker import BlockRanker
from rankers.catboost_ranker import CatBoostRanker
from rankers.column_ranker import ColumnRanker
from rankers.device import DeviceName
from rankers.lightgbm_ranker import LightGBMRanker
from rankers.linear_ranker import LinearRanker
from rankers.protocol import OnRound, Ranker
from rankers.storage import FILE_NAME, read_manifest
from rankers.transformer_ranker import TransformerRanker
from rankers.xgboost_ranker import XGBoostRanker

Family = (
    type[LightGBMRanker]
    | type[XGBoostRanker]
    | type[CatBoostRanker]
    | type[LinearRanker]
    | type[TransformerRanker]
)

FAMILIES: Mapping[str, Family] = {
    ranker.family: ranker
    for ranker in (LightGBMRanker, XGBoostRanker, CatBoostRanker, LinearRanker, TransformerRanker)
}
LOADERS: Mapping[str, type[Ranker]] = {
    **FAMILIES,
    BlockRanker.family: BlockRanker,
    ColumnRanker.family: ColumnRanker,
}

_NOT_IN_PARAMS = ("objective", "seed", "device", "threads")
_SHARES = (
    "learning_rate",
    "feature_fraction",
    "bagging_fraction",
    "subsample",
    "colsample_bytree",
    "dropout",
)
_MAY_BE_ZERO = (
    "lambda_l2",
    "reg_lambda",
    "l2_leaf_reg",
    "random_strength",
    "min_child_weight",
    "weight_decay",
    "dropout",
)


def make_ranker(
    family: str,
    *,
    objective: str | None = None,
    params: Mapping[str, float] | None = None,
    seed: int = 0,
    device: DeviceName = "auto",
    threads: int = 0,
    on_round: OnRound | None = None,
) -> Ranker:
    """Make an unfitted ranker; without an objective the family's first one, other params at their defaults.

    `on_round` follows the training of the families that train in rounds.

    Raises
    ------
    ConfigError
        If the family, the objective or a parameter is unknown, or a value is not a number within its limits.
    """
    _check_known("ranker family", family, tuple(FAMILIES))
    ranker = FAMILIES[family]
    if objective is None:
        objective = ranker.objectives[0]
    _check_known(f"objective of {family}", objective, ranker.objectives)
    types = parameter_types(family)
    checked = {}
    for name, value in (params or {}).items():
        _check_known(f"parameter of {family}", name, tuple(types))
        checked[name] = _checked_value(family, name, value, types[name])
    arguments = {"objective": objective, "seed": seed, "device": device, "threads": threads, **checked}
    made = ranker(**arguments)  # type: ignore[arg-type]
    if not isinstance(made, LinearRanker):
        made.on_round = on_round
    return made


def load_ranker(folder: Path) -> Ranker:
    """Load a saved ranker of any family; raises DataError if the folder holds none."""
    family = read_manifest(folder).family
    if family not in LOADERS:
        raise DataError(
            f"got ranker family {family!r}, expected one of {sorted(LOADERS)}",
            file=str(folder / FILE_NAME),
            fix="use the version of modalrank that saved it",
        )
    return LOADERS[family].load(folder)


def parameter_types(family: str) -> dict[str, type[int] | type[float]]:
    """Return the names that `params` of a family may have, with int or float."""
    types: dict[str, type[int] | type[float]] = {"int": int, "float": float}
    return {
        f.name: types[str(f.type)]
        for f in fields(FAMILIES[family])
        if f.init and f.name not in _NOT_IN_PARAMS
    }


def _check_known(what: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ConfigError(
            f"got {what} {name!r}, expected one of {', '.join(known)}", fix="choose one of these"
        )


def _checked_value(family: str, name: str, value: object, kind: type[int] | type[float]) -> float:
    """Return the value as `kind` if it is a number within the range of the parameter."""
    lowest = 1 if kind is int else 0
    highest = 1.0 if name in _SHARES else math.inf
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        in_range = lowest <= value <= highest and (value > 0 or name in _MAY_BE_ZERO)
        if in_range and kind(value) == value:
            return kind(value)
    what = "a whole number" if kind is int else "a number"
    limits = f"{'of' if lowest or name in _MAY_BE_ZERO else 'above'} {lowest}"
    limits += " to 1" if name in _SHARES else (" or more" if limits.startswith("of") else "")
    raise ConfigError(
        f"{family}.{name}: got {value!r}, expected {what} {limits}", fix="put the value within these limits"
    )
