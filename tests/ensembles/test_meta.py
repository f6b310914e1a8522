from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensembles import LADDER, load_meta, make_meta
from ensembles.meta import (
    mean_ndcg,
    place_unknown_last,
    read_state,
    scores_of,
    teaching_queries,
    write_state,
)
from features.errors import ConfigError, DataError
from tests.ensembles.planted import from_lists

NAN = np.nan


def test_ladder_goes_from_simple_to_complex() -> None:
    chosen_settings = ("best_single", "rank_fusion", "greedy", "tuned_fusion")
    assert LADDER == (*chosen_settings, "linear_stack", "lambdamart", "average")
    assert [name for name in LADDER if make_meta(name).settings_only] == list(chosen_settings)


@pytest.mark.parametrize("name", LADDER)
def test_make_meta_gives_what_the_kind_has(name: str) -> None:
    meta = make_meta(name, k=7, seed=3, threads=2)
    assert meta.name == name
    for key, value in {"k": 7, "seed": 3, "threads": 2}.items():
        assert getattr(meta, key, value) == value


def test_make_meta_params_reach_the_constructor() -> None:
    assert vars(make_meta("greedy", k=5, params={"bags": 3}))["bags"] == 3


def test_make_meta_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="'stack', expected one of best_single"):
        make_meta("stack")


@pytest.mark.parametrize("key", ["depth", "seed"])
def test_make_meta_unknown_parameter_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"greedy: got parameter '{key}', expected bags"):
        make_meta("greedy", params={key: 1})


def test_load_meta_folder_without_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got no meta\.json"):
        load_meta(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [("{", "invalid JSON"), ("[]", "got no kind"), ('{"kind": "oracle"}', "meta-learner 'oracle'")],
)
def test_load_meta_broken_state_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "meta.json").write_text(content)
    with pytest.raises(DataError, match=problem):
        load_meta(tmp_path)


def test_read_state_other_kind_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path, "greedy", {"weights": {}})
    assert read_state(tmp_path, "greedy")["weights"] == {}
    with pytest.raises(DataError, match="got kind 'greedy', expected 'rank_fusion'"):
        read_state(tmp_path, "rank_fusion")


def test_write_state_floats_survive_bit_for_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=100) * 10.0 ** np.arange(-50, 50)
    write_state(tmp_path, "greedy", {"values": values.tolist()})
    np.testing.assert_array_equal(read_state(tmp_path)["values"], values)


def test_place_unknown_last_hand_computed() -> None:
    scores = np.array([2.0, NAN, -3.0, NAN, NAN])
    np.testing.assert_array_equal(
        place_unknown_last(scores, np.array([0, 3, 3, 5])), [2.0, -4.0, -3.0, 0.0, 0.0]
    )


def test_scores_of_picks_bases_by_name() -> None:
    frame = from_lists([[[1.0, 2.0, 3.0]]])
    np.testing.assert_array_equal(scores_of(frame, ("base2", "base0")), [[3.0, 1.0]])
    with pytest.raises(DataError, match="expected also base7, base8"):
        scores_of(frame, ("base7", "base0", "base8"))


def test_teaching_queries_need_a_positive_and_a_lesser_candidate() -> None:
    frame = from_lists(
        [[[0.0], [0.0]], [[0.0]], [[0.0], [0.0]], [[0.0], [0.0]]], labels=[[0, 1], [1], [0, 0], [2, 1]]
    )
    np.testing.assert_array_equal(teaching_queries(frame), [0, 3])


def test_mean_ndcg_weighs_queries_and_leaves_out_those_without_positive() -> None:
    frame = from_lists([[[2.0], [1.0]], [[2.0], [1.0]], [[2.0], [1.0]]], labels=[[1, 0], [0, 1], [0, 0]])
    second = 1.0 / np.log2(3.0)
    assert mean_ndcg(frame.scores[:, 0], frame, 10, 0) == pytest.approx((1.0 + second) / 2)
    weighted = replace(frame, query_weights=np.array([3.0, 1.0, 9.0], np.float32))
    assert mean_ndcg(frame.scores[:, 0], weighted, 10, 0) == pytest.approx((3.0 + second) / 4)


def test_mean_ndcg_missing_opinion_ranks_last() -> None:
    frame = from_lists([[[NAN], [1.0], [2.0]]], labels=[[1, 0, 0]])
    assert mean_ndcg(frame.scores[:, 0], frame, 10, 0) == pytest.approx(0.5)
