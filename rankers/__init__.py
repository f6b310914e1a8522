"""Rankers of several families behind one protocol, with their metrics and checks.

Making: `make_ranker`, `load_ranker`, and the classes themselves.
Judging: `METRICS` and the functions in it, `mean_of`, `rank_order`.
"""

from rankers.block_ranker import BlockRanker
from rankers.catboost_ranker import CatBoostRanker
from rankers.checks import check_scorable, check_trainable
from rankers.column_ranker import ColumnRanker
from rankers.device import Device, DeviceName, resolve_device
from rankers.lightgbm_ranker import LightGBMRanker
from rankers.linear_ranker import LinearRanker
from rankers.metrics import (
    METRICS,
    Mean,
    average_precision,
    hit_rate,
    mean_of,
    ndcg,
    precision,
    rank_order,
    recall,
    reciprocal_rank,
)
from rankers.protocol import Ranker
from rankers.registry import load_ranker, make_ranker, parameter_types
from rankers.transformer_ranker import TransformerRanker, require_torch
from rankers.xgboost_ranker import XGBoostRanker

__all__ = [
    "METRICS",
    "BlockRanker",
    "CatBoostRanker",
    "ColumnRanker",
    "Device",
    "DeviceName",
    "LightGBMRanker",
    "LinearRanker",
    "Mean",
    "Ranker",
    "TransformerRanker",
    "XGBoostRanker",
    "average_precision",
    "check_scorable",
    "check_trainable",
    "hit_rate",
    "load_ranker",
    "make_ranker",
    "mean_of",
    "ndcg",
    "parameter_types",
    "precision",
    "rank_order",
    "recall",
    "reciprocal_rank",
    "require_torch",
    "resolve_device",
]
