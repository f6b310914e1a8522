"""The job behind `modalrank judge`: a language model's opinion of the best candidates of a score file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from features.errors import ConfigError, DataError
from features.history import IdIndex
from features.language import Answers, Budget, Endpoint, EndpointSettings, Judge, LanguageModel, LocalModel
from features.table_files import read_table

JUDGED_FILE = "judged.parquet"
ANSWERS_FILE = "answers.sqlite"


class JudgeConfig(BaseModel):
    """The language model that judges, and what it is told of a person and an item."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(description="folder of a local model, or its name at the endpoint")
    endpoint: str | None = Field(None, description="base URL of an OpenAI-compatible server; texts go there")
    revision: str | None = None
    download: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    key_variable: str | None = Field(None, description="environment variable that holds the endpoint's key")
    timeout: float = Field(30.0, gt=0)
    retries: int = Field(4, ge=0)
    per_minute: float | None = Field(None, gt=0, description="most calls a minute")
    calls: int = Field(1000, ge=0, description="most calls of a run, retries included")
    tokens: int = Field(1_000_000, ge=0, description="most tokens of a run")
    top: int = Field(20, ge=1, description="candidates of a user that are judged, from the best")
    liked: int = Field(10, ge=0, description="last liked items that the model is told of")
    history: Literal["train", "valid", "all"] = Field("all", description="the last split that it is told of")
    item_columns: list[str] = Field(min_length=1, description="the first one names an item among the likes")
    user_columns: list[str] = []
    picture: str | None = Field(None, description="item column of image files, told in words")
    sound: str | None = Field(None, description="item column of sound files, told in words")


@dataclass(frozen=True)
class JudgedFile:
    """A published file of judgements.

    Attributes
    ----------
    asked, known
        Pairs that the model was asked about now, and those answered by earlier runs.
    unjudged
        Pairs without a relevance: the model considered neither answer, or the budget was spent.
    spent
        Which budget was spent, or None.
    """

    file: Path
    rows: int
    asked: int
    known: int
    unjudged: int
    spent: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "file": str(self.file)}


