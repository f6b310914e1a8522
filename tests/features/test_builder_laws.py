"""Laws of the feature model, in a world with every kind of column."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import sparse

from features import candidates as candidates_module
from features.builder import FeatureModel, FeatureSettings
from features.candidates import Candidates
from features.frame import RankingFrame, concatenate
from features.history import History
from features.retrievers import content_retrievers, fit_behaviour
from features.space import ModalityVectors, Space, with_graph

N_USERS, N_ITEMS, N_PAST, N_FUTURE, CUT = 20, 30, 160, 120, 1000
ALS = {"factors": 4, "regularization": 1.0, "iterations": 3}


@cache
def world() -> tuple[History, Space, Space]:
    """Interactions before and after CUT, at times of their own; two item modalities and one of users."""
    rng = np.random.default_rng(0)
    n = N_PAST + N_FUTURE
    pair = rng.permutation(N_USERS * N_ITEMS)[:n]
    times = np.concatenate([rng.permutation(CUT)[:N_PAST], CUT + rng.permutation(CUT)[:N_FUTURE]])
    order = rng.permutation(n)
    history = History(
        users=(pair // N_ITEMS)[order],
        items=(pair % N_ITEMS)[order],
        labels=(rng.random(n) < 0.7).astype(np.float32)[order],
        times=times[order],
        n_users=N_USERS,
        n_items=N_ITEMS,
        positive_from=1.0,
    )
    items = {"text": random_modality(rng, N_ITEMS, 40), "image": random_modality(rng, N_ITEMS, 3)}
    return history, items, {"age": random_modality(rng, N_USERS, 2)}


def random_modality(rng, n: int, width: int) -> ModalityVectors:
    present = rng.random(n) < 0.75
    return ModalityVectors(rng.normal(size=(n, width)).astype(np.float32) * present[:, None], present)


def past() -> History:
    return world()[0].take(world()[0].times < CUT)


def model_on(
    history: History, items: Space, users: Space, *, kinds=("popularity", "ease", "als")
) -> FeatureModel:
    """Fit everything that a model knows on a history."""
    graphed = {name: with_graph(m, history.popularity > 0, 5) for name, m in items.items()}
    behaviour = [fit_behaviour(kind, history, ALS if kind == "als" else {}) for kind in kinds]
    content = content_retrievers(graphed, behaviour, history)
    return FeatureModel(history, graphed, users, (*behaviour, *content), FeatureSettings(per_source=6))


@cache
def big_model() -> FeatureModel:
    return model_on(past(), *world()[1:])


def pairs_given(model: FeatureModel, users, items) -> Candidates:
    (only,) = model.given(users, items)
    return only


def all_pairs(model: FeatureModel | None = None) -> Candidates:
    users, items = np.divmod(np.arange(N_USERS * N_ITEMS), N_ITEMS)
    return pairs_given(model or big_model(), users, items)


def frame_of_all(model: FeatureModel) -> RankingFrame:
    return model.frame(all_pairs(model))


def test_frame_every_column_belongs_to_one_block():
    frame = big_model().frame(all_pairs())
    columns = [column for block in frame.blocks.values() for column in block]
    assert sorted(columns) == list(range(len(frame.feature_names)))
    assert len(set(frame.feature_names)) == len(frame.feature_names)


def test_frame_no_column_of_the_larger_world_is_empty_or_constant():
    features = frame_of_all(big_model()).features
    for values, name in zip(features.T, frame_of_all(big_model()).feature_names, strict=True):
        assert len(np.unique(values[~np.isnan(values)])) > 1, name


def test_frame_interactions_after_the_cut_change_nothing():
    history, items, users = world()
    rng = np.random.default_rng(3)
    future = history.times >= CUT
    changed = replace(
        history,
        users=np.where(future, rng.integers(N_USERS, size=len(future)), history.users),
        items=np.where(future, rng.integers(N_ITEMS, size=len(future)), history.items),
        labels=np.where(future, 1 - history.labels, history.labels),
    )
    without = History(*(a[~future] for a in (history.users, history.items, history.labels, history.times)),
                      N_USERS, N_ITEMS, 1.0)  # fmt: skip
    expected = frame_of_all(model_on(without, items, users))
    for table in (history, changed):
        table.liked, table.popularity  # noqa: B018 - what was computed of the whole table may not survive
        got = frame_of_all(model_on(table.take(table.times < CUT), items, users))
        np.testing.assert_array_equal(got.features, expected.features)
        np.testing.assert_array_equal(got.present, expected.present)
    leaky = frame_of_all(model_on(history, items, users))
    assert not np.array_equal(leaky.features, expected.features, equal_nan=True)


def test_frame_order_of_the_interactions_changes_nothing():
    history, items, users = past(), *world()[1:]
    order = np.random.default_rng(4).permutation(len(history.users))
    shuffled = replace(
        history,
        users=history.users[order],
        items=history.items[order],
        labels=history.labels[order],
        times=history.times[order],
    )
    got = frame_of_all(model_on(shuffled, items, users))
    np.testing.assert_array_equal(got.features, frame_of_all(big_model()).features)


@pytest.mark.parametrize("users_a_batch", [1, 3, 7])
def test_frame_any_batching_gives_the_same_bits(users_a_batch, monkeypatch):
    model = big_model()
    everybody = np.arange(N_USERS)
    (whole,) = [model.frame(part) for part in model.generated(everybody)]
    monkeypatch.setattr(candidates_module, "BATCH_CELLS", users_a_batch * N_ITEMS)
    for batches in (model.generated(everybody), model.given(whole.queries, whole.items)):
        parts = [model.frame(part) for part in batches]
        assert len(parts) == -(-N_USERS // users_a_batch)
        stacked = concatenate(parts)
        np.testing.assert_array_equal(stacked.features, whole.features)
        np.testing.assert_array_equal(stacked.items, whole.items)
        np.testing.assert_array_equal(stacked.present, whole.present)


@pytest.mark.parametrize("per_query", [1, 2, 9, N_ITEMS])
def test_frame_query_alone_has_the_same_bits(per_query):
    model = big_model()
    rng = np.random.default_rng(per_query)
    chosen = [np.sort(rng.permutation(N_ITEMS)[:per_query]) for _ in range(N_USERS)]
    users = np.repeat(np.arange(N_USERS), per_query)
    together = model.frame(pairs_given(model, users, np.concatenate(chosen)))
    for user in range(N_USERS):
        alone = model.frame(pairs_given(model, np.full(per_query, user), chosen[user]))
        rows = slice(together.offsets[user], together.offsets[user + 1])
        np.testing.assert_array_equal(alone.features, together.features[rows])


def permuted(modality: ModalityVectors, new_code: np.ndarray) -> ModalityVectors:
    old_code = np.argsort(new_code)
    return ModalityVectors(modality.vectors[old_code], modality.present[old_code])


def assert_same_values(after: RankingFrame, before: RankingFrame, rows: np.ndarray) -> None:
    """Compare up to the rounding of sums in another order, which may part or join the ranks of equals."""
    assert after.feature_names == before.feature_names
    is_rank = np.array([name.endswith((".rank", ".disagreement")) for name in before.feature_names])
    got, expected = after.features[rows], before.features
    np.testing.assert_allclose(got[:, ~is_rank], expected[:, ~is_rank], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(got[:, is_rank], expected[:, is_rank], atol=1.01 / N_ITEMS)
    assert (np.abs(got - expected)[:, is_rank] > 1e-6).mean() < 0.01


def test_frame_other_item_codes_permute_the_rows_and_change_no_value():
    history, (items, users) = past(), world()[1:]
    new_code = np.random.default_rng(5).permutation(N_ITEMS)
    # ALS starts from random factors by code, so it alone is another model.
    kinds = ("popularity", "item_knn", "ease", "rp3beta")
    before = frame_of_all(model_on(history, items, users, kinds=kinds))
    after = frame_of_all(
        model_on(
            replace(history, items=new_code[history.items]),
            {name: permuted(modality, new_code) for name, modality in items.items()},
            users,
            kinds=kinds,
        )
    )
    same_pair = before.queries * N_ITEMS + new_code[before.items]
    np.testing.assert_array_equal(after.items[same_pair], new_code[before.items])
    assert_same_values(after, before, same_pair)
    np.testing.assert_array_equal(after.present[same_pair], before.present)


def test_frame_other_user_codes_permute_the_queries_and_change_no_value():
    history, (items, users) = past(), world()[1:]
    new_code = np.random.default_rng(6).permutation(N_USERS)
    kinds = ("popularity", "ease")
    before = frame_of_all(model_on(history, items, users, kinds=kinds))
    after = frame_of_all(
        model_on(
            replace(history, users=new_code[history.users]),
            items,
            {name: permuted(modality, new_code) for name, modality in users.items()},
            kinds=kinds,
        )
    )
    assert_same_values(after, before, new_code[before.queries] * N_ITEMS + before.items)


def column(frame: RankingFrame, name: str) -> np.ndarray:
    return frame.features[:, frame.feature_names.index(name)]


def block_of(frame: RankingFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of a block but presence, and its presence column."""
    columns = [c for c in frame.blocks[name] if frame.feature_names[c] != f"{name}.present"]
    return frame.features[:, columns], column(frame, f"{name}.present")


