"""Search spaces: plain functions from a trial to parameters, by the name of what they set."""

from tuning.spaces.candidates import RETRIEVERS, candidates, negatives
from tuning.spaces.encoders import ENCODERS
from tuning.spaces.ensembles import META_LEARNERS, SAMPLERS
from tuning.spaces.rankers import RANKERS
from tuning.spaces.trial import Given, Scoped, Space, Suggests, Value, settings_of

__all__ = [
    "ENCODERS",
    "META_LEARNERS",
    "RANKERS",
    "RETRIEVERS",
    "SAMPLERS",
    "Given",
    "Scoped",
    "Space",
    "Suggests",
    "Value",
    "candidates",
    "negatives",
    "settings_of",
]
