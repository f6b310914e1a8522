"""The search is blind to the test split, and to validation but for what `train` chooses by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import polars as pl
import pytest

from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.store import URI_VARIABLE
from modalrank.tuning_job.job import Request, TuneResult, tune
from tests.modalrank.worlds import World


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


@pytest.mark.parametrize("protocol", ["strict", "full"])
def test_search_of_judged_lists_does_not_see_test(own_judged, tmp_path, protocol):
    own_judged.configure(protocol=protocol)
    before, trials = searched(own_judged, tmp_path / "a")
    with_other_labels(own_judged, *JUDGED, "test")
    after, again = searched(own_judged, tmp_path / "b")
    assert trials == again
    assert before.gains == after.gains
    assert (tmp_path / "a" / "tuned.yaml").read_text().replace(str(tmp_path / "a"), "") == (
        tmp_path / "b" / "tuned.yaml"
    ).read_text().replace(str(tmp_path / "b"), "")


def test_search_of_a_log_does_not_see_test(own_log, tmp_path):
    before, trials = searched(own_log, tmp_path / "a", bases=("fused",))
    with_other_labels(own_log, *LOG, "test")
    after, again = searched(own_log, tmp_path / "b", bases=("fused",))
    assert trials == again
    assert before.gains == after.gains


def test_search_of_bases_does_not_see_validation_either(own_judged, tmp_path):
    before, trials = searched(own_judged, tmp_path / "a")
    with_other_labels(own_judged, *JUDGED, "valid")
    after, again = searched(own_judged, tmp_path / "b")
    assert trials == again
    assert before.gains != after.gains, "the hold-out is what the gain is measured on"


def test_joint_search_does_not_see_test(own_judged, tmp_path):
    parts = ("bases", "ensemble")
    _, trials = searched(own_judged, tmp_path / "a", joint=True, parts=parts)
    with_other_labels(own_judged, *JUDGED, "test")
    _, again = searched(own_judged, tmp_path / "b", joint=True, parts=parts)
    assert [t[2:4] for t in trials] == [t[2:4] for t in again]
