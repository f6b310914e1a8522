from __future__ import annotations

import numpy as np
import pytest

from features import candidates
from features.retrievers import fit_behaviour
from tests.features.planted import TableRetriever, block_history, history_of, self_history
from tuning import grids
from tuning.grids import list_ndcg, pick_setting, settings

NAN = np.nan


def test_settings_are_the_product_of_the_listed_values():
    assert settings([{"a": [1, 2], "b": 5, "c": (0.1, 0.2)}]) == [
        {"a": 1, "b": 5, "c": 0.1},
        {"a": 1, "b": 5, "c": 0.2},
        {"a": 2, "b": 5, "c": 0.1},
        {"a": 2, "b": 5, "c": 0.2},
    ]


def test_settings_without_parameters_are_one_empty_setting():
    assert settings([{}]) == [{}]


def planted_split():
    """Users of six blocks of items; a fifth of what they like is held out."""
    whole = block_history(n_users=60, n_blocks=6, per_block=12)
    hidden = np.random.default_rng(0).random(len(whole.users)) < 0.2
    return whole.take(~hidden), whole.take(hidden)


@pytest.mark.parametrize("order", [[1, 12], [12, 1]])
def test_pick_setting_finds_the_better_value(order):
    # One factor cannot tell six blocks apart.
    history, held_out = planted_split()
    grid = {"factors": order, "regularization": 1.0, "alpha": 5.0, "iterations": 5}
    best, trials = pick_setting("als", [grid], history, held_out, k=5, exclude_seen=True, seed=0)
    assert best == {"factors": 12, "regularization": 1.0, "alpha": 5.0, "iterations": 5}
    assert [trial.params["factors"] for trial in trials] == order
    value = {trial.params["factors"]: trial.ndcg for trial in trials}
    assert value[12] > value[1] + 0.1


def test_pick_setting_trial_is_the_mean_quality_of_the_lists():
    history, held_out = planted_split()
    _, trials = pick_setting(
        "rp3beta", [{"beta": [0.1, 0.9]}], history, held_out, k=5, exclude_seen=True, seed=0
    )
    for trial in trials:
        retriever = grids.fit_behaviour("rp3beta", history, trial.params)
        values = list_ndcg(retriever, history, held_out, k=5, exclude_seen=True, seed=0)
        assert (trial.kind, trial.ndcg) == ("rp3beta", values.mean())


@pytest.mark.parametrize("grid", [{}, {"l2": 3.0}, {"l2": [3.0], "neighbours": 7}])
def test_pick_setting_single_combination_is_not_tried(grid, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("fitted although there is nothing to choose")

    monkeypatch.setattr(grids, "fit_behaviour", refuse)
    history, held_out = planted_split()
    best, trials = pick_setting("ease", [grid], history, held_out, k=5, exclude_seen=True, seed=0)
    assert (best, trials) == (settings([grid])[0], [])


@pytest.mark.parametrize(("first_users", "fits"), [(1000, 6), (20, 6 + 4)])
def test_pick_setting_fits_the_best_again_only_where_there_are_more_users(first_users, fits, monkeypatch):
    tried = []

    def counted(kind, history, params, **kwargs):
        tried.append(params["beta"])
        return fit_behaviour(kind, history, params, **kwargs)

    monkeypatch.setattr(grids, "fit_behaviour", counted)
    monkeypatch.setattr(grids, "FIRST_USERS", first_users)
    betas = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    grid = {"beta": betas}
    _, trials = pick_setting("rp3beta", [grid], *planted_split(), k=5, exclude_seen=True, seed=0)
    assert len(tried) == fits and tried[:6] == betas
    assert [trial.params["beta"] for trial in trials] == (tried[6:] or betas)


TABLE = TableRetriever("table", np.array([[9, 8, 7, 6, 0], [1, 2, 3, NAN, 4], [5, 4, 3, 2, 1]], np.float32))
SELF = self_history(3, 5)
# User 0 is to find 2 and 4, user 1 is to find 4, and user 2 has nothing but a dislike.
HELD_OUT = history_of([(0, 2, 1.0, 0), (0, 4, 1.0, 0), (1, 4, 1.0, 0), (2, 3, 0.0, 0)], 3, 5)
SECOND = 1 / np.log2(3)


@pytest.mark.parametrize(
    ("k", "exclude_seen", "expected"),
    [
        # Unseen, user 0 is shown 1, 2, 3, since item 4 has no positive score; user 1 is shown 4, 2, 0.
        (3, True, [SECOND / (1 + SECOND), 1.0]),
        (1, True, [0.0, 1.0]),
        # With what was seen user 0 is shown 0, 1, 2.
        (3, False, [0.5 / (1 + SECOND), 1.0]),
    ],
)
def test_list_ndcg_hand_computed(k, exclude_seen, expected):
    got = list_ndcg(TABLE, SELF, HELD_OUT, k=k, exclude_seen=exclude_seen, seed=0)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_list_ndcg_user_without_a_list_counts_as_0():
    nothing = TableRetriever("nothing", np.full((3, 5), NAN, np.float32))
    np.testing.assert_array_equal(
        list_ndcg(nothing, SELF, HELD_OUT, k=3, exclude_seen=True, seed=0), [0.0, 0.0]
    )


def test_list_ndcg_batches_do_not_change_the_result(monkeypatch):
    whole = list_ndcg(TABLE, SELF, HELD_OUT, k=3, exclude_seen=True, seed=0)
    monkeypatch.setattr(candidates, "BATCH_CELLS", 1)
    np.testing.assert_array_equal(list_ndcg(TABLE, SELF, HELD_OUT, k=3, exclude_seen=True, seed=0), whole)


def test_list_ndcg_at_most_so_many_users_drawn_by_the_seed():
    history, held_out = planted_split()
    retriever = grids.fit_behaviour("item_knn", history, {})
    drawn = [
        list_ndcg(retriever, history, held_out, k=5, exclude_seen=True, seed=seed, n_users=10)
        for seed in (0, 0, 1)
    ]
    assert len(drawn[0]) == 10
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
