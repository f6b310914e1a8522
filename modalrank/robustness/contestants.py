"""Who is compared while vectors disappear, and the bases of a training run that are kept for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ensembles import MetaLearner
from ensembles.oof import Base, fit_base
from ensembles.stack import Stack
from features.builder import CONTEXT
from features.errors import DataError
from features.frame import RankingFrame
from features.retrievers import BEHAVIOUR
from modalrank.bases import ranker_maker
from modalrank.config import BaseConfig, Config
from modalrank.evaluation import Values
from modalrank.training import TrainResult
from rankers.block_ranker import BlockRanker
from rankers.lightgbm_ranker import LightGBMRanker
from rankers.protocol import Ranker
from rankers.registry import load_ranker

ENSEMBLE, FUSION, BEST, BEHAVIOUR_ONLY = "ensemble", "early fusion", "best single", "behaviour only"
FILE_NAME = "references.json"
FUSION_NAME = "early_fusion"


@dataclass(frozen=True)
class Contestants:
    """Meta-learners and single bases over one set of bases, which score every list once.

    Attributes
    ----------
    stack
        At least the bases that anybody reads; its own meta-learner is not asked.
    metas
        Name to ensemble.
    roles
        Name to the base that plays this part alone.
    """

    stack: Stack
    metas: Mapping[str, MetaLearner]
    roles: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The ensembles, then the bases."""
        return (*self.metas, *self.roles)

    def scores(self, frame: RankingFrame) -> dict[str, Values]:
        """Return the (n_rows,) scores of everybody, NaN where a base alone has no opinion."""
        said = self._read.base_scores(frame)
        of_bases = {name: said.scores[:, said.bases.index(base)] for name, base in self.roles.items()}
        return {name: meta.score(said) for name, meta in self.metas.items()} | of_bases

    @cached_property
    def _read(self) -> Stack:
        """The stack with the bases that anybody reads."""
        read = [name for meta in self.metas.values() for name in meta.bases_used()]
        return self.stack.keeping([*read, *self.roles.values()])


@dataclass(frozen=True)
class References:
    """Bases that an ensemble is compared with.

    Attributes
    ----------
    bases, base_modality
        Fitted rankers by name, and the modality that each cannot do without.
    roles
        `early fusion`: a LightGBM with lambdarank on all blocks. `best single`: the base that is best on
        validation. `behaviour only`: the best there of those that read nothing but behaviour and context.
        A part that no base of the run plays is absent.
    """

    bases: Mapping[str, Ranker]
    base_modality: Mapping[str, str]
    roles: Mapping[str, str]

    def save(self, folder: Path) -> None:
        """Write into an existing empty folder, without pickle."""
        facts = {"roles": dict(self.roles), "base_modality": dict(self.base_modality)}
        (folder / FILE_NAME).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        for name, base in self.bases.items():
            own = folder / name
            own.mkdir()
            base.save(own)

    @classmethod
    def load(cls, folder: Path) -> References:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            If there is nothing.
        """
        if not (folder / FILE_NAME).is_file():
            raise DataError(
                "this version was registered without bases to compare it with",
                fix="train it again",
                file=str(folder),
            )
        facts = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        names = sorted(set(facts["roles"].values()))
        bases = {name: load_ranker(folder / name) for name in names}
        return cls(bases, facts["base_modality"], facts["roles"])

    def beside(self, stack: Stack, ensemble: str = ENSEMBLE) -> Contestants:
        """Return the contest of a stack's meta-learner with these."""
        both = replace(
            stack,
            bases={**stack.bases, **self.bases},
            base_modality={**stack.base_modality, **self.base_modality},
        )
        return Contestants(both, {ensemble: stack.meta}, self.roles)

    def with_fusion(self, config: Config, frame: RankingFrame) -> References:
        """Return these and an early fusion, fitted on training queries."""
        spec = BaseConfig(name=FUSION_NAME, family="lightgbm", objective="lambdarank")
        maker, _ = ranker_maker(config, spec, frame)
        ranker = fit_base(Base(FUSION_NAME, maker), frame, config.seed)
        roles = {FUSION: FUSION_NAME, **self.roles}
        return References({**self.bases, FUSION_NAME: ranker}, self.base_modality, roles)


def references_of(result: TrainResult) -> References:
    """Return the bases of a training run that its ensemble is to be compared with."""
    ranked = [standing.name for standing in result.standings if standing.role != "meta"]
    own = [name for name in ranked if set(result.blocks[name]) <= {BEHAVIOUR, CONTEXT}]
    content = {
        name for name, modality in result.dataset.config.modalities.items() if modality.table != "users"
    }
    everything = content | ({BEHAVIOUR} & set(result.model.modalities))
    fused = [name for name in ranked if _fuses(result.stack.bases[name], everything)]
    found = {FUSION: fused[:1], BEST: ranked[:1], BEHAVIOUR_ONLY: own[:1]}
    roles = {role: names[0] for role, names in found.items() if names}
    stack = result.stack
    return References(
        {name: stack.bases[name] for name in sorted(set(roles.values()))},
        {name: stack.base_modality[name] for name in set(roles.values()) & set(stack.base_modality)},
        roles,
    )


def _fuses(base: Ranker, everything: set[str]) -> bool:
    inner = base.ranker if isinstance(base, BlockRanker) else None
    lambdarank = isinstance(inner, LightGBMRanker) and inner.objective == "lambdarank"
    return lambdarank and isinstance(base, BlockRanker) and everything <= set(base.blocks)
