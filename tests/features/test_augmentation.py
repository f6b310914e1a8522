"""Made training data: near what it was made of, told apart from what is there, the same by the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.augmentation import generated, mixed, synthetic, thinned_out, with_synthetic
from features.builder import FeatureModel
from features.errors import DataError
from features.generator import Conditions, VectorGenerator
from features.history import History
from features.space import with_graph
from tests.features.test_filling import EVERYTHING, N, cosines, mapped


def small_model() -> FeatureModel:
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((20, N)) < 0.2)
    history = History(users, items, np.ones(len(users), np.float32), None, 20, N, 0.5)
    space = {name: with_graph(m, history.popularity > 0, 10) for name, m in mapped()[0].items()}
    return FeatureModel(history, space, {}, ())


def test_mixture_is_nearest_to_the_item_itself_and_between_near_ones() -> None:
    items, _ = mapped()
    changed = mixed(items, seed=1)
    for name, before in items.items():
        after = changed[name]
        np.testing.assert_array_equal(after.present, before.present)
        has = before.present
        moved = np.linalg.norm(after.vectors - before.vectors, axis=1)[has]
        assert (moved > 0).mean() > 0.9
        own = (after.unit * before.unit).sum(axis=1)[has]
        others = after.unit[has] @ before.unit[has].T
        assert (own >= others.max(axis=1) - 1e-5).mean() > 0.7 and own.mean() > 0.7
        assert not after.vectors[~has].any()


def test_thinned_out_items_lose_each_modality_on_their_own() -> None:
    items, _ = mapped()
    left = thinned_out(items, seed=1)
    for name, before in items.items():
        after = left[name]
        assert not (after.present & ~before.present).any() and not after.vectors[~after.present].any()
        assert after.present.sum() / before.present.sum() == pytest.approx(0.5, abs=0.1)
    both = left["text"].present & left["noise"].present
    assert both.mean() == pytest.approx(0.25, abs=0.08)


def test_mixture_follows_its_seed() -> None:
    items, _ = mapped()
    one, same, other = (mixed(items, seed)["text"].vectors for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_conditions_are_the_other_modalities_and_their_presence() -> None:
    items, _ = mapped()
    told = Conditions.of(items, "text")
    image = items["image"]
    assert told.rows.shape == (N, 4 + 5 + 2) and told.known.all()
    np.testing.assert_array_equal(told.rows[:, 9], image.present)
    np.testing.assert_array_equal(told.rows[~image.present, :4], 0)
    alone = Conditions.of({"text": items["text"]}, "text")
    assert alone.rows.shape == (N, 0) and not alone.known.any()


def test_model_with_other_vectors_has_graphs_and_retrievers_of_them() -> None:
    model = small_model()
    again = model.with_items(model.items, 10)
    assert [r.name for r in again.retrievers][:1] == ["text_neighbours"]
    changed = model.with_items(mixed(model.items, 3), 10)
    assert changed.history is model.history
    assert (changed.items["text"].graph != model.items["text"].graph).nnz > 0


def test_synthetic_items_stand_behind_the_others_and_nobody_met_them() -> None:
    model = small_model()
    rng = np.random.default_rng(0)
    made = {
        name: rng.normal(size=(6, m.vectors.shape[1])).astype(np.float32) for name, m in model.items.items()
    }
    grown = with_synthetic(model, made, 10)
    assert grown.history.n_items == N + 6
    assert not grown.history.met_by[N:].any()
    np.testing.assert_array_equal(grown.items["text"].vectors[N:], made["text"])
    assert grown.presence(np.zeros(6, np.int64), np.arange(N, N + 6))[:, 1:].all()


def test_generated_vectors_follow_what_the_other_modalities_tell() -> None:
    pytest.importorskip("torch", reason="the generator needs torch")
    items, image = mapped()
    made = generated(items, seed=0)["image"]
    np.testing.assert_array_equal(made.filled, ~items["image"].present)
    np.testing.assert_array_equal(made.own, items["image"].present)
    shuffled = image[np.random.default_rng(0).permutation(N)]
    assert np.mean(cosines(made, image)) > 0.6 > np.mean(cosines(made, shuffled)) + 0.3
    again = generated(items, seed=0)["image"]
    np.testing.assert_array_equal(made.vectors, again.vectors)


def test_synthetic_vectors_are_spread_as_the_real_ones() -> None:
    pytest.importorskip("torch", reason="the generator needs torch")
    items, image = mapped()
    made = synthetic(items, 50, seed=0)
    assert {name: rows.shape for name, rows in made.items()} == {
        "text": (50, 6),
        "image": (50, 4),
        "noise": (50, 5),
    }
    real = image[items["image"].present]
    assert np.abs(made["image"].mean(axis=0) - real.mean(axis=0)).max() < 0.5 * real.std()
    assert 0.4 < made["image"].std() / real.std() < 2.0


def test_generator_needs_some_vectors_to_learn_from() -> None:
    pytest.importorskip("torch", reason="the generator needs torch")
    items, _ = mapped()
    few = replace(items["image"], present=np.arange(N) < 10)
    with pytest.raises(DataError, match="got 10 vectors to learn from, expected at least 20"):
        VectorGenerator.fit(few.vectors, Conditions.of(items, "image"), few.present, seed=0)
    assert EVERYTHING.all()
