from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.builder import FeatureModel, FeatureSettings
from features.history import History
from features.space import ModalityVectors
from features.target_statistics import PRIOR, PeerRates, item_statistics

N_USERS, N_ITEMS = 4, 5


def category(codes: list[int], width: int = 2) -> ModalityVectors:
    vectors = np.zeros((len(codes), width), dtype=np.float32)
    present = np.array(codes) >= 0
    vectors[present, np.array(codes)[present]] = 1
    return ModalityVectors(vectors, present)


@pytest.fixture
def history() -> History:
    """Users 0 and 1 like item 0, user 1 dislikes item 2, user 2 likes item 3."""
    return History(
        users=np.array([0, 1, 1, 2]),
        items=np.array([0, 0, 2, 3]),
        labels=np.array([1, 1, 0, 1], dtype=np.float32),
        times=None,
        n_users=N_USERS,
        n_items=N_ITEMS,
        positive_from=1.0,
    )


ITEMS = [0, 0, 1, 1, -1]
USERS = [0, 0, 1, 0]


def test_item_statistics_are_those_of_hand(history: History) -> None:
    facts = item_statistics(category(ITEMS), history)
    overall = 3 / 4
    first, second = (np.log1p((likes + PRIOR * overall) / (2 + PRIOR)) for likes in (2, 1))
    np.testing.assert_allclose(facts["likes"], [first, first, second, second, np.nan], rtol=1e-6)
    share = [(2 + PRIOR * 3 / 4) / (2 + PRIOR), (1 + PRIOR * 3 / 4) / (2 + PRIOR)]
    np.testing.assert_allclose(facts["liked_share"], [*np.repeat(share, 2), np.nan], rtol=1e-6)


def test_peer_rates_are_those_of_hand(history: History) -> None:
    rates = PeerRates(category(USERS), history).of(np.array([3, 3, 2]), np.array([0, 3, 0]))
    expected = [(2 + PRIOR * 2 / 3) / (2 + PRIOR), PRIOR / 3 / (2 + PRIOR), PRIOR * 2 / 3 / (1 + PRIOR)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_peer_rates_user_without_a_category_has_none(history: History) -> None:
    rates = PeerRates(category([0, -1, -1, -1]), history)
    assert np.isnan(rates.of(np.array([1]), np.array([0]))).all()


def test_frame_statistics_change_with_the_history_and_not_with_hidden_labels(history: History) -> None:
    settings = FeatureSettings(categories=("genre", "country"), components=0, last_k=0)
    model = FeatureModel(history, {"genre": category(ITEMS)}, {"country": category(USERS)}, (), settings)
    pairs = np.array([3, 3]), np.array([0, 1])
    [candidates] = model.given(*pairs)
    names = [
        "genre.likes",
        "genre.liked_share",
        "country.peer_rate",
    ]
    plain, labelled = model.frame(candidates), model.frame(candidates, labels=np.ones(2, dtype=np.float32))
    columns = [plain.feature_names.index(name) for name in names]
    np.testing.assert_array_equal(plain.features[:, columns], labelled.features[:, columns])
    fewer = replace(model, history=history.take(np.array([False, True, True, True])))
    assert (fewer.frame(candidates).features[0, columns] < plain.features[0, columns]).all()
