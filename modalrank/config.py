"""The config: checked before anything runs, unknown keys are errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ensembles import LADDER, SAMPLERS, make_meta, make_sampler
from ensembles.samplers import NATURAL
from features.builder import CONTEXT
from features.encoders import ENCODERS, make_encoder
from features.errors import ConfigError
from features.filling import METHODS, Method
from features.retrievers import BEHAVIOUR, BEHAVIOUR_KINDS, CONTENT, check_parameters
from modalrank.config_file import apply_override, expand_variables, read_yaml
from modalrank.config_keys import nearest_key
from modalrank.judging import JudgeConfig
from modalrank.label_config import LabelConfig
from modalrank.media import MediaConfig
from modalrank.retriever_config import RetrieverConfig
from rankers.registry import make_ranker
from rankers.transformer_ranker import require_torch

# How pydantic names, in the path of an error, the member of a union that it tried.
UNION_MEMBER = re.compile(r"function-.*|(list|dict|literal)\[.*|int|float|str|bool")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# The fused rankers that `bases: auto` adds: name to family and objective.
FUSED = {
    "fused_lightgbm": ("lightgbm", "lambdarank"),
    "fused_xendcg": ("lightgbm", "rank_xendcg"),
    "fused_xgboost": ("xgboost", "rank:ndcg"),
    "fused_catboost": ("catboost", "QueryRMSE"),
    "fused_linear": ("linear", None),
}
# What it adds where `neural` asks for it.
NEURAL = {"fused_transformer": ("transformer", None)}
# The sampler that is chosen on validation.
AUTO = "auto"
Files = str | list[str]
Scalar = int | float | str | bool | None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnNames(_Strict):
    """Names of the columns of the interaction table."""

    query: str = "user_id"
    item: str = "item_id"
    label: str | None = None
    time: str | None = None
    weight: str | None = None
    split: str | None = None


class DataConfig(_Strict):
    """Where the tables are and how to read them."""

    root: str = Field(
        ".", description="folder of the tables, relative to the config; ${NAME:-default} is expanded"
    )
    interactions: str | dict[Literal["train", "valid", "test"], Files] = "interactions.parquet"
    items: str | None = None
    users: str | None = None
    item_id: str = "item_id"
    user_id: str = "user_id"
    form: Literal["log", "judged"] = "log"
    presorted: bool = False
    duplicates: Literal["error", "last"] = "error"
    positive_from: float = Field(1.0, description="a label from here on is a positive")
    columns: ColumnNames = ColumnNames()

    def path(self, name: str) -> Path:
        """Return the path of a file named in the config."""
        return Path(self.root) / name

    def interaction_files(self) -> dict[str | None, list[Path]]:
        """Return split name (None where the files do not tell it) to the files."""
        if isinstance(self.interactions, str):
            return {None: [self.path(self.interactions)]}
        files: dict[str | None, list[Path]] = {}
        for split, names in self.interactions.items():
            files[split] = [self.path(name) for name in ([names] if isinstance(names, str) else names)]
        return files


class SplitConfig(_Strict):
    """How interactions are cut into train, valid and test."""

    by: Literal["column", "user_time", "global_time", "query"] = "column"
    valid: float = Field(0.1, gt=0, lt=0.5)
    test: float = Field(0.2, gt=0, lt=0.5)


class ModalityConfig(_Strict):
    """One modality: the table and columns it comes from, and its encoder."""

    table: Literal["items", "users", "interactions"] = "items"
    columns: list[str] = Field(min_length=1)
    encoder: str
    params: dict[str, Scalar | dict[str, list[str]]] = {}
    space: str | None = Field(
        None, description="users: the item modality whose encoder is taken, so that users meet its items"
    )

    @field_validator("encoder")
    @classmethod
    def _known_encoder(cls, encoder: str) -> str:
        if encoder not in ENCODERS:
            near = difflib.get_close_matches(encoder, ENCODERS, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"expected one of {', '.join(ENCODERS)}{hint}")
        return encoder

    @model_validator(mode="after")
    def _rows_are_numeric(self) -> ModalityConfig:
        if self.table == "interactions" and self.encoder != "numeric":
            raise ValueError(
                "a modality of the interactions table is used as it is: encoder must be 'numeric'"
            )
        return self


class CandidateConfig(_Strict):
    """Where candidates of the log form come from."""

    retrievers: list[RetrieverConfig] | Literal["auto"] = "auto"
    content: bool = Field(True, description="reach items by what they are like, in every item modality")
    content_neighbours: int = Field(50, ge=1)
    per_source: int = Field(30, ge=1, le=10_000, description="best items that every source adds")
    new_per_source: int = Field(
        10, ge=0, description="items without an interaction that each content source adds"
    )
    exclude_seen: bool = True

    @model_validator(mode="after")
    def _distinct(self) -> CandidateConfig:
        if self.retrievers == "auto":
            return self
        kinds = [retriever.kind for retriever in self.retrievers]
        if len(set(kinds)) != len(kinds):
            raise ValueError("each kind of retriever may be named once")
        return self


class BaseConfig(_Strict):
    """One base ranker."""

    name: str
    family: Literal["lightgbm", "xgboost", "catboost", "linear", "transformer"]
    objective: str | None = None
    blocks: list[str] | Literal["all"] = "all"
    params: dict[str, Scalar] = {}

    @property
    def given(self) -> dict[str, Any]:
        """Return the parameters that are not left to the ranker's default."""
        return {name: value for name, value in self.params.items() if value is not None}