def judge_scores(config: Any, scores: Path, folder: Path, say: Callable[[str], None]) -> JudgedFile:  # noqa: ANN401
    """Judge the best candidates of each query of a score file; the file appears by one rename.

    Raises
    ------
    ConfigError
        If the config has no section `judge`.
    DataError
        If a table lacks a column, or the endpoint refuses.
    TryAgainError
        If the endpoint does not answer; what it answered before is kept for the next run.
    """
    from modalrank.dataset import load_dataset

    settings: JudgeConfig | None = config.judge
    if settings is None:
        raise ConfigError("the config has no section judge", fix="name judge.model and judge.item_columns")
    best = _best(scores, settings.top)
    say("read and check the tables")
    dataset = load_dataset(config)
    items = _facts(config, "items", settings.item_columns, say)
    users = _facts(config, "users", settings.user_columns, say) if settings.user_columns else {}
    _add_media(config, settings, best, items)
    people = _people(dataset, settings, best["query"].unique(), items, users)
    judge = Judge(_model(settings), _answers(config))
    relevance: list[float | None] = []
    asked = known = 0
    for done, (query, item) in enumerate(best.select("query", "item").iter_rows()):
        if done % 50 == 0:
            say(f"judge {done:,} of {len(best):,} pairs")
        judgement = judge.relevance(people[query], items.get(item, {}))
        relevance.append(judgement.relevance)
        asked += judgement.asked
        known += not judgement.asked and judgement.relevance is not None
    judged = best.with_columns(pl.Series("relevance", relevance, dtype=pl.Float64))
    folder.mkdir(parents=True, exist_ok=True)
    target, temporary = folder / JUDGED_FILE, folder / f".{JUDGED_FILE}.{os.getpid()}.tmp"
    try:
        judged.write_parquet(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return JudgedFile(target, len(judged), asked, known, relevance.count(None), judge.spent)


def _best(scores: Path, top: int) -> pl.DataFrame:
    """Return the first `top` rows of each query, as `modalrank score` ranked them."""
    names = ["query", "item", "score", "rank"]
    files = sorted(scores.rglob("part-*.parquet")) if scores.is_dir() else [scores]
    table = pl.concat([read_table(file, names, ["query", "item"]) for file in files or [scores]])
    ids = table.with_columns(pl.col("query", "item").cast(pl.String))
    best = ids.filter(pl.col("rank") <= top).sort("query", "rank")
    if best["query"].null_count() or best["item"].null_count():
        raise DataError("got a null id", fix="give the file that modalrank score wrote", file=str(scores))
    return best


def _model(settings: JudgeConfig) -> LanguageModel:
    if settings.endpoint is None:
        return LocalModel(settings.model, settings.revision, settings.download, settings.device)
    where = EndpointSettings(
        settings.endpoint, settings.model, settings.key_variable, settings.timeout, settings.retries
    )
    return Endpoint(where, Budget(settings.calls, settings.tokens, settings.per_minute))


def _answers(config: Any) -> Answers | None:  # noqa: ANN401
    from modalrank.media import cache_folder

    folder = cache_folder(config.media)
    return Answers(folder / ANSWERS_FILE) if folder else None


Described = dict[str, dict[str, str | list[str]]]


def _facts(config: Any, table: str, columns: list[str], say: Callable[[str], None]) -> Described:  # noqa: ANN401
    """Return id to the named columns in words, those without a value left out."""
    from features.tables import read_entities
    from modalrank.dataset import id_column

    name = getattr(config.data, table)
    if name is None:
        raise ConfigError(f"judge tells of {table}, but data.{table} is not set", fix=f"set data.{table}")
    say(f"read {table}")
    rows = read_entities(config.data.path(name), id_column(config, table), columns)
    facts: Described = {}
    for row in rows.select("id", *columns).iter_rows(named=True):
        key = row.pop("id")
        facts[key] = {
            column: _in_words(value) for column, value in row.items() if value not in (None, "", [])
        }
    return facts


def _in_words(value: object) -> str | list[str]:
    return [str(part) for part in value] if isinstance(value, list) else str(value)


def _add_media(config: Any, settings: JudgeConfig, best: pl.DataFrame, items: Described) -> None:  # noqa: ANN401
    """Add pictures and sounds of the candidates in words; what cannot be read is not told of."""
    from features.language.words import picture_in_words, sound_in_words
    from features.tables import read_entities
    from modalrank.dataset import id_column

    for column, tell in ((settings.picture, picture_in_words), (settings.sound, sound_in_words)):
        if column is None:
            continue
        file = config.data.path(config.data.items)
        table = read_entities(file, id_column(config, "items"), [column])
        wanted = table.filter(pl.col("id").is_in(best["item"].unique().implode())).drop_nulls(column)
        for key, name in wanted.select("id", column).iter_rows():
            # Decoders raise errors of any type on broken bytes, and one file must not end a run.
            try:
                items.setdefault(key, {})[f"{column} in words"] = tell(file.parent, name)
            except Exception:
                continue


def _people(
    dataset: Any,  # noqa: ANN401
    settings: JudgeConfig,
    queries: pl.Series,
    items: Described,
    users: Described,
) -> Mapping[str, dict[str, str | list[str]]]:
    """Return query to its profile: the user's columns, and the names of the last liked items."""
    splits = {"train": ["train"], "valid": ["train", "valid"], "all": ["train", "valid", "test"]}
    history = dataset.history(dataset.in_split(*splits[settings.history]))
    index: IdIndex = dataset.queries
    first = settings.item_columns[0]
    people = {}
    for query, code in zip(queries, index.codes(queries), strict=True):
        mine = np.flatnonzero((history.users == code) & history.is_positive)
        if history.times is not None:
            mine = mine[np.argsort(history.times[mine], kind="stable")]
        last = [dataset.items.ids[history.items[row]] for row in mine[::-1][: settings.liked]]
        names = [str(items[item][first]) for item in last if first in items.get(item, {})]
        people[query] = {**users.get(query, {}), "liked, the last one first": names}
    return people
