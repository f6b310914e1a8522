"""The spaces of a config: what a trial changes in it, and what its own settings are called in a study."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

from ensembles import make_meta
from ensembles.samplers import NATURAL, sampler_defaults
from features.encoders import make_encoder
from features.retrievers.kinds import FITS, ITEM_MODELS
from modalrank.config import BaseConfig, Config
from modalrank.feature_settings import retrievers_of
from modalrank.ladder import UNWEIGHED
from modalrank.retriever_config import RetrieverConfig
from modalrank.tuning_job.command import Part
from rankers.registry import make_ranker
from tuning.spaces import (
    ENCODERS,
    META_LEARNERS,
    RANKERS,
    RETRIEVERS,
    SAMPLERS,
    Given,
    Scoped,
    Suggests,
    Value,
    candidates,
    negatives,
    settings_of,
)


def with_base(spec: BaseConfig, trial: Suggests) -> BaseConfig:
    """Return a base with the parameters that a trial suggests."""
    return _with_params(spec, RANKERS[spec.family](trial))


def base_defaults(spec: BaseConfig) -> dict[str, Value]:
    """Return the setting of a base that nobody has tuned."""
    ranker = make_ranker(spec.family, objective=spec.objective, params=spec.given)
    return settings_of(RANKERS[spec.family], vars(ranker))


def with_ensemble(config: Config, trial: Suggests) -> tuple[Config, str]:
    """Return the config with the meta-learner's and the sampler's parameters, and the meta-learner's name.

    The sampler is only asked for where the meta-learner gives weights, which are learned from what it draws.
    """
    ensemble = config.ensemble
    name = str(trial.suggest_categorical("meta", tuple(ensemble.ladder)))
    changed: dict[str, Any] = {}
    params = META_LEARNERS[name](Scoped(trial, f"{name}."))
    if params:
        changed["params"] = {**ensemble.params, name: {**ensemble.params.get(name, {}), **params}}
    if name not in UNWEIGHED:
        sampler = str(trial.suggest_categorical("sampling", tuple(SAMPLERS)))
        drawn = SAMPLERS[sampler](Scoped(trial, f"{sampler}."))
        kept = ensemble.sampling_params if sampler == ensemble.sampling else {}
        changed |= {"sampling": sampler, "sampling_params": {**kept, **drawn}}
    return config.model_copy(update={"ensemble": ensemble.model_copy(update=changed)}), name


def ensemble_defaults(config: Config) -> list[dict[str, Value]]:
    """Return the setting of every rung of the ladder that nobody has tuned."""
    ensemble = config.ensemble
    known = ensemble.drawn_by in SAMPLERS
    values: dict[str, Value] = {"sampling": ensemble.drawn_by if known else NATURAL}
    for sampler in SAMPLERS:
        values |= _scoped(f"{sampler}.", sampler_defaults(sampler))
    values |= _scoped(f"{ensemble.sampling}.", ensemble.sampling_params)
    found = []
    for name in ensemble.ladder:
        values |= _scoped(f"{name}.", vars(make_meta(name, params=ensemble.params.get(name))))
        given = Given({**values, "meta": name})
        with_ensemble(config, given)
        found.append(given.asked)
    return found


def with_parts(config: Config, parts: tuple[Part, ...], trial: Suggests) -> tuple[Config, str | None]:
    """Return the config in which a trial sets some parts, and the meta-learner if it is one of them.

    The bases of the config must be named, not `auto`.
    """
    meta = None
    if "encoders" in parts:
        config = _with_encoders(config, Scoped(trial, "encoders."))
    if "candidates" in parts and config.data.form == "log":
        config = _with_candidates(config, Scoped(trial, "candidates."))
    if "bases" in parts:
        specs = cast("list[BaseConfig]", config.bases)
        bases = [with_base(spec, Scoped(trial, f"bases.{spec.name}.")) for spec in specs]
        config = config.model_copy(update={"bases": bases})
    if "ensemble" in parts:
        config, meta = with_ensemble(config, Scoped(trial, "ensemble."))
    return config, meta


def parts_defaults(config: Config, parts: tuple[Part, ...]) -> list[dict[str, Value]]:
    """Return the untuned setting of some parts; with the ensemble among them one for every rung."""
    values: dict[str, Value] = {}
    for name, modality in config.modalities.items():
        encoder = make_encoder(modality.encoder, modality.params)
        values |= _scoped(f"encoders.{name}.", vars(encoder))
    values |= _scoped("candidates.", {**vars(config.candidates), **_first_labels(config)})
    for retriever in retrievers_of(config):
        values |= _scoped(f"candidates.{retriever.kind}.", _retriever_values(retriever))
    for spec in config.bases if config.bases != "auto" else []:
        values |= _scoped(f"bases.{spec.name}.", base_defaults(spec))
    rungs: list[dict[str, Value]] = ensemble_defaults(config) if "ensemble" in parts else [{}]
    found = []
    for rung in rungs:
        given = Given({**values, **_scoped("ensemble.", rung)})
        with_parts(config, parts, given)
        found.append(given.asked)
    return found


def _with_encoders(config: Config, trial: Suggests) -> Config:
    modalities = {}
    for name, modality in config.modalities.items():
        own = modality.table != "interactions" and modality.space is None
        tried = ENCODERS[modality.encoder](Scoped(trial, f"{name}.")) if own else {}
        params = {**modality.params, **tried}
        modalities[name] = modality.model_copy(update={"params": params}) if tried else modality
    return config.model_copy(update={"modalities": modalities})


def _with_candidates(config: Config, trial: Suggests) -> Config:
    retrievers = []
    for given in retrievers_of(config):
        tried = RETRIEVERS[given.kind](Scoped(trial, f"{given.kind}."))
        fixed = {name: value for name, value in _retriever_values(given).items() if name in _named(given)}
        retrievers.append(RetrieverConfig(kind=given.kind, params={**fixed, **tried}))
    numbers = {**candidates(trial), "retrievers": retrievers}
    section = config.candidates.model_copy(update=numbers)
    labels = config.labels.model_copy(update=negatives(trial))
    return config.model_copy(update={"candidates": section, "labels": labels})


def _with_params(spec: BaseConfig, params: Mapping[str, Value]) -> BaseConfig:
    return spec.model_copy(update={"params": {**spec.params, **params}})


def _named(retriever: RetrieverConfig) -> set[str]:
    return set(retriever.grids[0])


def _retriever_values(retriever: RetrieverConfig) -> dict[str, Value]:
    """Return the defaults of a kind, and the first value of each grid before them."""
    accepted = inspect.signature({**ITEM_MODELS, **FITS}[retriever.kind]).parameters.values()
    values = {p.name: p.default for p in accepted if isinstance(p.default, int | float)}
    first = {name: v[0] if isinstance(v, list) else v for name, v in retriever.grids[0].items()}
    return {**values, **first}


def _first_labels(config: Config) -> dict[str, Value]:
    labels = config.labels
    given = {"negatives": labels.negatives, "hard_negatives": labels.hard_negatives}
    return {name: value[0] if isinstance(value, list) else value for name, value in given.items()}


def _scoped(prefix: str, values: Mapping[str, Any]) -> dict[str, Value]:
    return {prefix + name: value for name, value in values.items()}
