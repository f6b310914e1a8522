"""Spaces of encoders, candidates and ensembles: what they suggest is legal, and defaults lie within."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field

import numpy as np
import pytest

from ensembles import LADDER, make_meta, make_sampler
from features.encoders import ENCODERS as KINDS
from features.encoders import encoder_parameters, make_encoder
from features.retrievers import check_parameters
from features.retrievers.kinds import BEHAVIOUR_KINDS, FITS, ITEM_MODELS
from modalrank.config import CandidateConfig, LabelConfig
from tuning.spaces import ENCODERS, META_LEARNERS, RETRIEVERS, SAMPLERS, candidates, negatives

NEEDS_MODEL = ("neural_text", "neural_image", "neural_audio", "clip", "attributes")
shares = pytest.mark.parametrize("share", [0.0, 0.4, 0.99])


@dataclass
class AtShare:
    """A trial that suggests the value at a share of every range."""

    share: float
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def suggest_float(self, name, low, high, *, log=False):
        self.ranges[name] = (low, high)
        return float(
            np.clip(low * (high / low) ** self.share if log else low + self.share * (high - low), low, high)
        )

    def suggest_int(self, name, low, high, *, log=False):
        return round(self.suggest_float(name, low, high, log=log))

    def suggest_categorical(self, name, choices):
        return choices[int(self.share * len(choices))]


def test_spaces_cover_every_kind():
    assert set(ENCODERS) == set(KINDS)
    assert set(RETRIEVERS) == set(BEHAVIOUR_KINDS)
    assert set(META_LEARNERS) == set(LADDER)


@shares
@pytest.mark.parametrize("kind", ENCODERS)
def test_encoder_space_suggests_legal_parameters(kind, share):
    params = ENCODERS[kind](AtShare(share))
    assert set(params) <= set(encoder_parameters(kind))
    if kind not in NEEDS_MODEL:
        made = make_encoder(kind, params)
        assert {name: getattr(made, name) for name in params} == params


@shares
@pytest.mark.parametrize("kind", RETRIEVERS)
def test_retriever_space_suggests_legal_parameters_around_the_default(kind, share):
    trial = AtShare(share)
    check_parameters(kind, RETRIEVERS[kind](trial))
    accepted = inspect.signature({**ITEM_MODELS, **FITS}[kind]).parameters
    for name, (low, high) in trial.ranges.items():
        assert low <= accepted[name].default <= high, name


@shares
@pytest.mark.parametrize("name", META_LEARNERS)
def test_meta_space_makes_the_meta_learner_around_its_default(name, share):
    trial = AtShare(share)
    params = META_LEARNERS[name](trial)
    made, default = vars(make_meta(name, params=params)), vars(make_meta(name))
    assert {key: made[key] for key in params} == params
    assert all(low <= default[key] <= high for key, (low, high) in trial.ranges.items())


@shares
@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_space_makes_the_sampler(name, share):
    make_sampler(name, SAMPLERS[name](AtShare(share)))


@shares
def test_candidate_spaces_are_legal_sections_around_the_default(share):
    for space, section in ((candidates, CandidateConfig), (negatives, LabelConfig)):
        trial = AtShare(share)
        section.model_validate(space(trial))
        assert all(low <= getattr(section(), name) <= high for name, (low, high) in trial.ranges.items())
