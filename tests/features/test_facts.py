from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.facts import Facts
from tests.features.planted import history_of, vectors_of

NAN = np.nan
# Times run from 100 to 200. User 0 likes items 0, 1 and 2 and met 4; user 1 likes 3; user 2 met 4 alone.
HISTORY = history_of(
    [
        (0, 0, 1.0, 100),
        (0, 1, 1.0, 150),
        (0, 2, 1.0, 160),
        (0, 4, 0.0, 170),
        (1, 3, 1.0, 120),
        (1, 0, 1.0, 180),
        (2, 4, 0.0, 200),
    ],
    n_users=4,
    n_items=6,
)
# Items 0 and 1 point the same way at other lengths, 3 the opposite way, 4 aside; 2 and 5 have none.
TEXT = vectors_of([2, 0], [5, 0], None, [-1, 0], [0, 3], None)


def facts_of(history=HISTORY) -> Facts:
    return Facts(history, {"text": TEXT})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # A disliked item is met, and so has an age, though nobody likes it.
        ("log_popularity", np.log1p([2, 1, 1, 1, 0, 0])),
        ("age", [1.0, 0.5, 0.4, 0.8, 0.3, NAN]),
        ("idle", [0.2, 0.5, 0.4, 0.8, 0.0, NAN]),
    ],
)
def test_facts_of_items_hand_computed(name, expected):
    facts = facts_of().of_items
    assert list(facts) == ["log_popularity", "age", "idle"]
    np.testing.assert_allclose(facts[name], expected, rtol=1e-6, atol=1e-7)
    assert facts[name].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log_activity", np.log1p([4, 2, 1, 0])),
        ("text.coverage", [2 / 3, 1, 0, 0]),
        # The liked items of user 0 with text are all alike; those of user 1 point in opposite directions.
        ("text.breadth", [0, 1, NAN, NAN]),
    ],
)
def test_facts_of_users_hand_computed(name, expected):
    facts = facts_of().of_users
    assert list(facts) == ["log_activity", "text.coverage", "text.breadth"]
    np.testing.assert_allclose(facts[name], expected, rtol=1e-6, atol=1e-7)
    assert facts[name].dtype == np.float32


def test_breadth_of_a_right_angle_is_between_alike_and_opposite():
    history = history_of([(0, 0, 1.0, 1), (0, 4, 1.0, 2)], 1, 6)
    np.testing.assert_allclose(facts_of(history).of_users["text.breadth"], [1 - np.sqrt(0.5)], rtol=1e-6)


def test_facts_without_times_have_no_age():
    facts = facts_of(replace(HISTORY, times=None))
    assert list(facts.of_items) == ["log_popularity"]
    np.testing.assert_array_equal(facts.of_users["text.breadth"], facts_of().of_users["text.breadth"])


def test_facts_of_one_moment_have_no_span():
    facts = facts_of(replace(HISTORY, times=np.full(7, 5))).of_items
    for name in ("age", "idle"):
        np.testing.assert_array_equal(facts[name], [0, 0, 0, 0, 0, NAN])


interactions = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from([0.0, 1.0]), st.integers(0, 99)),
    min_size=1,
    max_size=20,
)


def assert_same_facts(got: Facts, expected: Facts) -> None:
    for these, those in ((got.of_items, expected.of_items), (got.of_users, expected.of_users)):
        assert list(these) == list(those)
        for name in these:
            np.testing.assert_array_equal(these[name], those[name], err_msg=name)


@given(interactions, st.randoms(use_true_random=False))
def test_facts_do_not_depend_on_the_order_of_the_rows(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert_same_facts(facts_of(history_of(shuffled, 4, 6)), facts_of(history_of(rows, 4, 6)))


@given(interactions, interactions)
def test_facts_of_a_cut_are_the_same_whatever_happens_later(past, future):
    later = [(user, item, label, time + 100) for user, item, label, time in future]
    table = history_of(past + later, 4, 6)
    facts_of(table).of_items  # noqa: B018 - what was computed of the whole table may not survive
    assert_same_facts(facts_of(table.take(table.times < 100)), facts_of(history_of(past, 4, 6)))


@given(interactions, st.integers(-1000, 1000), st.integers(1, 50))
def test_age_does_not_depend_on_the_unit_or_start_of_time(rows, start, unit):
    history = history_of(rows, 4, 6)
    moved = replace(history, times=history.times * unit + start)
    if np.ptp(history.times) > 0:
        for name in ("age", "idle"):
            got, expected = facts_of(moved).of_items[name], facts_of(history).of_items[name]
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@given(interactions)
def test_facts_are_within_their_ranges(rows):
    facts = facts_of(history_of(rows, 4, 6))
    items, users = facts.of_items, facts.of_users
    seen = ~np.isnan(items["age"])
    assert (items["idle"][seen] <= items["age"][seen]).all()
    assert ((items["age"][seen] >= 0) & (items["age"][seen] <= 1)).all()
    assert ((users["text.coverage"] >= 0) & (users["text.coverage"] <= 1)).all()
    breadth = users["text.breadth"][users["text.coverage"] > 0]
    assert ((breadth >= -1e-6) & (breadth <= 1 + 1e-6)).all()
