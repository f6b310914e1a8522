"""The search is blind to the test split, and to validation but for what `train` chooses by it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import optuna
import polars as pl
import pytest

from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.store import URI_VARIABLE
from modalrank.tuning_job.job import Request, TuneResult, tune
from tests.modalrank.worlds import World, make_judged


@pytest.fixture(autouse=True)
def _in_store(monkeypatch, store):
    monkeypatch.setenv(URI_VARIABLE, store)


def searched(world: World, folder: Path, **more) -> tuple[TuneResult, list]:
    folder.mkdir()
    storage = f"sqlite:///{folder / 'optuna.db'}"
    request = Request(
        world.config,
        ("ensemble.bootstrap_draws=100",),
        folder / "tuned.yaml",
        more.pop("parts", ("bases", "ensemble")),
        trials=3,
        storage=storage,
        **more,
    )
    result = tune(request, lambda _: None)
    names = optuna.get_all_study_names(storage)
    trials = []
    for name in sorted(names, key=lambda name: name.split(".")[1]):
        study = optuna.load_study(study_name=name, storage=storage)
        trials += [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in study.trials]
    return result, trials


def with_other_labels(world: World, table: str, label: str, keys: tuple[str, str], split: str) -> None:
    """Permute the labels of a split."""
    rows = load_dataset(load_config(world.config)).interactions
    here = rows.filter(pl.col("split") == split).select(query=pl.col("query"), item=pl.col("item"))
    whole = world.table(table).with_row_index("n")
    places = whole.join(here, left_on=list(keys), right_on=["query", "item"], how="semi")["n"].to_numpy()
    labels = whole[label].to_numpy().copy()
    labels[places] = labels[np.random.default_rng(1).permutation(places)]
    assert (labels != whole[label].to_numpy()).any()
    world.rewrite(table, whole.drop("n").with_columns(pl.Series(label, labels)))


JUDGED = ("judged.parquet", "grade", ("query_id", "doc_id"))
LOG = ("interactions.parquet", "rating", ("user_id", "item_id"))


def other(world: World, folder: Path, split: str) -> World:
    """Return a copy of the judged world with the labels of a split permuted."""
    copied = World(Path(shutil.copytree(world.folder, folder / "judged")))
    with_other_labels(copied, *JUDGED, split)
    return copied


@pytest.fixture(scope="module")
def before(tmp_path_factory, store) -> tuple[World, TuneResult, list]:
    """A search under the full protocol, which `train` would let learn from validation."""
    world = make_judged(tmp_path_factory.mktemp("world"))
    world.configure(protocol="full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URI_VARIABLE, store)
        return world, *searched(world, tmp_path_factory.mktemp("before") / "a", bases=("words",))


def test_search_does_not_see_the_labels_of_test(before, tmp_path):
    world, result, trials = before
    again, same = searched(other(world, tmp_path, "test"), tmp_path / "b", bases=("words",))
    assert same == trials
    assert again.gains == result.gains
    assert [study.params for study in again.studies] == [study.params for study in result.studies]


def test_search_does_not_see_the_labels_of_validation(before, tmp_path):
    world, result, trials = before
    again, same = searched(other(world, tmp_path, "valid"), tmp_path / "b", bases=("words",))
    assert same == trials
    assert again.gains != result.gains, "the hold-out is what the gain is measured on"


def test_search_of_a_log_does_not_see_the_labels_of_test(own_log, tmp_path):
    settings = {"bases": ("fused",), "parts": ("bases",)}
    before, trials = searched(own_log, tmp_path / "a", **settings)
    with_other_labels(own_log, *LOG, "test")
    after, same = searched(own_log, tmp_path / "b", **settings)
    assert same == trials
    assert before.gains == after.gains


def test_joint_search_does_not_see_the_labels_of_test(own_judged, tmp_path):
    settings = {"joint": True, "parts": ("bases", "ensemble")}
    _, trials = searched(own_judged, tmp_path / "a", **settings)
    with_other_labels(own_judged, *JUDGED, "test")
    _, same = searched(own_judged, tmp_path / "b", **settings)
    assert same == trials
