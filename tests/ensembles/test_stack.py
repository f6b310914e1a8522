from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ensembles import LADDER, make_meta
from ensembles.meta import MetaLearner
from ensembles.score_frame import ScoreFrame
from ensembles.stack import Stack
from features.frame import RankingFrame
from rankers import BlockRanker, make_ranker
from rankers.column_ranker import ColumnRanker
from rankers.protocol import Ranker

CONTEXT = ("activity",)
BASE_MODALITY = {"image": "image"}


def planted_frame(n_queries: int, seed: int, size: int = 10) -> RankingFrame:
    """Text tells half of the relevance and an image, where there is one, the other half; and noise."""
    rng = np.random.default_rng(seed)
    n = n_queries * size
    features = rng.normal(size=(n, 4)).astype(np.float32)
    has_image = rng.random(n) < 0.7
    relevance = features[:, 0] + np.where(has_image, features[:, 1], 0)
    features[~has_image, 1] = np.nan
    features[rng.random(n) < 0.3, 2] = np.nan
    return RankingFrame(
        features=features,
        feature_names=("text", "image", "popularity.score", "activity"),
        blocks={"text": (0,), "image": (1,), "behaviour": (2,), "context": (3,)},
        labels=(relevance > 1.2).astype(np.float32),
        queries=np.repeat(np.arange(n_queries), size),
        items=np.tile(np.arange(size), n_queries),
        modalities=("image",),
        present=has_image[:, None],
    )


TRAIN, TEST = planted_frame(60, 0), planted_frame(25, 1)


@cache
def fitted_bases() -> dict[str, Ranker]:
    params = {"rounds": 15, "min_data_in_leaf": 5, "learning_rate": 0.2}
    image = make_ranker("lightgbm", params=params, threads=1, device="cpu")
    bases = {
        "noise": ColumnRanker("popularity.score"),
        "text": BlockRanker(make_ranker("linear", device="cpu"), ("text",)),
        "image": BlockRanker(image, ("image",), "image"),
    }
    return {name: base.fit(TRAIN) for name, base in bases.items()}


@cache
def fitted(name: str) -> Stack:
    meta: MetaLearner = make_meta(name, k=5, threads=1)
    stack = Stack(fitted_bases(), BASE_MODALITY, CONTEXT, meta)
    meta.fit(stack.base_scores(TRAIN))
    return stack


every_meta = pytest.mark.parametrize("name", LADDER)


def test_base_scores_are_what_every_base_says():
    frame: ScoreFrame = fitted("best_single").base_scores(TEST)
    assert frame.bases == ("noise", "text", "image")
    for column, base in enumerate(fitted_bases().values()):
        np.testing.assert_array_equal(frame.scores[:, column], base.score(TEST))
    assert frame.base_modality == BASE_MODALITY
    np.testing.assert_array_equal(frame.context[:, 0], TEST.features[:, 3])
    np.testing.assert_array_equal(frame.offsets, TEST.offsets)


def test_base_scores_no_opinion_stays_nan():
    scores = fitted("best_single").base_scores(TEST).scores
    absent = [np.isnan(TEST.features[:, 2]), np.zeros(TEST.n_rows, bool), ~TEST.present[:, 0]]
    np.testing.assert_array_equal(np.isnan(scores), np.stack(absent, axis=1))
    assert absent[0].any()
    assert absent[2].any()


@every_meta
def test_score_is_that_of_the_meta_learner_and_finite(name):
    stack = fitted(name)
    scores = stack.score(TEST)
    np.testing.assert_array_equal(scores, stack.meta.score(stack.base_scores(TEST)))
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) >= 10


@every_meta
def test_score_query_alone_has_the_same_bits(name):
    whole = fitted(name).score(TEST)
    for query in (0, 11, 24):
        alone = fitted(name).score(TEST.take_queries(np.array([query])))
        np.testing.assert_array_equal(alone, whole[TEST.offsets[query] : TEST.offsets[query + 1]])


@every_meta
def test_pruned_scores_the_same_bits_with_the_bases_that_are_read(name):
    stack = fitted(name)
    pruned = stack.pruned()
    assert set(pruned.bases) == set(stack.meta.bases_used())
    assert set(pruned.base_modality) == set(pruned.bases) & set(BASE_MODALITY)
    np.testing.assert_array_equal(pruned.score(TEST), stack.score(TEST))
    assert set(stack.bases) == {"noise", "text", "image"}


def test_pruned_best_single_keeps_one_base():
    assert len(fitted("best_single").pruned().bases) == 1


@every_meta
@pytest.mark.parametrize("prune", [False, True])
def test_load_scores_the_same_bits(name, prune, tmp_path):
    stack = fitted(name).pruned() if prune else fitted(name)
    stack.save(tmp_path)
    loaded = Stack.load(tmp_path)
    assert list(loaded.bases) == list(stack.bases)
    assert (loaded.base_modality, loaded.context) == (stack.base_modality, stack.context)
    np.testing.assert_array_equal(loaded.score(TEST), stack.score(TEST))


@every_meta
def test_load_of_what_was_loaded_and_saved_again_scores_the_same_bits(name, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    fitted(name).save(first)
    Stack.load(first).save(second)
    np.testing.assert_array_equal(Stack.load(second).score(TEST), fitted(name).score(TEST))


@every_meta
def test_save_writes_no_pickle(name, tmp_path):
    fitted(name).save(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".txt", ".npz"}
    for path in files:
        assert not path.read_bytes().startswith(b"\x80")
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert all(arrays[key].dtype != object for key in arrays)


def test_score_frame_labels_are_not_read():
    blind = replace(TEST, labels=np.zeros(TEST.n_rows, np.float32))
    for name in LADDER:
        np.testing.assert_array_equal(fitted(name).score(blind), fitted(name).score(TEST))