class EnsembleConfig(_Strict):
    """The meta-learner ladder and its gate."""

    k: int = Field(20, ge=1, le=1000)
    ladder: list[str] = list(LADDER)
    params: dict[str, dict[str, int | float]] = Field(
        {}, description="parameters of meta-learners, by their names"
    )
    queries: int = Field(
        1000, ge=20, description="strict: queries scored out of fold with all candidates, at most"
    )
    judges: int = Field(
        10_000, ge=20, description="queries that choose, drawn at random where there are more"
    )
    reserve: int = Field(
        16, ge=0, description="most of the first k places that may be kept for items without an interaction"
    )
    sampling: str = Field(
        AUTO,
        description=f"what draws the queries to learn from: auto, {', '.join(SAMPLERS)}, or some joined by +",
    )
    sampling_params: dict[str, Scalar] = {}
    bootstrap_draws: int = Field(2000, ge=100)

    @property
    def drawn_by(self) -> str:
        """The sampler by name; under auto the natural one, until another one is chosen."""
        return NATURAL if self.sampling == AUTO else self.sampling

    @model_validator(mode="after")
    def _starts_single(self) -> EnsembleConfig:
        if self.ladder[:1] != ["best_single"]:
            raise ValueError("the ladder starts with 'best_single', which is always a legal answer")
        unknown = [name for name in (*self.ladder, *self.params) if name not in LADDER]
        if unknown:
            raise ValueError(f"unknown meta-learner {unknown[0]!r}, known are {', '.join(LADDER)}")
        return self


class TrackingConfig(_Strict):
    """Where runs and models are recorded; the variable MLFLOW_TRACKING_URI overrides `uri`."""

    uri: str = "sqlite:///mlruns/mlflow.db"
    experiment: str = "modalrank"


