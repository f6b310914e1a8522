from __future__ import annotations

import numpy as np
import pytest

from features.errors import ConfigError
from features.retrievers import BEHAVIOUR_KINDS, check_parameters, fit_behaviour
from tests.features.retrievers.world import EVERYBODY, PARAMS, fitted, history, world


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("ease", {"l2": 1.0}),
        ("ease", {"damping": 0.5}),
        ("ease", {"min_likes": 12}),
        ("ease", {"most_items": 3}),
        ("item_knn", {"shrink": 0.0}),
        ("rp3beta", {"beta": 1.0}),
        ("als", {**PARAMS["als"], "alpha": 50.0}),
        ("als", {**PARAMS["als"], "damping": 0.5}),
        ("user_knn", {"neighbours": 2}),
        ("spectral", {"factors": 3}),
        ("spectral", {"factors": 3, "damping": 0.1}),
        ("recent_popularity", {"half_life": 0.5}),
        ("local_popularity", {"buckets": 3}),
        ("covisitation", {"window": 2}),
        ("covisitation", {"last": 3}),
    ],
)
def test_fit_behaviour_parameters_reach_the_model(kind, params):
    other = fit_behaviour(kind, history(), params, seed=0).scores(world(), EVERYBODY)
    assert not np.array_equal(other, fitted(kind).scores(world(), EVERYBODY), equal_nan=True)


def test_check_parameters_unknown_kind_raises_with_the_nearest_and_the_known_ones():
    known = ", ".join(BEHAVIOUR_KINDS)
    with pytest.raises(ConfigError, match=f"unknown retriever 'eas'.*did you mean 'ease'.*{known}"):
        check_parameters("eas", {})


@pytest.mark.parametrize(
    ("kind", "takes"),
    [
        ("popularity", "none"),
        ("ease", "l2, neighbours, damping, user_damping, min_likes, most_items"),
        ("rp3beta", "alpha, beta, neighbours"),
        ("als", "factors, regularization, alpha, iterations, damping, repeats"),
    ],
)
def test_fit_behaviour_unknown_parameter_raises_with_the_known_ones(kind, takes):
    with pytest.raises(
        ConfigError, match=f"retriever '{kind}' has no parameter 'depth'; fix: it takes {takes}$"
    ):
        fit_behaviour(kind, history(), {"depth": 3})


@pytest.mark.parametrize("name", ["seed", "history", "liked"])
def test_check_parameters_what_is_not_the_users_to_set_raises(name):
    for kind in BEHAVIOUR_KINDS:
        with pytest.raises(ConfigError, match="has no parameter"):
            check_parameters(kind, {name: 1})


@pytest.mark.parametrize(
    ("kind", "params", "limits"),
    [
        ("ease", {"l2": -5}, "l2: got -5, expected a number above 0"),
        ("ease", {"l2": [100, 0]}, "l2: got 0, expected a number above 0"),
        ("item_knn", {"shrink": -0.1}, "shrink: got -0.1, expected a number from 0"),
        ("als", {"factors": 1.5}, "factors: got 1.5, expected a whole number from 1"),
        ("rp3beta", {"beta": float("inf")}, "beta: got inf, expected a number from 0"),
    ],
)
def test_check_parameters_value_out_of_range_raises_with_its_limits(kind, params, limits):
    with pytest.raises(ConfigError, match=limits):
        check_parameters(kind, params)


def test_fit_behaviour_items_left_out_get_no_opinion():
    few = history().popularity < 12
    for kind in ("ease", "spectral"):
        retriever = fit_behaviour(kind, history(), {"min_likes": 12})
        assert np.isnan(retriever.scores(world(), EVERYBODY)[:, few]).all()
        np.testing.assert_array_equal(retriever.known, ~few)


def test_fit_behaviour_whole_numbers_may_be_written_as_decimals():
    one, other = (fit_behaviour("user_knn", history(), {"neighbours": n}) for n in (5, 5.0))
    np.testing.assert_array_equal(one.scores(world(), EVERYBODY), other.scores(world(), EVERYBODY))


def test_check_parameters_zero_is_within_the_limits_of_shrink_and_beta():
    check_parameters("item_knn", {"shrink": 0})
    check_parameters("rp3beta", {"beta": [0.0, 0.4]})
