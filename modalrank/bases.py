"""Which base models a stack is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from ensembles.oof import Base
from features.builder import CONTEXT, FeatureModel
from features.frame import RankingFrame
from features.retrievers import BEHAVIOUR
from modalrank.config import FUSED, NEURAL, BaseConfig, Config
from rankers.block_ranker import BlockRanker
from rankers.column_ranker import ColumnRanker
from rankers.protocol import OnRound, Ranker
from rankers.registry import make_ranker

# Last items that a frame tells a transformer at least, which may look at fewer.
SEQUENCE = 20


@dataclass(frozen=True)
class BaseSet:
    """The bases of a stack.

    Attributes
    ----------
    blocks
        Base name to the blocks of features that it reads.
    families
        Families of the learned ones.
    """

    bases: tuple[Base, ...]
    blocks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    families: frozenset[str] = frozenset()

    @property
    def modality(self) -> dict[str, str]:
        """Base name to the modality that it cannot do without."""
        return {base.name: base.modality for base in self.bases if base.modality is not None}


def base_set(config: Config, model: FeatureModel, frame: RankingFrame) -> BaseSet:
    """Return the retrievers of the model as they are, and the learned bases of the config.

    With `bases: auto` these are one LightGBM ranker a modality and fused rankers of every family on all
    blocks; of the transformer only where `neural` asks for it.
    """
    bases: list[Base] = []
    blocks: dict[str, tuple[str, ...]] = {}
    for retriever in model.retrievers:
        told = retriever.block in model.modalities and retriever.name != "popularity"
        needs = retriever.block if told else None
        bases.append(Base(retriever.name, _column_maker(f"{retriever.name}.score"), needs))
        blocks[retriever.name] = (retriever.block,)
    specs = learned_bases(config, frame)
    for spec in specs:
        maker, modality = ranker_maker(config, spec, frame)
        bases.append(Base(spec.name, maker, modality))
        blocks[spec.name] = _blocks_of(spec, frame)
    return BaseSet(tuple(bases), blocks, frozenset(spec.family for spec in specs))


def learned_bases(config: Config, frame: RankingFrame) -> list[BaseConfig]:
    """Return the learned bases of a config, or the default ones for the blocks of a frame."""
    if config.bases != "auto":
        return config.bases
    specs = []
    for name in frame.blocks:
        if name == BEHAVIOUR:
            specs.append(BaseConfig(name=name, family="lightgbm", blocks=[BEHAVIOUR, CONTEXT]))
        elif name != CONTEXT and _varies_within_queries(frame, name):
            specs.append(BaseConfig(name=name, family="lightgbm", blocks=[name]))
    for name, (family, objective) in {**FUSED, **(NEURAL if _has_neural(config) else {})}.items():
        specs.append(BaseConfig(name=name, family=family, objective=objective))
    return specs


def sequence_length(config: Config) -> int:
    """Return how many of the last items of a user the transformers of a config may look at, 0 without any."""
    if config.bases == "auto":
        return SEQUENCE if _has_neural(config) else 0
    asked = [int(spec.given.get("length", 0)) for spec in config.bases if spec.family == "transformer"]
    return max([SEQUENCE, *asked]) if asked else 0


def _has_neural(config: Config) -> bool:
    return config.neural is True or (config.neural == "auto" and find_spec("torch") is not None)


def _varies_within_queries(frame: RankingFrame, block: str) -> bool:
    """Tell modalities of candidates from those of users, which alone rank nothing."""
    columns = list(frame.blocks[block])
    first = frame.features[frame.offsets[:-1]][:, columns].repeat(frame.group_sizes, axis=0)
    here = frame.features[:, columns]
    same = (here == first) | ((here != here) & (first != first))
    return not bool(same.all())


def _column_maker(feature: str) -> Callable[[], Ranker]:
    return lambda: ColumnRanker(feature)


def ranker_maker(
    config: Config, spec: BaseConfig, frame: RankingFrame, on_round: OnRound | None = None
) -> tuple[Callable[[], Ranker], str | None]:
    """Return what makes a fresh ranker of a base, and the modality that it cannot do without."""
    blocks = _blocks_of(spec, frame)
    own = [name for name in blocks if name != CONTEXT]
    modality = own[0] if len(own) == 1 and own[0] in frame.modalities else None

    def make() -> Ranker:
        ranker = make_ranker(
            spec.family,
            objective=spec.objective,
            params=spec.given,
            seed=config.seed,
            device=config.device,
            threads=config.threads,
            on_round=on_round,
        )
        return BlockRanker(ranker, blocks, modality)

    return make, modality


def _blocks_of(spec: BaseConfig, frame: RankingFrame) -> tuple[str, ...]:
    return tuple(frame.blocks) if spec.blocks == "all" else tuple(spec.blocks)
