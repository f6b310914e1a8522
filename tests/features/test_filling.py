"""Guessed vectors: right where the answer is planted, absent where nothing tells it, and never presence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from features.filling import METHODS, filled
from features.frame import BoolArray, FloatArray
from features.space import ModalityVectors, Space

N, D = 240, 6
GUESSES = [method for method in METHODS if method != "none"]
NOBODY = sparse.csr_array((4, N))
EVERYTHING = np.ones(N, dtype=bool)
every_method = pytest.mark.parametrize("method", GUESSES)


def modality(vectors: FloatArray, present: BoolArray) -> ModalityVectors:
    return ModalityVectors(np.where(present[:, None], vectors, 0).astype(np.float32), present)


def mapped(seed: int = 0) -> tuple[Space, FloatArray]:
    """Images are a linear function of texts with a little noise, and a third of them is missing."""
    rng = np.random.default_rng(seed)
    text = rng.normal(size=(N, D))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    image = (text @ rng.normal(size=(D, 4)) + 0.02 * rng.normal(size=(N, 4))).astype(np.float32)
    items = {
        "text": modality(text, EVERYTHING),
        "image": modality(image, np.arange(N) % 3 > 0),
        "noise": modality(rng.normal(size=(N, 5)), EVERYTHING),
    }
    return items, image


def clustered(seed: int = 0) -> tuple[Space, FloatArray, sparse.csr_array]:
    """Items of eight kinds: users like one kind, kinds share images, and a third of the images is missing."""
    rng = np.random.default_rng(seed)
    kind = np.arange(N) % 8
    image = (rng.normal(size=(8, 4))[kind] + 0.05 * rng.normal(size=(N, 4))).astype(np.float32)
    likes = (rng.random((80, N)) < 0.5) & (kind == (np.arange(80) % 8)[:, None])
    items = {"image": modality(image, rng.random(N) > 0.33)}
    return items, image, sparse.csr_array(likes, dtype=np.float32)


def cosines(guessed: ModalityVectors, truth: FloatArray) -> FloatArray:
    rows = guessed.filled
    length = np.linalg.norm(truth[rows], axis=1)
    return (guessed.unit[rows] * truth[rows]).sum(axis=1) / length


@pytest.mark.parametrize("method", ["ridge", "cca"])
def test_maps_recover_what_another_modality_tells(method) -> None:
    items, image = mapped()
    found = filled(items, NOBODY, method, sources=EVERYTHING)["image"]
    np.testing.assert_array_equal(found.filled, ~items["image"].present)
    assert np.mean(cosines(found, image)) > 0.9


@pytest.mark.parametrize("method", ["neighbour_mean", "pagerank"])
def test_neighbours_recover_what_those_who_are_liked_together_share(method) -> None:
    items, image, liked = clustered()
    found = filled(items, liked, method, sources=EVERYTHING)["image"]
    assert found.filled.sum() == (~items["image"].present).sum()
    assert np.mean(cosines(found, image)) > 0.9


@pytest.mark.parametrize("method", ["ridge", "cca"])
def test_what_no_modality_tells_stays_missing(method) -> None:
    items, _ = mapped()
    only_noise = {name: items[name] for name in ("image", "noise")}
    found = filled(only_noise, NOBODY, method, sources=EVERYTHING)["image"]
    assert not found.filled.any()
    np.testing.assert_array_equal(found.present, items["image"].present)


@every_method
def test_guess_is_a_vector_and_never_presence(method) -> None:
    items, _ = mapped()
    found = filled(items, NOBODY, method, sources=EVERYTHING)
    for name, before in items.items():
        after = found[name]
        np.testing.assert_array_equal(after.own, before.present)
        np.testing.assert_array_equal(after.vectors[before.present], before.vectors[before.present])
        np.testing.assert_array_equal(after.present, before.present | after.filled)
        assert np.isfinite(after.vectors).all()


@every_method
def test_guessing_again_changes_nothing(method) -> None:
    items, _ = mapped()
    once = filled(items, NOBODY, method, sources=EVERYTHING)
    twice = filled(once, NOBODY, method, sources=EVERYTHING)
    for name, after in twice.items():
        np.testing.assert_array_equal(after.vectors, once[name].vectors)
        np.testing.assert_array_equal(after.filled, once[name].filled)


@every_method
def test_appended_items_are_guessed_alike_alone_and_together_and_change_no_other(method) -> None:
    items, _ = mapped()
    old, one = np.arange(N) < 200, np.arange(N) == 201
    before = {name: replace(m, present=m.present & old) for name, m in items.items()}
    learned = filled(before, NOBODY, method, sources=old)
    grown = {
        name: replace(
            learned[name],
            vectors=np.where(old[:, None], learned[name].vectors, m.vectors),
            present=np.where(old, learned[name].present, m.present),
            guessed=learned[name].filled & old,
        )
        for name, m in items.items()
    }
    assert not items["image"].present[201]
    together = filled(grown, NOBODY, method, sources=old, targets=~old)["image"]
    alone = filled(grown, NOBODY, method, sources=old, targets=one)["image"]
    np.testing.assert_allclose(alone.vectors[one], together.vectors[one], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(together.vectors[old], learned["image"].vectors[old])
    assert together.filled[201] and not alone.filled[np.arange(N) > 201].any()


@pytest.mark.parametrize("method", ["neighbour_mean", "pagerank"])
def test_order_of_the_items_makes_no_difference_but_for_ties(method) -> None:
    items, _, liked = clustered()
    order = np.random.default_rng(3).permutation(N)
    moved = {name: ModalityVectors(m.vectors[order], m.present[order]) for name, m in items.items()}
    plain = filled(items, liked, method, sources=EVERYTHING)["image"]
    again = filled(moved, liked[:, order].tocsr(), method, sources=EVERYTHING)["image"]
    np.testing.assert_array_equal(again.filled, plain.filled[order])
    assert (again.unit * plain.unit[order]).sum(axis=1)[again.filled].min() > 0.99


def test_fixed_modality_and_no_method_leave_everything() -> None:
    items, _ = mapped()
    assert filled(items, NOBODY, "none", sources=EVERYTHING) is items
    assert filled(items, NOBODY, "ridge", sources=EVERYTHING, fixed=("image",))["image"] is items["image"]
