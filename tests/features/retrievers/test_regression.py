from __future__ import annotations

import numpy as np
import pytest

from features.retrievers import regression
from features.retrievers.regression import fit_content_regression
from features.space import ModalityVectors
from tests.features.planted import history_of

N_USERS, N_WARM, N_NEW = 60, 80, 40
N_ITEMS = N_WARM + N_NEW


def planted(seed=0, noise=8, loud=1.5):
    """Half of the users like items whose first component is high, the others the rest.

    The other components are louder and tell nothing. Nobody has met the last items.
    """
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(N_ITEMS, 1 + noise)) * np.array([1.0, *[loud] * noise])
    high = vectors[:, 0] > 0
    rows = []
    for user in range(N_USERS):
        suits = np.flatnonzero(high[:N_WARM] == (user % 2 == 0))
        rows += [(user, int(item), 1.0, 0) for item in rng.choice(suits, 8, replace=False)]
    present = np.ones(N_ITEMS, dtype=bool)
    return history_of(rows, N_USERS, N_ITEMS), ModalityVectors(vectors.astype(np.float32), present), high


def told(scores, high):
    """The share of pairs of a new item that suits and one that does not which are in the right order."""
    right = []
    for user, row in enumerate(scores[:, N_WARM:]):
        suits = high[N_WARM:] == (user % 2 == 0)
        right.append((row[suits][:, None] > row[~suits]).mean())
    return np.mean(right)


def test_regression_finds_the_component_that_goes_with_likes_where_cosines_do_not():
    history, modality, high = planted()
    fitted = fit_content_regression("r", "content", {"m": modality}, history)
    assert told(fitted.scores(history, np.arange(N_USERS)), high) > 0.9
    liked = history.liked.toarray()
    cosines = (liked @ modality.unit) @ modality.unit.T
    assert told(cosines, high) < 0.75


def test_regression_of_shuffled_content_is_chance():
    history, modality, high = planted()
    shuffled = np.random.default_rng(1).permutation(modality.vectors)
    fitted = fit_content_regression(
        "r", "content", {"m": ModalityVectors(shuffled, modality.present)}, history
    )
    assert 0.35 < told(fitted.scores(history, np.arange(N_USERS)), high) < 0.65


def test_regression_has_no_opinion_of_an_item_without_content_and_learns_nothing_from_it():
    history, modality, _ = planted()
    gone = np.zeros(N_ITEMS, dtype=bool)
    gone[[3, N_WARM]] = True
    fitted = fit_content_regression("r", "content", {"m": modality.without(gone)}, history)
    scores = fitted.scores(history, np.arange(N_USERS))
    assert np.isnan(scores[:, gone]).all() and np.isfinite(scores[:, ~gone]).all()
    junk = modality.vectors.copy()
    junk[gone] = 1e6
    other = fit_content_regression("r", "content", {"m": ModalityVectors(junk, ~gone)}, history)
    np.testing.assert_array_equal(other.scores(history, np.arange(N_USERS)), scores)


def test_regression_of_a_wide_modality_reads_its_leading_directions(monkeypatch):
    history, modality, high = planted(loud=0.3)
    monkeypatch.setattr(regression, "WIDEST", 3)
    fitted = fit_content_regression("r", "content", {"m": modality}, history)
    assert fitted.target.shape[1] == 4
    assert told(fitted.scores(history, np.arange(N_USERS)), high) > 0.9


def test_regression_scores_of_a_longer_history_have_the_same_size():
    history, modality, _ = planted()
    half = history.take(np.arange(len(history.users)) % 2 == 0)
    sizes = [
        np.abs(
            fit_content_regression("r", "content", {"m": modality}, h).scores(h, np.arange(N_USERS))
        ).mean()
        for h in (half, history)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.25)


def test_regression_of_modalities_that_nobody_likes_anything_of_is_0():
    history, modality, _ = planted()
    nobody = history.take(np.zeros(len(history.users), dtype=bool))
    fitted = fit_content_regression("r", "content", {"m": modality}, nobody)
    assert not fitted.source.any()
    assert np.isnan(fitted.scores(nobody, np.arange(3))).all()


def test_regression_of_a_wide_modality_is_the_same_whatever_items_are_appended(monkeypatch):
    history, modality, _ = planted()
    monkeypatch.setattr(regression, "WIDEST", 3)
    before = fit_content_regression("r", "content", {"m": modality}, history)
    more = np.random.default_rng(2).normal(size=(7, modality.vectors.shape[1])).astype(np.float32)
    grown = ModalityVectors(np.concatenate([modality.vectors, more]), np.ones(N_ITEMS + 7, dtype=bool))
    longer = history.resized(N_USERS, N_ITEMS + 7)
    later = fit_content_regression("r", "content", {"m": grown}, longer)
    everybody = np.arange(N_USERS)
    np.testing.assert_array_equal(
        later.scores(longer, everybody)[:, :N_ITEMS], before.scores(history, everybody)
    )
