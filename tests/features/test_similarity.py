from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from features.candidates import Candidates
from features.similarity import Profiles, similarities
from features.space import ModalityVectors
from tests.features.planted import history_of, vectors_of

NAN = np.nan
TEXT = vectors_of([2, 0], [0, 3], [3, 4], None, [-1, 0])
# User 0 liked 0, then 3 (without text), then 1, and disliked 4; user 1 liked 3 alone; user 2 met nothing.
HISTORY = history_of(
    [(0, 0, 1.0, 10), (0, 3, 1.0, 20), (0, 1, 1.0, 30), (0, 4, 0.0, 40), (1, 3, 1.0, 5)], 3, 5
)
PAIRS = Candidates(np.array([0, 0, 0, 1, 2]), np.array([2, 3, 4, 2, 2]), np.zeros((5, 0), np.float32))


def views(pairs: Candidates = PAIRS, history=HISTORY, half_life: float = 1.0, last: int = 2):
    profiles = Profiles(history.liked, history.disliked, history.recent(last), history.recency(half_life))
    return similarities(TEXT, profiles, pairs)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        # Cosines of item 2 to 0, 1, 4: .6, .8, -.6; of item 4 to 0, 1, 4: -1, 0, 1.
        ("mean", [0.7, NAN, -0.5, NAN, NAN]),
        ("max", [0.8, NAN, 0.0, NAN, NAN]),
        ("last", [0.8, NAN, 0.0, NAN, NAN]),
        # Weights 1 for item 1, 1/2 for 3 and 1/4 for 0.
        ("recent", [(0.8 + 0.6 / 4) / 1.25, NAN, -(1 / 4) / 1.25, NAN, NAN]),
        ("contrast", [0.7 + 0.6, NAN, -0.5 - 1.0, NAN, NAN]),
    ],
)
def test_similarities_hand_computed(view, expected):
    got = views()[view]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("half_life", "like"), [(1e-3, "newest"), (1e9, "mean")])
def test_recent_view_is_between_the_newest_item_and_the_mean(half_life, like):
    got = views(half_life=half_life, last=1)
    np.testing.assert_allclose(got["recent"], got[{"newest": "last", "mean": "mean"}[like]], rtol=1e-6)


def test_views_without_times_or_dislikes_are_left_out():
    assert list(similarities(TEXT, Profiles(HISTORY.liked, None, None, None), PAIRS)) == ["mean", "max"]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 4), st.sampled_from([0.0, 1.0]), st.integers(0, 9)),
        max_size=15,
    )
)
def test_similarities_are_cosines_and_a_user_alone_has_the_same_bits(rows):
    history = history_of(rows, 3, 5)
    users, items = np.divmod(np.arange(15), 5)
    together = views(Candidates(users, items, np.zeros((15, 0), np.float32)), history)
    for user in range(3):
        alone = views(Candidates(np.full(5, user), np.arange(5), np.zeros((5, 0), np.float32)), history)
        for view, values in together.items():
            np.testing.assert_array_equal(alone[view], values[users == user], err_msg=view)
    for view in ("mean", "max", "last", "recent"):
        there = together[view][~np.isnan(together[view])]
        assert (np.abs(there) <= 1 + 1e-6).all()
        np.testing.assert_array_equal(np.isnan(together[view])[items == 3], np.ones(3, dtype=bool))


def test_similarities_follow_what_is_liked_and_not_its_copies():
    twice = replace(
        HISTORY,
        **{name: np.tile(getattr(HISTORY, name), 2) for name in ("users", "items", "labels", "times")},
    )
    for view, values in views(history=twice).items():
        np.testing.assert_array_equal(values, views()[view], err_msg=view)


def test_similarities_have_the_same_bits_whatever_the_threads():
    rng, n_items = np.random.default_rng(0), 3000
    space = ModalityVectors(rng.normal(size=(n_items, 64)).astype(np.float32), np.ones(n_items, dtype=bool))
    liked = history_of([(0, item, 1.0, item) for item in range(0, n_items, 30)], 1, n_items).liked
    pairs = Candidates(np.zeros(1000, np.int64), np.arange(1000), np.zeros((1000, 0), np.float32))
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(similarities(space, Profiles(liked, None, liked, liked), pairs))
    for view, values in found[0].items():
        np.testing.assert_array_equal(found[1][view], values, err_msg=view)
