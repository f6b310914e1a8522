"""Augmented training queries: more of them, none in the lists that choose or test, and off by default."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from features.errors import ConfigError
from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.encoding import fit_encoders
from modalrank.forms import make_form
from modalrank.training import train

QUICK = ("labels.folds=2", "labels.negatives=8", "ensemble.bootstrap_draws=200")


def taught(world, *overrides):
    dataset = load_dataset(load_config(world.config, [*QUICK, *overrides]))
    return make_form(dataset, fit_encoders(dataset, str), str).training()


def test_off_by_default_and_each_query_is_taught_once(log_world) -> None:
    labels = load_config(log_world.config, []).labels
    assert (labels.mixing, labels.removal, labels.generated, labels.synthetic_negatives) == (0, 0, 0, 0)


@pytest.mark.parametrize("kind", ["mixing", "removal"])
def test_share_of_the_queries_is_taught_again_with_other_vectors(log_world, kind) -> None:
    plain, more = taught(log_world), taught(log_world, f"labels.{kind}=0.5")
    added = more.frame.n_queries - plain.frame.n_queries
    assert added == pytest.approx(0.5 * plain.frame.n_queries, abs=3)
    for fold, lists in plain.lists.items():
        np.testing.assert_array_equal(lists.queries, more.lists[fold].queries)
    assert more.frame.feature_names == plain.frame.feature_names
    assert more.frame.n_queries == len(more.folds)
    taste = more.frame.modalities.index("taste")
    assert (more.frame.present[:, taste].mean() < plain.frame.present[:, taste].mean() - 0.1) == (
        kind == "removal"
    )


def test_model_is_trained_with_mixing(log_world) -> None:
    config = load_config(log_world.config, [*QUICK, "labels.mixing=1"])
    result = train(load_dataset(config), str)
    assert np.isfinite(result.test_scores[result.chosen]).all()


def test_generator_without_torch_is_told_before_anything_runs(log_world, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for key in ("labels.generated=0.5", "labels.synthetic_negatives=5"):
        with pytest.raises(ConfigError, match=r"asks for a generator, which needs torch"):
            load_config(log_world.config, [key])


def test_synthetic_negatives_are_in_the_training_alone(log_world) -> None:
    pytest.importorskip("torch", reason="the generator needs torch")
    more = taught(log_world, "labels.synthetic_negatives=20", "labels.generated=0.3")
    n_items = len(load_dataset(load_config(log_world.config, [])).items)
    made = more.frame.items >= n_items
    assert made.any() and not more.frame.labels[made].any()
    per_query = np.add.reduceat(made, more.frame.offsets[:-1])
    assert set(per_query.tolist()) <= {0, 5}
    for lists in more.lists.values():
        assert all((frame.items < n_items).all() for frame in lists.frames())
