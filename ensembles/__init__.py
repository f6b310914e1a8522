"""Stacking of base rankers: from the best single base to LambdaMART, and how far to go.

`LADDER` names the meta-learners from the simplest to the most complex; `make_meta` builds one and
`load_meta` reads a saved one, whatever its kind.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensembles.average import AverageStack, Blend, Hedge
from ensembles.best_single import BestSingle
from ensembles.fusion import RankFusion
from ensembles.gate import Interval, Step, bootstrap_mean, climb, paired_bootstrap
from ensembles.greedy import GreedySelection
from ensembles.lambdamart import LambdaMART
from ensembles.linear_stack import LinearStack
from ensembles.median_score import MedianScore
from ensembles.meta import MetaLearner, read_state
from ensembles.meta_features import normalised_features
from ensembles.reserve import Reserve
from ensembles.samplers import SAMPLERS, Draw, Sampler, apply_draw, make_sampler
from ensembles.score_frame import ScoreFrame
from ensembles.tuned_fusion import TunedFusion
from features.errors import ConfigError, DataError
from features.per_query import average_ranks, min_max, z_scores

__all__ = [
    "LADDER",
    "SAMPLERS",
    "AverageStack",
    "BestSingle",
    "Blend",
    "Draw",
    "GreedySelection",
    "Hedge",
    "Interval",
    "LambdaMART",
    "LinearStack",
    "MedianScore",
    "MetaLearner",
    "RankFusion",
    "Reserve",
    "Sampler",
    "ScoreFrame",
    "Step",
    "TunedFusion",
    "apply_draw",
    "average_ranks",
    "bootstrap_mean",
    "climb",
    "load_meta",
    "make_meta",
    "make_sampler",
    "min_max",
    "normalised_features",
    "paired_bootstrap",
    "z_scores",
]

_KINDS: Mapping[str, type[Any]] = {
    kind.name: kind
    for kind in (
        BestSingle,
        RankFusion,
        GreedySelection,
        TunedFusion,
        LinearStack,
        LambdaMART,
        AverageStack,
    )
}
LADDER: tuple[str, ...] = tuple(_KINDS)
# What is no rung of its own: rungs and samplers together, places for new items, and what says who gets them.
_PARTS: Mapping[str, type[Any]] = {kind.name: kind for kind in (Blend, Hedge, Reserve, MedianScore)}


def make_meta(
    name: str,
    k: int = 10,
    seed: int = 0,
    threads: int = 0,
    params: Mapping[str, object] | None = None,
) -> MetaLearner:
    """Return an unfitted meta-learner.

    Parameters
    ----------
    name
        One of `LADDER`.
    k, seed, threads
        Cutoff of the NDCG that is optimised, seed, and threads (0 means all), where the kind has them.
    params
        Further constructor parameters of the kind.

    Raises
    ------
    ConfigError
        If the name or a parameter is unknown.
    """
    if name not in _KINDS:
        raise ConfigError(
            f"got meta-learner {name!r}, expected one of {', '.join(LADDER)}",
            fix="correct the meta-learner's name",
        )
    common = {"k": k, "seed": seed, "threads": threads}
    accepted = inspect.signature(_KINDS[name]).parameters
    own = [parameter for parameter in accepted if parameter not in common]
    unknown = sorted(set(params or {}) - set(own))
    if unknown:
        raise ConfigError(
            f"meta-learner {name}: got parameter {unknown[0]!r}, expected {', '.join(own) or 'none'}",
            fix="remove or rename the parameter",
        )
    shared = {key: value for key, value in common.items() if key in accepted}
    meta: MetaLearner = _KINDS[name](**shared, **(params or {}))
    return meta


def load_meta(folder: Path) -> MetaLearner:
    """Read a saved meta-learner of any kind; raises DataError if the folder holds none."""
    kind = read_state(folder)["kind"]
    kinds = {**_KINDS, **_PARTS}
    if kind not in kinds:
        raise DataError(
            f"got meta-learner {kind!r}, expected one of {', '.join(LADDER)}",
            fix="use the version of modalrank that saved it",
            file=str(folder / "meta.json"),
        )
    meta: MetaLearner = kinds[kind].load(folder)
    return meta
