"""A saved judged model and a log model, and the pairs that they score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from ensembles import Hedge, MetaLearner, Reserve, make_meta
from modalrank.bundle import Bundle
from modalrank.scoring import Model, Options, Result, run_job
from tests.modalrank.worlds import item_ids, user_ids


def silent(_: str) -> None:
    """Say nothing."""


def with_meta(result, bundle: Bundle, name: str) -> Bundle:
    """The bundle with all bases of the run under another meta-learner, so that every base has a say."""

    def fitted(name: str) -> MetaLearner:
        return make_meta(name, k=5, threads=1).fit(result.test.frame)

    if name == "reserve":
        meta: MetaLearner = Reserve(fitted("best_single"), fitted("best_single"), "behaviour", 2, 5)
    elif name == "hedge":
        meta = Hedge(fitted("linear_stack"), fitted("rank_fusion"))
    else:
        meta = fitted(name)
    stack = replace(result.stack, meta=meta).pruned()
    return replace(bundle, stack=stack, blocks={base: result.blocks[base] for base in stack.bases})


def saved(bundle, folder: Path, name: str) -> Model:
    folder.mkdir()
    bundle.save(folder)
    return Model(name, "1", folder)


@pytest.fixture(scope="session")
def judged_model(judged_bundle, tmp_path_factory) -> Model:
    return saved(judged_bundle, tmp_path_factory.mktemp("judged_model") / "bundle", "tiny-judged")


@pytest.fixture(scope="session")
def log_model(log_bundle, tmp_path_factory) -> Model:
    return saved(log_bundle, tmp_path_factory.mktemp("log_model") / "bundle", "tiny-log")


@pytest.fixture(scope="session")
def judged_rows(judged_world) -> pl.DataFrame:
    """240 rows of 30 queries, by query; `grade` is a column that no model reads."""
    return judged_world.table("judged.parquet").sort("query_id", maintain_order=True)


@pytest.fixture(scope="session")
def log_rows() -> pl.DataFrame:
    """Some users with all items, in no order."""
    pairs = [(user, item) for user in user_ids()[::5] for item in item_ids()]
    frame = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    return frame.sample(fraction=1, shuffle=True, seed=3)


@pytest.fixture
def job(judged_model, tmp_path) -> Callable[..., Result]:
    """Score a file or a table with the judged model into `out`."""

    def run(given, out="out", model=judged_model, kind="candidates", **options) -> Result:
        if isinstance(given, pl.DataFrame):
            table, given = given, tmp_path / "given.parquet"
            table.write_parquet(given)
        return run_job(model, Options(kind, str(given), **options), tmp_path / out, silent)

    return run


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


def scores_in(folder: Path) -> pl.DataFrame:
    """All scores of an output."""
    parts = [
        pl.read_parquet(file)
        for file in sorted(folder.rglob("part-*.parquet"))
        if "skipped" not in file.parts
    ]
    return pl.concat(parts)
