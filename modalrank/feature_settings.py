"""What a config asks of features and candidates."""

from __future__ import annotations

import numpy as np

from features.builder import FeatureSettings
from features.encoders import CategoryEncoder
from features.filling import filled
from features.history import History
from features.space import Space
from modalrank.bases import sequence_length
from modalrank.config import Config
from modalrank.retriever_config import RetrieverConfig, default_retrievers


def retrievers_of(config: Config) -> list[RetrieverConfig]:
    """Return the behaviour retrievers of a config, the default ones where it names none."""
    given = config.candidates.retrievers
    if given != "auto":
        return given
    timed, staged = config.data.columns.time is not None, config.protocol == "full"
    return list(default_retrievers(timed=timed, staged=staged))


def feature_settings(config: Config) -> FeatureSettings:
    """Return the settings of features and candidates that a config asks for."""
    return FeatureSettings(
        per_source=config.candidates.per_source,
        new_per_source=config.candidates.new_per_source,
        depths={r.kind: r.depth for r in retrievers_of(config) if r.depth is not None},
        last_k=config.last_k if config.data.columns.time is not None else 0,
        components=config.components,
        exclude_seen=config.candidates.exclude_seen,
        contrast=config.data.columns.label is not None,
        exclude=tuple(config.exclude_features),
        sequence=sequence_length(config),
        meetings=tuple((name, m.space) for name, m in config.modalities.items() if m.space is not None),
        categories=tuple(name for name, m in config.modalities.items() if m.encoder == CategoryEncoder.kind),
        filling=config.fillings[0],
    )


def filled_items(items: Space, history: History, config: Config) -> Space:
    """Fill the vectors that items lack, as the config says."""
    settings = feature_settings(config)
    everything = np.ones(history.n_items, dtype=bool)
    return filled(items, history.liked, settings.filling, sources=everything, fixed=settings.categories)
