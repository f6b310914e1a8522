from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.errors import ConfigError, DataError
from features.history import History
from features.retrievers import fit_behaviour
from features.retrievers.popularity import last_likes
from tests.features.planted import history_of
from tests.features.retrievers.world import EVERYBODY, fitted, history, world

TIMED = ("recent_popularity", "local_popularity", "covisitation")


def test_popularity_is_the_same_for_everybody():
    scores = fitted("popularity").scores(world(), EVERYBODY)
    np.testing.assert_array_equal(scores, np.tile(history().popularity, (len(EVERYBODY), 1)))


@pytest.mark.parametrize("kind", TIMED)
def test_fit_behaviour_without_times_raises_with_the_kind(kind):
    with pytest.raises(ConfigError, match=f"'{kind}' needs the times.*fix: name data.columns.time"):
        fit_behaviour(kind, replace(history(), times=None), {})


@pytest.mark.parametrize("kind", ["local_popularity", "covisitation"])
def test_scores_of_a_history_without_times_raises(kind):
    with pytest.raises(DataError, match=f"{kind}: got a history without times"):
        fitted(kind).scores(replace(world(), times=None), EVERYBODY)


# Item 0 is liked early, item 1 in the middle, item 2 late; item 3 is disliked.
ROWS = [
    (0, 0, 1.0, 0),
    (1, 0, 1.0, 0),
    (2, 0, 1.0, 10),
    (1, 1, 1.0, 50),
    (0, 2, 1.0, 90),
    (2, 2, 1.0, 100),
    (3, 3, 0.0, 100),
]


def early_and_late() -> History:
    return history_of(ROWS, 5, 5)


def test_recent_popularity_halves_with_every_half_life():
    scores = fit_behaviour("recent_popularity", early_and_late(), {"half_life": 0.1}).scores(
        early_and_late(), np.arange(5)
    )
    expected = [2 * 2.0**-10 + 2.0**-9, 2.0**-5, 0.5 + 1, 0, 0]
    np.testing.assert_allclose(scores, np.tile(expected, (5, 1)), rtol=1e-6)


def test_recent_popularity_of_one_moment_is_popularity():
    moment = replace(early_and_late(), times=np.full(len(ROWS), 7))
    scores = fit_behaviour("recent_popularity", moment, {}).scores(moment, np.array([0]))
    np.testing.assert_array_equal(scores[0], moment.popularity)


def test_local_popularity_counts_around_the_users_last_time():
    # Three buckets: likes at 0, 0; at 10, 50; at 90, 100.
    of = early_and_late()
    retriever = fit_behaviour("local_popularity", of, {"buckets": 3})
    later = replace(of, times=np.array([0, 0, 10, 50, 90, 10, 100]))
    scores = retriever.scores(later, np.arange(5))
    first, middle, last = np.array([[2, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 2, 0, 0]])
    np.testing.assert_allclose(scores[0], last + middle / 2)
    np.testing.assert_allclose(scores[1], middle + (first + last) / 2)
    np.testing.assert_allclose(scores[2], middle + (first + last) / 2)
    # A dislike tells a time too; who was never seen gets what is popular of late.
    np.testing.assert_allclose(scores[3], last + middle / 2)
    recent = fit_behaviour("recent_popularity", of, {}).scores(of, np.array([4]))
    np.testing.assert_array_equal(scores[[4]], recent)


@pytest.mark.parametrize("buckets", [1, 2, 1000])
def test_local_popularity_any_number_of_buckets_counts_every_like(buckets):
    retriever = fit_behaviour("local_popularity", history(), {"buckets": buckets})
    assert retriever.counts.shape[0] <= buckets
    scores = retriever.scores(history(), np.arange(5))
    assert (scores.sum(axis=1) > 0).all()
    if buckets == 1:
        np.testing.assert_array_equal(scores[0], history().popularity)


@pytest.mark.parametrize("kind", TIMED)
def test_timed_kinds_of_a_history_without_likes_know_nothing(kind):
    nothing = history_of([(0, 1, 0.0, 5)], 2, 3)
    scores = fit_behaviour(kind, nothing, {}).scores(nothing, np.arange(2))
    assert not np.nan_to_num(scores).any()


def test_last_likes_are_each_once_at_their_last_time():
    rows = [(1, 2, 1.0, 5), (0, 1, 1.0, 9), (1, 2, 1.0, 8), (0, 1, 1.0, 3), (0, 0, 0.0, 1), (1, 0, 1.0, 4)]
    users, items, times = last_likes(history_of(rows, 2, 3), "any")
    np.testing.assert_array_equal(users, [0, 1, 1])
    np.testing.assert_array_equal(items, [1, 0, 2])
    np.testing.assert_array_equal(times, [9, 4, 8])
