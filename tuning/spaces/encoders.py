"""Search spaces of the encoders of item and user modalities."""

from __future__ import annotations

from collections.abc import Mapping

from tuning.spaces.trial import Space, Suggests, Value


def text(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of the text encoder."""
    return {
        "dim": trial.suggest_int("dim", 4, 128, log=True),
        "characters": trial.suggest_categorical("characters", ("auto", "all", "none")),
    }


def tags(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of the encoder of tags."""
    return {"dim": trial.suggest_int("dim", 4, 128, log=True)}


def category(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of the encoder of categories."""
    return {"most": trial.suggest_int("most", 10, 500, log=True)}


def vectors(trial: Suggests) -> dict[str, Value]:
    """Return the parameters of the encoder of ready-made vectors; no dim keeps their width."""
    return {
        "standardize": trial.suggest_categorical("standardize", (True, False)),
        "dim": trial.suggest_categorical("dim", (None, 16, 32, 64)),
    }


def components(trial: Suggests) -> dict[str, Value]:
    """Return how many components of a described file are kept; no dim keeps all."""
    return {"dim": trial.suggest_categorical("dim", (None, 16, 32, 64, 128))}


def nothing(trial: Suggests) -> dict[str, Value]:
    """Return no parameter: there is nothing to search."""
    return {}


ENCODERS: Mapping[str, Space] = {
    "text": text,
    "tags": tags,
    "category": category,
    "numeric": nothing,
    "vectors": vectors,
    "image": components,
    "audio": components,
    "video": components,
    "neural_text": components,
    "neural_image": components,
    "neural_audio": components,
    "clip": components,
    "attributes": nothing,
}
