"""The kinds of retrievers by name: fitted, checked and read."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from features import item_models
from features.errors import ConfigError
from features.history import History
from features.retrievers.base import BEHAVIOUR, Retriever, load_model
from features.retrievers.covisitation import CovisitationRetriever, fit_covisitation
from features.retrievers.factors import FactorRetriever, fit_als
from features.retrievers.item_item import ItemItemRetriever
from features.retrievers.lightgcn import fit_lightgcn
from features.retrievers.popularity import (
    LocalPopularityRetriever,
    PopularityRetriever,
    fit_local_popularity,
    fit_popularity,
    fit_recent_popularity,
)
from features.retrievers.projection import ProjectionRetriever
from features.retrievers.propagation import PropagatedRetriever
from features.retrievers.spectral import fit_spectral
from features.retrievers.user_knn import UserKnnRetriever, fit_user_knn

ITEM_MODELS: Mapping[str, Callable[..., object]] = {
    "item_knn": item_models.item_knn,
    "ease": item_models.ease,
    "rp3beta": item_models.rp3beta,
}
FITS: Mapping[str, Callable[..., Retriever]] = {
    "popularity": fit_popularity,
    "recent_popularity": fit_recent_popularity,
    "local_popularity": fit_local_popularity,
    "covisitation": fit_covisitation,
    "als": fit_als,
    "user_knn": fit_user_knn,
    "spectral": fit_spectral,
    "lightgcn": fit_lightgcn,
}
BEHAVIOUR_KINDS = (*ITEM_MODELS, *FITS)
CLASSES: tuple[type[Retriever], ...] = (
    PopularityRetriever,
    LocalPopularityRetriever,
    CovisitationRetriever,
    ItemItemRetriever,
    FactorRetriever,
    ProjectionRetriever,
    UserKnnRetriever,
    PropagatedRetriever,
)
WHOLE = (
    "batch_size",
    "buckets",
    "epochs",
    "factors",
    "iterations",
    "last",
    "layers",
    "min_likes",
    "most_items",
    "neighbours",
    "repeats",
    "window",
)
ABOVE_ZERO = ("alpha", "half_life", "l2", "learning_rate", "regularization")


def fit_behaviour(kind: str, history: History, params: Mapping[str, float], *, seed: int = 0) -> Retriever:
    """Fit the behaviour retriever `kind` on a history.

    Raises
    ------
    ConfigError
        If the kind or one of its parameters is unknown.
    """
    check_parameters(kind, params)
    typed = {name: int(value) if name in WHOLE else float(value) for name, value in params.items()}
    if kind in ITEM_MODELS:
        weights = ITEM_MODELS[kind](history.liked, **typed)
        limits = {name: typed[name] for name in ("min_likes", "most_items") if name in typed}
        fewest = item_models.fewest_likes(history.liked, **limits) if kind == "ease" else 1  # type: ignore[arg-type]
        known = history.popularity >= fewest
        return ItemItemRetriever(kind, BEHAVIOUR, weights, known)  # type: ignore[arg-type]
    fit = FITS[kind]
    seeded = {"seed": seed} if "seed" in inspect.signature(fit).parameters else {}
    return fit(history, **seeded, **typed)


def check_parameters(kind: str, params: Mapping[str, float | Sequence[float]]) -> None:
    """Raise ConfigError if the kind of retriever or a parameter is unknown, or a value is out of range."""
    check_kind(kind)
    known = inspect.signature({**ITEM_MODELS, **FITS}[kind]).parameters
    own = [name for name in known if name not in ("liked", "history", "seed")]
    for name, values in params.items():
        if name not in own:
            raise ConfigError(
                f"retriever {kind!r} has no parameter {name!r}", fix=f"it takes {', '.join(own) or 'none'}"
            )
        for value in values if isinstance(values, Sequence) else [values]:
            _check_value(kind, name, value)


def check_kind(kind: str) -> None:
    """Raise ConfigError with the nearest kinds if there is no such kind of retriever."""
    if kind not in BEHAVIOUR_KINDS:
        near = difflib.get_close_matches(kind, BEHAVIOUR_KINDS, n=2)
        meant = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ConfigError(
            f"unknown retriever {kind!r}", fix=f"{meant}use one of {', '.join(BEHAVIOUR_KINDS)}"
        )


def _check_value(kind: str, name: str, value: float) -> None:
    if name in WHOLE:
        limits, within = "a whole number from 1", value >= 1 and value % 1 == 0
    elif name in ABOVE_ZERO:
        limits, within = "a number above 0", value > 0
    else:
        limits, within = "a number from 0", value >= 0
    if not (within and np.isfinite(value)):
        raise ConfigError(
            f"retriever {kind!r}, {name}: got {value!r}, expected {limits}",
            fix="put the value within its limits",
        )


def load_retriever(folder: Path) -> Retriever:
    """Read a retriever of any kind."""
    kind = load_model(folder)[0]["kind"]
    return next(cls for cls in CLASSES if cls.kind == kind).load(folder)
