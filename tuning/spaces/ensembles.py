"""Search spaces of the meta-learners and of the sampler that draws their training queries."""

from __future__ import annotations

from collections.abc import Mapping

from tuning.spaces.encoders import nothing
from tuning.spaces.trial import Space, Suggests, Value


def rank_fusion(trial: Suggests) -> dict[str, Value]:
    """Return the parameter of rank fusion."""
    return {"constant": trial.suggest_float("constant", 1.0, 200.0, log=True)}


def greedy(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of greedy selection."""
    return {
        "bag_share": trial.suggest_float("bag_share", 0.2, 1.0),
        "rounds": trial.suggest_int("rounds", 3, 60, log=True),
    }


def tuned_fusion(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of tuned fusion."""
    return {
        "bag_share": trial.suggest_float("bag_share", 0.3, 1.0),
        "least_gain": trial.suggest_float("least_gain", 1e-5, 1e-2, log=True),
    }


def linear_stack(trial: Suggests) -> dict[str, Value]:
    """Return the parameter of feature-weighted linear stacking."""
    return {"l2": trial.suggest_float("l2", 0.1, 1000.0, log=True)}


def lambdamart(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of the LambdaMART meta-learner."""
    return {
        "rounds": trial.suggest_int("rounds", 30, 400, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 3, 32, log=True),
        "leaf_share": trial.suggest_float("leaf_share", 0.001, 0.1, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 100.0, log=True),
    }


def pattern_balanced(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of the sampler that balances availability patterns."""
    return {
        "tau": trial.suggest_float("tau", 0.0, 1.0),
        "clip": trial.suggest_float("clip", 1.0, 20.0, log=True),
        "beta": trial.suggest_float("beta", 0.0, 1.0),
    }


def modality_dropout(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of the sampler that hides modalities."""
    return {
        "rate": trial.suggest_float("rate", 0.05, 0.7),
        "copies": trial.suggest_float("copies", 0.2, 4.0, log=True),
    }


def shapley(trial: Suggests) -> dict[str, Value]:
    """Return the parameter of the sampler that repeats queries for what a lagging modality adds."""
    return {"kappa": trial.suggest_float("kappa", 0.1, 3.0, log=True)}


def raking(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of the sampler that balances activity, popularity and patterns at once."""
    return {
        "tau": trial.suggest_float("tau", 0.0, 1.0),
        "clip": trial.suggest_float("clip", 1.0, 20.0, log=True),
    }


META_LEARNERS: Mapping[str, Space] = {
    "best_single": nothing,
    "rank_fusion": rank_fusion,
    "greedy": greedy,
    "tuned_fusion": tuned_fusion,
    "linear_stack": linear_stack,
    "lambdamart": lambdamart,
    "average": nothing,
}
SAMPLERS: Mapping[str, Space] = {
    "natural": nothing,
    "class_balanced": nothing,
    "pattern_balanced": pattern_balanced,
    "modality_dropout": modality_dropout,
    "shapley": shapley,
    "raking": raking,
}
