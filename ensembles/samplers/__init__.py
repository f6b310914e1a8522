"""How a meta-learner's training queries are drawn, so that a rare or weak modality is heard.

A sampler is a function of a ScoreFrame and a random generator that returns a `Draw`. Every one draws as many
training rows as there are in all trainable queries once, so that samplers are compared fairly. `SAMPLERS`
names them; `a+b` is what b draws from what a drew.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

import numpy as np

from ensembles.samplers.composed import compose
from ensembles.samplers.draw import Draw, Sampler, apply_draw, availability_patterns
from ensembles.samplers.dropout import modality_dropout
from ensembles.samplers.pattern_balanced import pattern_balanced
from ensembles.samplers.plain import class_balanced, natural
from ensembles.samplers.raking import raking
from ensembles.samplers.shapley import shapley
from ensembles.score_frame import ScoreFrame
from features.errors import ConfigError

__all__ = [
    "NATURAL",
    "SAMPLERS",
    "Draw",
    "Sampler",
    "apply_draw",
    "availability_patterns",
    "class_balanced",
    "compose",
    "make_sampler",
    "modality_dropout",
    "natural",
    "pattern_balanced",
    "raking",
    "sample",
    "sampler_defaults",
    "shapley",
]

NATURAL = "natural"

SAMPLERS: Mapping[str, Callable[..., Sampler]] = {
    NATURAL: lambda: natural,
    "class_balanced": lambda: class_balanced,
    "pattern_balanced": pattern_balanced,
    "modality_dropout": modality_dropout,
    "shapley": shapley,
    "raking": raking,
}


def make_sampler(name: str, params: Mapping[str, object] | None = None) -> Sampler:
    """Return the sampler of a name, or of several joined by `+`.

    Parameters
    ----------
    params
        Parameters of the sampler; those of a composition are called `<sampler>.<parameter>`.

    Raises
    ------
    ConfigError
        If a name or a parameter is unknown or a value is out of range.
    """
    names = name.split("+")
    given = dict(params or {})
    if len(names) == 1:
        return _made(name, given)
    own = {
        part: {key.removeprefix(f"{part}."): given.pop(key) for key in _keys_of(part, given)}
        for part in names
    }
    if given:
        raise ConfigError(
            f"sampler {name}: got parameter {sorted(given)[0]!r}, expected {names[0]}.<parameter> and so on",
            fix="put the sampler that the parameter belongs to before it",
        )
    return compose(*(_made(part, own[part]) for part in names))


def sampler_defaults(name: str) -> dict[str, float]:
    """Return the parameters of a sampler and their defaults."""
    return {key: each.default for key, each in inspect.signature(SAMPLERS[name]).parameters.items()}


def sample(frame: ScoreFrame, name: str, params: Mapping[str, object] | None, seed: int) -> ScoreFrame:
    """Return the training frame that a sampler draws from a frame."""
    return apply_draw(frame, make_sampler(name, params)(frame, np.random.default_rng(seed)))


def _keys_of(part: str, params: Mapping[str, object]) -> list[str]:
    return [key for key in params if key.startswith(f"{part}.")]


def _made(name: str, params: Mapping[str, object]) -> Sampler:
    if name not in SAMPLERS:
        raise ConfigError(
            f"got sampler {name!r}, expected one of {', '.join(SAMPLERS)}, or several joined by +",
            fix="correct the sampler's name",
        )
    allowed = list(inspect.signature(SAMPLERS[name]).parameters)
    unknown = sorted(set(params) - set(allowed))
    if unknown:
        raise ConfigError(
            f"sampler {name}: got parameter {unknown[0]!r}, expected {', '.join(allowed) or 'none'}",
            fix="remove or rename the parameter",
        )
    return SAMPLERS[name](**params)