def test_frame_modality_that_no_item_has_is_a_block_of_nan():
    history, items, users = past(), *world()[1:]
    nothing = ModalityVectors(np.zeros((N_ITEMS, 3), np.float32), np.zeros(N_ITEMS, bool))
    whole = frame_of_all(big_model())
    without = frame_of_all(model_on(history, {**items, "image": nothing}, users))
    assert without.feature_names == whole.feature_names
    values, present = block_of(without, "image")
    assert np.isnan(values).all()
    assert not present.any()
    assert not without.present[:, without.modalities.index("image")].any()
    for name in ("text", "age"):
        np.testing.assert_array_equal(block_of(without, name)[0], block_of(whole, name)[0])


def test_frame_candidate_without_the_modality_has_nan_in_its_block_and_others_have_not():
    frame = frame_of_all(big_model())
    for name in ("text", "image"):
        present = frame.present[:, frame.modalities.index(name)]
        values, column_present = block_of(frame, name)
        assert np.isnan(values[~present]).all()
        assert np.isfinite(values[present]).all(axis=1).any()
        np.testing.assert_array_equal(column_present, present)


def test_generated_leaves_out_what_was_met_unless_told_otherwise():
    model = big_model()
    seen = past().seen.toarray() > 0

    def met_share(model: FeatureModel) -> float:
        (only,) = model.generated(np.arange(N_USERS))
        return float(seen[only.queries, only.items].mean())

    assert met_share(model) == 0
    assert met_share(replace(model, settings=FeatureSettings(per_source=6, exclude_seen=False))) > 0
    assert met_share(replace(model, met=sparse.csr_array(seen.shape, dtype=np.float32))) > 0
    everything = sparse.csr_array(np.ones(seen.shape, dtype=np.float32))
    (none,) = replace(model, met=everything).generated(np.arange(N_USERS))
    assert len(none.items) == 0
