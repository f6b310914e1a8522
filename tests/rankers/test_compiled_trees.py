"""Compiled trees give LightGBM's bits, or are not used."""

from __future__ import annotations

import logging

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankers import compiled_trees, lightgbm_ranker
from rankers.compiled_trees import CompiledTrees, NotCovered, compiled
from rankers.lightgbm_ranker import LightGBMRanker
from tests.rankers.planted import planted_frame

QUIET = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 3}


def data(rng, n=600, n_features=5, missing=0.2):
    x = rng.standard_normal((n, n_features)).astype(np.float32)
    # Equal values, zeros and steps are where thresholds lie between neighbours.
    x[:, 1] = np.round(x[:, 1])
    x[rng.random(x.shape) < missing] = np.nan
    y = np.nan_to_num(x[:, 0]) + (np.nan_to_num(x[:, 1]) > 0) * np.nan_to_num(x[:, 2])
    return x, y


def train(x, y, rounds=20, **parameters) -> lightgbm.Booster:
    return lightgbm.train({**QUIET, "objective": "l2", **parameters}, lightgbm.Dataset(x, y), rounds)


def bits(values) -> list[int]:
    return np.asarray(values, dtype=np.float64).view(np.int64).tolist()


@given(
    seed=st.integers(0, 2**20),
    missing=st.sampled_from([0.0, 0.2, 0.9]),
    leaves=st.integers(2, 31),
    n_rows=st.integers(1, 300),
)
@settings(max_examples=10, deadline=None)
def test_any_model_gives_the_bits_of_the_library(seed, missing, leaves, n_rows):
    rng = np.random.default_rng(seed)
    x, y = data(rng, missing=missing)
    booster = train(x, y, num_leaves=leaves, seed=seed)
    trees = compiled(booster)
    rows = np.concatenate([data(rng, n_rows, missing=0.3)[0], trees.probes(64)])
    rows[rng.random(rows.shape) < 0.1] = 0.0
    rows[rng.random(rows.shape) < 0.02] = np.float32(-1e-36)
    assert trees is not None
    assert bits(trees.score(rows)) == bits(booster.predict(rows, raw_score=True))


def test_threads_change_no_bit(monkeypatch):
    x, y = data(np.random.default_rng(0))
    trees = compiled(train(x, y))
    monkeypatch.setattr(compiled_trees, "FEWEST_ROWS_A_THREAD", 50)
    assert bits(trees.score(x, threads=3)) == bits(trees.score(x, threads=1))


def test_value_on_and_just_above_every_threshold_goes_the_same_way():
    x, y = data(np.random.default_rng(3), missing=0.0)
    booster = train(x, y, rounds=3)
    trees = CompiledTrees.of(booster.model_to_string())
    inner = np.flatnonzero(trees.children[::2] != np.arange(len(trees.look)))
    rows = []
    for node in inner:
        value, column = trees.limit[node], int(trees.look[node]) % 5
        value = -value if trees.look[node] >= 5 else value
        for near in (np.nextafter(value, np.float32(-9)), value, np.nextafter(value, np.float32(9))):
            row = np.zeros(5, np.float32)
            row[column] = near
            rows.append(row)
    assert bits(trees.score(np.array(rows))) == bits(booster.predict(np.array(rows), raw_score=True))


def test_stump_without_a_split_is_its_leaf():
    x = np.zeros((50, 2), np.float32)
    booster = train(x, np.ones(50), rounds=2)
    trees = compiled(booster)
    assert bits(trees.score(x)) == bits(booster.predict(x))


def test_no_rows_have_no_scores():
    x, y = data(np.random.default_rng(0))
    assert compiled(train(x, y)).score(x[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"categorical_feature": [1]}, "categorical splits"),
        ({"linear_tree": True}, "linear leaves"),
        ({"zero_as_missing": True}, "zeros that count as missing"),
        ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}, "averages its trees"),
        ({"objective": "multiclass", "num_class": 3}, "several outputs"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_not_covered_is_left_to_the_library_with_a_line_in_the_log(parameters, said, caplog):
    x, y = data(np.random.default_rng(0))
    x = np.nan_to_num(x)
    x[:, 1] = np.abs(x[:, 1])
    categories = parameters.get("categorical_feature", [])
    labels = (y > 0).astype(int) + (y > 1) if "num_class" in parameters else y + 2 * (x[:, 1] == 1)
    dataset = lightgbm.Dataset(x, labels, categorical_feature=categories, params=parameters)
    settings_ = {k: v for k, v in parameters.items() if k != "categorical_feature"}
    booster = lightgbm.train({"objective": "l2", **QUIET, **settings_}, dataset, 5)
    with pytest.raises(NotCovered, match=said):
        CompiledTrees.of(booster.model_to_string())
    with caplog.at_level(logging.INFO, "rankers"):
        assert compiled(booster) is None
    assert said in caplog.text and "lightgbm scores by itself" in caplog.text


def test_other_bits_than_the_library_s_are_noticed(monkeypatch, caplog):
    x, y = data(np.random.default_rng(0))
    booster = train(x, y)
    original = CompiledTrees.of(booster.model_to_string())
    original.value[-1] += 1e-9
    monkeypatch.setattr(CompiledTrees, "of", classmethod(lambda cls, model: original))
    with caplog.at_level(logging.WARNING, "rankers"):
        assert compiled(booster) is None
    assert "gave other bits" in caplog.text


def test_ranker_scores_the_same_bits_before_and_after_it_compiles(monkeypatch):
    frame = planted_frame()
    ranker = LightGBMRanker(rounds=15, threads=1).fit(frame)
    before = ranker.score(frame)
    assert "_trees" not in ranker.__dict__
    monkeypatch.setattr(lightgbm_ranker, "FEWEST_COMPILED", 1)
    assert bits(ranker.score(frame)) == bits(before)
    assert ranker.__dict__["_trees"] is not None
    again = ranker.fit(frame.take_queries(np.arange(frame.n_queries - 2)))
    assert "_trees" not in again.__dict__
