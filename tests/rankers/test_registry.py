from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rankers
from features.errors import ConfigError, DataError
from rankers import load_ranker, make_ranker, parameter_types
from rankers.lightgbm_ranker import LightGBMRanker
from rankers.linear_ranker import LinearRanker
from rankers.registry import FAMILIES
from rankers.storage import FILE_NAME, read_manifest
from tests.rankers.planted import VARIANTS, planted_frame


def test_make_ranker_passes_everything_on():
    made = make_ranker(
        "lightgbm",
        objective="rank_xendcg",
        params={"rounds": 7, "lambda_l2": 0},
        seed=3,
        device="cpu",
        threads=1,
    )
    assert made == LightGBMRanker("rank_xendcg", rounds=7, lambda_l2=0.0, seed=3, device="cpu", threads=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_make_ranker_alone_has_the_defaults_of_the_class(family):
    assert make_ranker(family) == FAMILIES[family]()


@pytest.mark.parametrize(("family", "objective"), VARIANTS)
def test_make_ranker_default_values_are_within_their_limits(family, objective):
    default = FAMILIES[family](objective=objective)
    params = {name: getattr(default, name) for name in parameter_types(family)}
    assert make_ranker(family, objective=objective, params=params) == default


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            {"family": "lightbgm"},
            "got ranker family 'lightbgm', expected one of lightgbm, xgboost, catboost, linear",
        ),
        (
            {"family": "catboost", "objective": "lambdarank"},
            "got objective of catboost 'lambdarank', expected one of YetiRank, QueryRMSE, QuerySoftMax",
        ),
        (
            {"family": "linear", "params": {"l2": 1}},
            "got parameter of linear 'l2', expected one of C, pairs_per_",
        ),
        ({"family": "linear", "params": {"seed": 1}}, "got parameter of linear 'seed'"),
        (
            {"family": "xgboost", "params": {"rounds": 0}},
            "xgboost.rounds: got 0, expected a whole number of 1 or more",
        ),
        (
            {"family": "xgboost", "params": {"rounds": 2.5}},
            "xgboost.rounds: got 2.5, expected a whole number",
        ),
        (
            {"family": "xgboost", "params": {"rounds": True}},
            "xgboost.rounds: got True, expected a whole number",
        ),
        ({"family": "xgboost", "params": {"subsample": 1.5}}, "xgboost.subsample: got 1.5, .* above 0 to 1"),
        ({"family": "xgboost", "params": {"reg_lambda": -1}}, "xgboost.reg_lambda: got -1, .* of 0 or more"),
        ({"family": "linear", "params": {"C": 0}}, "linear.C: got 0, expected a number above 0"),
        ({"family": "linear", "params": {"C": "1"}}, "linear.C: got '1', expected a number"),
        ({"family": "linear", "params": {"C": float("nan")}}, "linear.C: got nan, expected a number"),
    ],
)
def test_make_ranker_wrong_choice_raises_naming_the_valid_ones(arguments, problem):
    with pytest.raises(ConfigError, match=problem):
        make_ranker(**arguments)


def test_load_ranker_folder_without_manifest_raises(tmp_path):
    with pytest.raises(DataError, match=r"got no ranker\.json"):
        load_ranker(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "got layout None, expected 1"),
        (json.dumps({"layout": 9}), "got layout 9, expected 1"),
        (
            json.dumps({"layout": 1, "family": "neural", "parameters": {}, "learned": {}}),
            "got ranker family 'neural', expected one of",
        ),
    ],
)
def test_load_ranker_other_manifest_raises(content, problem, tmp_path):
    (tmp_path / FILE_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=problem) as caught:
        load_ranker(tmp_path)
    assert caught.value.file is not None
    assert caught.value.file.endswith(FILE_NAME)


def test_load_of_another_family_raises(tmp_path):
    LinearRanker().fit(planted_frame(6)).save(tmp_path)
    with pytest.raises(DataError, match="got a 'linear' ranker, expected 'lightgbm'"):
        LightGBMRanker.load(tmp_path)


def test_manifest_holds_parameters_and_feature_names(tmp_path):
    LinearRanker(C=0.5).fit(planted_frame(6)).save(tmp_path)
    manifest = read_manifest(tmp_path)
    assert manifest.family == "linear"
    assert manifest.parameters["C"] == 0.5
    assert manifest.learned["feature_names"] == ["signal", "helper", "noise_a", "noise_b"]


def test_package_exports_what_it_names():
    assert sorted(rankers.__all__) == sorted(set(rankers.__all__))
    for name in rankers.__all__:
        assert hasattr(rankers, name)


def test_package_import_loads_no_heavy_library():
    heavy = {"lightgbm", "xgboost", "catboost", "sklearn", "scipy", "pandas"}
    code = f"import sys, rankers; print(sorted({heavy} & set(sys.modules)))"
    root = Path(rankers.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_package_scores_of_a_loaded_ranker_in_another_process_are_the_same(tmp_path):
    frame = planted_frame(10)
    folder = tmp_path / "ranker"
    folder.mkdir()
    ranker = LightGBMRanker(rounds=5, threads=1).fit(frame)
    ranker.save(folder)
    code = (
        "import sys, numpy as np; from pathlib import Path; from rankers import load_ranker;"
        "from tests.rankers.planted import planted_frame;"
        "np.save(sys.argv[2], load_ranker(Path(sys.argv[1])).score(planted_frame(10)))"
    )
    root = Path(rankers.__file__).parents[1]
    out = tmp_path / "scores.npy"
    subprocess.run([sys.executable, "-c", code, str(folder), str(out)], cwd=root, check=True)
    np.testing.assert_array_equal(np.load(out, allow_pickle=False), ranker.score(frame))