class Config(_Strict):
    """Everything a training run is told."""

    name: str = Field("modalrank", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = Field(0, ge=0)
    threads: int = Field(0, ge=0, description="0 means all cores")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    protocol: Literal["strict", "full"] = "full"
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    modalities: dict[str, ModalityConfig] = {}
    media: MediaConfig = MediaConfig()
    judge: JudgeConfig | None = None
    candidates: CandidateConfig = CandidateConfig()
    labels: LabelConfig = LabelConfig()
    components: int = Field(4, ge=0, le=1000, description="components of a vector that become features")
    filling: Method | list[Method] | Literal["auto"] = Field(
        "none", description="guesses for missing vectors of items; auto or a list is judged on validation"
    )
    last_k: int = Field(5, ge=1)
    exclude_features: list[str] = Field(
        [], description="features that no base sees, by name; * stands for anything"
    )
    bases: list[BaseConfig] | Literal["auto"] = "auto"
    neural: bool | Literal["auto"] = Field(
        False, description="bases auto: add a transformer; auto means where torch is installed"
    )
    ensemble: EnsembleConfig = EnsembleConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def fillings(self) -> tuple[Method, ...]:
        """The ways of filling to choose among, none first."""
        given = METHODS if self.filling == "auto" else self.filling
        several = [given] if isinstance(given, str) else given
        return tuple(several) if len(several) == 1 else ("none", *(m for m in several if m != "none"))

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        for name, modality in self.modalities.items():
            if name in {BEHAVIOUR, CONTENT, CONTEXT, *BEHAVIOUR_KINDS, *LADDER, *FUSED, *NEURAL}:
                raise ValueError(f"a modality must not be named {name!r}, which means something already")
            if not NAME.fullmatch(name):
                raise ValueError(f"modality {name!r}: a name has letters, digits, '_' and '-' only")
            if modality.table != "interactions" and getattr(self.data, modality.table) is None:
                raise ValueError(
                    f"modality {name!r} comes from the {modality.table}, but data.{modality.table} is not set"
                )
            self._check_space(name, modality)
            if modality.table == "interactions" and self.data.form == "log":
                raise ValueError(f"modality {name!r} comes with the rows, which only the judged form has")
        if self.data.form == "log" and self.data.columns.weight is not None:
            raise ValueError("data.columns.weight: only queries of the judged form have weights")
        content = self.candidates.content and any(m.table == "items" for m in self.modalities.values())
        if self.data.form == "log" and not self.candidates.retrievers and not content:
            raise ValueError(
                "candidates: a log needs a source of candidates, a retriever or content with an item modality"
            )
        if self.bases != "auto":
            self._check_bases(self.bases)
        return self

    def _check_space(self, name: str, modality: ModalityConfig) -> None:
        if modality.space is None:
            return
        meets = self.modalities.get(modality.space)
        alike = meets is not None and (meets.table, meets.encoder) == ("items", modality.encoder)
        if modality.table != "users" or not alike:
            raise ValueError(
                f"modality {name!r}: space must name an item modality of the same encoder, for users"
            )

    def _check_bases(self, bases: Sequence[BaseConfig]) -> None:
        names = [base.name for base in bases]
        if len(set(names)) != len(names):
            raise ValueError("bases: every name may occur once")
        taken = {*BEHAVIOUR_KINDS, *LADDER, *(f"{name}_neighbours" for name in self.modalities)}
        taken |= {f"{kind}_{CONTENT}" for kind in BEHAVIOUR_KINDS} | {f"{CONTENT}_knn"}
        for name in names:
            if name in taken or not NAME.fullmatch(name):
                raise ValueError(f"bases: {name!r} is taken, or has more than letters, digits, '_' and '-'")
        blocks = {*self.modalities, BEHAVIOUR, CONTENT, CONTEXT}
        for base in bases:
            unknown = set(base.blocks) - blocks if base.blocks != "all" else set()
            if unknown:
                raise ValueError(
                    f"base {base.name!r}: unknown block {sorted(unknown)[0]!r}, known are {sorted(blocks)}"
                )


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML config, apply `a.b=c` overrides and check it.

    `data.root` is relative to the config's folder, and `${NAME:-default}` in it is an environment variable
    with its default; a root given by an override is taken as it is, relative to the working folder.

    Raises
    ------
    ConfigError
        If the file is missing or no YAML, a key is unknown, a value is of the wrong type or range, or a
        transformer is asked for and torch is not installed.
    """
    raw = read_yaml(path)
    given = {apply_override(raw, override) for override in overrides}
    data = raw.setdefault("data", {})
    if isinstance(data, dict) and "data.root" not in given:
        data["root"] = str(path.parent / expand_variables(str(data.get("root", "."))))
    config = parse_config(raw, str(path))
    named = [] if config.bases == "auto" else [base.family for base in config.bases]
    if config.neural is True or "transformer" in named:
        require_torch("the config asks for a transformer, which")
    if config.labels.generated or config.labels.synthetic_negatives:
        require_torch(
            "the config asks for a generator, which", "set labels.generated and synthetic_negatives to 0"
        )
    return config


def parse_config(raw: Mapping[str, Any], file: str) -> Config:
    """Check a config that is already a mapping; raises ConfigError with the key and the nearest valid one."""
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        # A mistyped key is also missing under its right name, which says less, and of the members of a union
        # the one that fits furthest is the one that was meant.
        first = min(error.errors(), key=lambda e: (e["type"] != "extra_forbidden", -len(e["loc"])))
        where = [part for part in first["loc"] if not UNION_MEMBER.fullmatch(str(part))]
        key = ".".join(str(part) for part in where) or "the config"
        if first["type"] == "extra_forbidden":
            fix = nearest_key(Config.model_json_schema(), where)
            raise ConfigError(f"unknown config key {key!r}", fix=fix, file=file) from None
        message = first["msg"].removeprefix("Value error, ")
        got = first["input"] if isinstance(first["input"], Scalar) else type(first["input"]).__name__
        raise ConfigError(
            f"config key {key!r}: {message}, got {got!r}",
            fix="modalrank train CONFIG --print-config shows a config in full",
            file=file,
        ) from None
    try:
        _check_parameters(config)
    except ConfigError as error:
        raise ConfigError(error.problem, fix=error.fix, file=file) from error
    return config


def _check_parameters(config: Config) -> None:
    """Make what has parameters of its own once, so that a bad one is told before anything runs."""
    for modality in config.modalities.values():
        make_encoder(modality.encoder, modality.params)
    given = config.candidates.retrievers
    for retriever in [] if given == "auto" else given:
        for grid in retriever.grids:
            check_parameters(retriever.kind, grid)
    for base in [] if config.bases == "auto" else config.bases:
        make_ranker(base.family, objective=base.objective, params=base.given)
    for name, params in config.ensemble.params.items():
        make_meta(name, params=params)
    if config.ensemble.sampling == AUTO and config.ensemble.sampling_params:
        raise ConfigError("ensemble.sampling_params: auto takes none", fix="name a sampler, or remove them")
    make_sampler(config.ensemble.drawn_by, config.ensemble.sampling_params)


def dump_config(config: Config) -> str:
    """Return the config as YAML with every default filled in."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
