"""Laws of removal: nested, in the order that was asked for, and as if nothing had ever been there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.builder import FeatureModel, FeatureSettings
from features.item_models import item_knn
from features.removal import MODES, gone_from, removal_order, removed, without_vectors
from features.retrievers import content_retrievers
from features.retrievers.item_item import ItemItemRetriever
from features.space import ModalityVectors, with_graph
from tests.features.planted import block_history

NEIGHBOURS = 3
HISTORY = block_history(12, 2, 8, n_cold=2)
N = HISTORY.n_items


def vectors(seed: int, present: np.ndarray) -> ModalityVectors:
    rows = np.random.default_rng(seed).normal(size=(N, 4)).astype(np.float32)
    return ModalityVectors(np.where(present[:, None], rows, 0), present)


def model_of(items: dict[str, ModalityVectors], *, graphs: bool = True) -> FeatureModel:
    if graphs:
        items = {name: with_graph(m, HISTORY.popularity > 0, NEIGHBOURS) for name, m in items.items()}
    weights = item_knn(HISTORY.liked)
    behaviour = ItemItemRetriever("item_knn", "behaviour", weights, HISTORY.popularity > 0)
    retrievers = (behaviour, *content_retrievers(items, [behaviour], HISTORY))
    return FeatureModel(HISTORY, items, {}, retrievers, FeatureSettings(per_source=N, last_k=2))


def full() -> dict[str, ModalityVectors]:
    every_third = np.arange(N) % 3 > 0
    return {"text": vectors(1, np.ones(N, dtype=bool)), "image": vectors(2, every_third)}


def frames_of(model: FeatureModel, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    return np.concatenate([model.frame(c).features for c in model.given(queries, items)])


@given(
    present=st.lists(st.booleans(), min_size=1, max_size=40),
    seed=st.integers(0, 99),
    mode=st.sampled_from(MODES),
    rates=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_removed_at_a_lower_rate_is_removed_at_a_higher(present, seed, mode, rates):
    has = np.array(present)
    popularity = np.random.default_rng(seed).integers(0, 4, len(has)).astype(np.float32)
    low, high = (removed(has, removal_order(popularity, mode, seed), rate) for rate in rates)
    assert not (low & ~high).any() and not (high & ~has).any()
    assert [mask.sum() for mask in (low, high)] == [round(rate * has.sum()) for rate in rates]


def test_unpopular_items_go_first_and_seeds_draw_ties_only():
    popularity = np.array([5, 0, 2, 0, 2, 9], dtype=np.float32)
    has = np.array([True, True, True, True, True, False])
    orders = [removal_order(popularity, "unpopular", seed) for seed in range(20)]
    for order in orders:
        assert np.flatnonzero(removed(has, order, 0.4)).tolist() == [1, 3]
        assert np.flatnonzero(removed(has, order, 0.8)).tolist() == [1, 2, 3, 4]
    drawn = {tuple(np.flatnonzero(removed(has, order, 0.2))) for order in orders}
    assert drawn == {(1,), (3,)}


def test_random_order_depends_on_the_seed_and_not_on_popularity():
    popularity = np.arange(50, dtype=np.float32)
    one, again, other = (removal_order(popularity, "random", seed) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()
    assert one.tolist() == removal_order(popularity[::-1].copy(), "random", 1).tolist()
    means = [np.flatnonzero(removed(popularity >= 0, removal_order(popularity, "random", s), 0.5)).mean()
             for s in range(200)]  # fmt: skip
    assert abs(np.mean(means) - 24.5) < 1.0


def test_together_an_item_loses_all_or_nothing_and_the_rate_is_of_those_that_have_any():
    presence = {"a": np.arange(20) < 10, "b": (np.arange(20) >= 5) & (np.arange(20) < 15)}
    gone = gone_from(presence, removal_order(np.zeros(20, np.float32), "random", 0), 0.4)
    lost = gone["a"] | gone["b"]
    assert lost.sum() == 6
    assert not lost[15:].any()
    for name, present in presence.items():
        assert (gone[name] == (lost & present)).all()


def test_rate_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"got 1\.5, expected 0 to 1"):
        removed(np.ones(3, dtype=bool), np.arange(3), 1.5)


@pytest.mark.parametrize("names", [("text",), ("text", "image")])
@pytest.mark.parametrize("graphs", [True, False])
def test_without_vectors_equals_never_having_had_them(names, graphs):
    """Features and retrieved lists are the same bits as those of a model made of the poorer table."""
    whole = model_of(full(), graphs=graphs)
    order = removal_order(HISTORY.popularity, "random", 3)
    gone = gone_from({name: whole.items[name].present for name in names}, order, 0.5)
    poorer = {
        name: ModalityVectors(
            np.where(gone[name][:, None], 0, m.vectors).astype(np.float32) if name in gone else m.vectors,
            m.present & ~gone[name] if name in gone else m.present,
        )
        for name, m in full().items()
    }
    left, never = without_vectors(whole, gone, NEIGHBOURS), model_of(poorer, graphs=graphs)
    assert left.modalities == never.modalities
    queries = np.repeat(np.arange(HISTORY.n_users), N)
    items = np.tile(np.arange(N), HISTORY.n_users)
    np.testing.assert_array_equal(frames_of(left, queries, items), frames_of(never, queries, items))
    assert not np.array_equal(
        frames_of(whole, queries, items), frames_of(left, queries, items), equal_nan=True
    )
    np.testing.assert_array_equal(left.presence(queries, items), never.presence(queries, items))
    for ours, theirs in zip(left.generated(np.arange(12)), never.generated(np.arange(12)), strict=True):
        np.testing.assert_array_equal(ours.items, theirs.items)
        np.testing.assert_array_equal(ours.scores, theirs.scores)


def test_removed_vector_tells_nothing_whatever_it_was():
    """Two catalogues that differ only in what is removed from both give the same features."""
    gone = np.arange(N) % 2 == 0
    one, other = full(), full()
    other["text"] = ModalityVectors(
        np.where(gone[:, None], -7 * other["text"].vectors + 3, other["text"].vectors),
        other["text"].present,
    )
    queries, items = np.repeat(np.arange(6), N), np.tile(np.arange(N), 6)
    features = [
        frames_of(without_vectors(model_of(space), {"text": gone}, NEIGHBOURS), queries, items)
        for space in (one, other)
    ]
    np.testing.assert_array_equal(*features)


def test_behaviour_stays_and_nothing_to_remove_is_the_same_model():
    whole = model_of(full())
    assert without_vectors(whole, {"text": np.zeros(N, dtype=bool)}, NEIGHBOURS) is whole
    assert without_vectors(whole, {"unheard": np.ones(N, dtype=bool)}, NEIGHBOURS) is whole
    left = without_vectors(whole, {"text": np.ones(N, dtype=bool)}, NEIGHBOURS)
    assert left.retrievers[0] is whole.retrievers[0] and left.history is whole.history
    assert [r.name for r in left.retrievers] == [r.name for r in whole.retrievers]
    assert left.items["image"] is whole.items["image"]
    assert left.items["text"].graph.nnz == 0
