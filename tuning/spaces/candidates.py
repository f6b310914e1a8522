"""Search spaces of the candidates: how many, from retrievers of which settings, with which negatives."""

from __future__ import annotations

from collections.abc import Mapping

from tuning.spaces.encoders import nothing
from tuning.spaces.trial import Space, Suggests, Value


def candidates(trial: Suggests) -> dict[str, Value]:
    """Return the numbers of the config's section `candidates`."""
    return {
        "per_source": trial.suggest_int("per_source", 10, 200, log=True),
        "content_neighbours": trial.suggest_int("content_neighbours", 5, 200, log=True),
        "new_per_source": trial.suggest_int("new_per_source", 0, 30),
    }


def negatives(trial: Suggests) -> dict[str, Value]:
    """Return the negatives of the config's section `labels`."""
    return {
        "negatives": trial.suggest_int("negatives", 5, 120, log=True),
        "hard_negatives": trial.suggest_float("hard_negatives", 0.0, 1.0),
    }


def item_knn(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of item-kNN."""
    return {
        "neighbours": trial.suggest_int("neighbours", 20, 500, log=True),
        "shrink": trial.suggest_float("shrink", 0.0, 200.0),
    }


def user_knn(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of user-kNN."""
    return {
        "neighbours": trial.suggest_int("neighbours", 20, 1000, log=True),
        "damping": trial.suggest_float("damping", 0.0, 1.0),
    }


def ease(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of EASE."""
    return {
        "l2": trial.suggest_float("l2", 10.0, 3000.0, log=True),
        "user_damping": trial.suggest_float("user_damping", 0.0, 1.0),
    }


def rp3beta(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of RP3beta."""
    return {
        "alpha": trial.suggest_float("alpha", 0.3, 1.5),
        "beta": trial.suggest_float("beta", 0.0, 1.0),
    }


def spectral(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of the spectral filter."""
    return {
        "factors": trial.suggest_int("factors", 16, 256, log=True),
        "damping": trial.suggest_float("damping", 0.0, 1.0),
        "user_damping": trial.suggest_float("user_damping", 0.0, 1.0),
    }


def als(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of ALS."""
    return {
        "factors": trial.suggest_int("factors", 16, 256, log=True),
        "regularization": trial.suggest_float("regularization", 1.0, 1000.0, log=True),
        "alpha": trial.suggest_float("alpha", 1.0, 500.0, log=True),
        "damping": trial.suggest_float("damping", 0.0, 1.0),
    }


def recent_popularity(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of recent popularity."""
    return {"half_life": trial.suggest_float("half_life", 0.002, 0.5, log=True)}


def local_popularity(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of popularity near the user's last activity."""
    return {
        "buckets": trial.suggest_int("buckets", 10, 200, log=True),
        "half_life": trial.suggest_float("half_life", 0.002, 0.5, log=True),
    }


def covisitation(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of co-visitation."""
    return {
        "window": trial.suggest_int("window", 2, 40, log=True),
        "last": trial.suggest_int("last", 5, 100, log=True),
        "beta": trial.suggest_float("beta", 0.0, 1.0),
    }


def lightgcn(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of LightGCN."""
    return {
        "factors": trial.suggest_int("factors", 16, 128, log=True),
        "layers": trial.suggest_int("layers", 1, 4),
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 5e-2, log=True),
        "regularization": trial.suggest_float("regularization", 1e-5, 1e-1, log=True),
    }


RETRIEVERS: Mapping[str, Space] = {
    "popularity": nothing,
    "item_knn": item_knn,
    "user_knn": user_knn,
    "ease": ease,
    "rp3beta": rp3beta,
    "spectral": spectral,
    "als": als,
    "recent_popularity": recent_popularity,
    "local_popularity": local_popularity,
    "covisitation": covisitation,
    "lightgcn": lightgcn,
}
