from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ensembles.samplers.shapley import EXACT, shapley, shapley_values
from tests.ensembles.planted import complementary
from tests.ensembles.samplers.test_imbalance import halves

PLAYERS = ("a", "b", "c", "d")


def additive_and_pair(worth: np.ndarray, pair: np.ndarray):
    """A game of (n_queries,) worths of players, and of a bonus where a and b are together."""

    def game(seen: frozenset[str]) -> np.ndarray:
        total = sum((worth[:, i] for i, name in enumerate(PLAYERS) if name in seen), np.zeros(len(worth)))
        return total + pair * ({"a", "b"} <= seen)

    return game


def test_values_are_exact_where_the_answer_is_known() -> None:
    generator = np.random.default_rng(0)
    worth, pair = generator.normal(size=(7, 4)), generator.normal(size=7)
    values = shapley_values(additive_and_pair(worth, pair), PLAYERS, generator)
    expected = worth.copy()
    expected[:, :2] += pair[:, None] / 2
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_every_set_is_scored_once_up_to_four_and_permutations_beyond() -> None:
    asked: Counter[frozenset[str]] = Counter()

    def game(seen: frozenset[str]) -> np.ndarray:
        asked[seen] += 1
        return np.array([float(len(seen) ** 2)])

    six = tuple("abcdef")
    assert len(six) > EXACT
    values = shapley_values(game, six, np.random.default_rng(0), n_permutations=400)
    # efficiency: they share what all of them are worth together; symmetry: evenly
    assert values.sum() == pytest.approx(36.0)
    np.testing.assert_allclose(values, 6.0, atol=0.6)
    assert len(asked) <= 2**6


def test_content_is_what_a_base_needs_without_behaviour() -> None:
    frame = complementary(5, 0)
    assert frame.content == ("text", "image")
    known = replace(frame, base_modality={"text": "behaviour"}, modalities=("behaviour", "image"))
    assert known.content == ()


def test_copies_go_to_queries_that_the_lagging_modality_decides() -> None:
    frame = halves(800, 0)
    draw = shapley(kappa=2.0, k=10)(frame, np.random.default_rng(0))
    copies = np.bincount(draw.queries, minlength=800)
    decided = (np.arange(800) >= 400) & frame.present[frame.labels > 0, 1]
    assert copies[decided].mean() > 1.8 * copies[~decided].mean()
    # all of equal length, so as many queries as there were
    assert len(draw.queries) == 800


def test_one_content_modality_has_nothing_to_lag_behind() -> None:
    frame = replace(complementary(30, 0), base_modality={"text": "text"})
    draw = shapley()(frame, np.random.default_rng(0))
    np.testing.assert_array_equal(draw.queries, np.arange(30))


def test_only_so_many_queries_are_valued() -> None:
    frame = halves(300, 0)
    draw = shapley(kappa=2.0, k=10, most=1)(frame, np.random.default_rng(0))
    assert (np.bincount(draw.queries, minlength=300) != 1).sum() <= 4
