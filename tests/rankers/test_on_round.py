from __future__ import annotations

import numpy as np
import pytest

from rankers.registry import make_ranker
from tests.rankers.planted import QUICK, planted_frame, quick_ranker

every_round_family = pytest.mark.parametrize("family", ["lightgbm", "xgboost", "catboost", "transformer"])
TRAIN, VALID = planted_frame(), planted_frame(30, seed=1)


class EnoughError(Exception):
    """What a search raises to give up."""


def followed(family, on_round):
    quick_ranker(family)  # skips where its library is absent
    return make_ranker(family, params=QUICK[family], device="cpu", threads=1, on_round=on_round)


@every_round_family
def test_on_round_is_told_every_round_and_the_value_that_stops_training(family):
    told: list[tuple[int, float]] = []
    ranker = followed(family, lambda number, value: told.append((number, value))).fit(TRAIN, VALID)
    numbers, values = zip(*told, strict=True)
    assert list(numbers) == list(range(1, len(told) + 1))
    assert all(0 < value <= 1 for value in values)
    assert ranker.best_rounds_ == int(np.argmax(values)) + 1


@every_round_family
def test_on_round_does_not_change_the_model(family):
    followed_scores = followed(family, lambda *_: None).fit(TRAIN, VALID).score(VALID)
    np.testing.assert_array_equal(followed_scores, quick_ranker(family).fit(TRAIN, VALID).score(VALID))


@every_round_family
def test_on_round_what_it_raises_ends_the_training(family):
    told = []

    def give_up(number, value):
        told.append(number)
        if number == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        followed(family, give_up).fit(TRAIN, VALID)
    assert told == [1, 2, 3]


def test_on_round_of_a_family_without_rounds_is_never_called():
    def refuse(number, value):
        raise AssertionError

    followed("linear", refuse).fit(TRAIN, VALID)
