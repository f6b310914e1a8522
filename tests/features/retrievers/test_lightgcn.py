from __future__ import annotations

import sys

import numpy as np
import pytest

from features.errors import ConfigError
from features.retrievers import fit_behaviour
from features.retrievers.lightgcn import _triples
from tests.features.planted import history_of
from tests.features.retrievers.world import EVERYBODY, PARAMS, fit, fitted, history, world


def test_lightgcn_without_torch_raises_with_the_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r"'lightgcn' needs torch.*pip install torch==2\.13\.0"):
        fit_behaviour("lightgcn", history(), {})


def test_lightgcn_another_seed_is_another_fit():
    assert not np.allclose(
        fit("lightgcn", history(), seed=1).scores(world(), EVERYBODY),
        fitted("lightgcn").scores(world(), EVERYBODY),
        equal_nan=True,
    )


def test_lightgcn_history_without_likes_knows_nothing():
    pytest.importorskip("torch", reason="LightGCN needs torch: pip install torch==2.13.0")
    nothing = history_of([(0, 1, 0.0, 0)], 2, 3)
    assert np.isnan(
        fit_behaviour("lightgcn", nothing, PARAMS["lightgcn"]).scores(nothing, np.arange(2))
    ).all()


def test_triples_cover_every_pair_and_draw_no_liked_item():
    liked = history().liked
    drawn = list(_triples(liked, 3, 50, seed=0))
    assert max(len(users) for users, _, _ in drawn) <= 50
    users, items, others = (np.concatenate(part) for part in zip(*drawn, strict=True))
    dense = liked.toarray()
    assert (dense[users, items] == 1).all()
    assert (dense[users, others] == 0).all()
    assert (history().popularity[others] > 0).all()
    assert len(np.unique(users * dense.shape[1] + items)) > 0.95 * liked.nnz
