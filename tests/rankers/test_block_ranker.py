from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.errors import DataError
from rankers import BlockRanker, load_ranker, make_ranker
from rankers.linear_ranker import LinearRanker
from tests.rankers.planted import VARIANTS, any_ranker, planted_frame, quick_ranker

TRAIN, VALID, TEST = planted_frame(seed=1), planted_frame(30, seed=2), planted_frame(30, seed=3)
PRESENT = TEST.present[:, 0]


def with_other_columns(frame, names, value):
    """Return the frame with every block but these set to a value."""
    features = frame.features.copy()
    others = [c for block, columns in frame.blocks.items() if block not in names for c in columns]
    features[:, others] = value
    return replace(frame, features=features)


def test_block_ranker_other_blocks_have_no_influence():
    ranker = BlockRanker(any_ranker(), ("image", "context")).fit(TRAIN)
    changed = BlockRanker(any_ranker(), ("image", "context")).fit(
        with_other_columns(TRAIN, ("image", "context"), 7)
    )
    scores = ranker.score(TEST)
    np.testing.assert_array_equal(changed.score(TEST), scores)
    np.testing.assert_array_equal(ranker.score(with_other_columns(TEST, ("image", "context"), -3)), scores)
    assert len(np.unique(scores)) > 5


def test_block_ranker_equals_inner_ranker_on_selected_blocks():
    inner = any_ranker().fit(TRAIN.select_blocks(["text"]))
    np.testing.assert_array_equal(
        BlockRanker(any_ranker(), ("text",)).fit(TRAIN).score(TEST), inner.score(TEST.select_blocks(["text"]))
    )


def test_block_ranker_absent_modality_scores_nan_and_only_there():
    ranker = BlockRanker(any_ranker(), ("image",), modality="image").fit(TRAIN, VALID)
    assert 0 < PRESENT.sum() < TEST.n_rows
    np.testing.assert_array_equal(np.isnan(ranker.score(TEST)), ~PRESENT)


def test_block_ranker_rows_without_the_modality_are_not_trained_on():
    labels = np.where(TRAIN.present[:, 0], TRAIN.labels, 3 - TRAIN.labels).astype(np.float32)
    spoiled = replace(TRAIN, labels=labels)
    np.testing.assert_array_equal(
        BlockRanker(any_ranker(), ("image",), "image").fit(spoiled).score(TEST),
        BlockRanker(any_ranker(), ("image",), "image").fit(TRAIN).score(TEST),
    )


def test_block_ranker_without_modality_scores_every_row():
    assert np.isfinite(BlockRanker(any_ranker(), ("image",)).fit(TRAIN).score(TEST)).all()


def test_block_ranker_no_row_has_the_modality_scores_all_nan():
    ranker = BlockRanker(any_ranker(), ("image",), "image").fit(TRAIN)
    nobody = replace(TEST, present=np.zeros_like(TEST.present))
    assert np.isnan(ranker.score(nobody)).all()


def test_block_ranker_no_row_of_valid_has_the_modality_trains_all_rounds(caplog):
    nobody = replace(VALID, present=np.zeros_like(VALID.present))
    inner = any_ranker()
    BlockRanker(inner, ("image",), "image").fit(TRAIN, nobody)
    assert inner.best_rounds_ == inner.rounds
    assert "without early stopping" in caplog.text


def test_block_ranker_keeps_query_weights_of_the_rows_left():
    weights = np.random.default_rng(0).integers(1, 5, TRAIN.n_queries).astype(np.float32)
    present = TRAIN.present.copy()
    present[: TRAIN.offsets[1]] = False
    frame = replace(TRAIN, present=present, query_weights=weights)
    inner = any_ranker().fit(frame.take_rows(present[:, 0]).select_blocks(["image"]))
    scores = BlockRanker(any_ranker(), ("image",), "image").fit(frame).score(TEST)
    np.testing.assert_array_equal(
        scores[PRESENT], inner.score(TEST.select_blocks(["image"]).take_rows(PRESENT))
    )


@pytest.mark.parametrize(("family", "objective"), VARIANTS)
def test_block_ranker_load_finds_the_inner_family_and_scores_the_same(family, objective, tmp_path):
    ranker = BlockRanker(quick_ranker(family, objective), ("image", "text"), "image").fit(TRAIN)
    ranker.save(tmp_path)
    loaded = load_ranker(tmp_path)
    assert loaded == ranker
    np.testing.assert_array_equal(loaded.score(TEST), ranker.score(TEST))


def test_block_ranker_inside_a_block_ranker_reloads(tmp_path):
    ranker = BlockRanker(BlockRanker(LinearRanker(), ("text",)), ("text", "image"), "image").fit(TRAIN)
    ranker.save(tmp_path)
    np.testing.assert_array_equal(load_ranker(tmp_path).score(TEST), ranker.score(TEST))


def test_block_ranker_unknown_block_raises():
    with pytest.raises(DataError, match=r"got blocks \['context', 'image', 'text'\], expected 'audio'"):
        BlockRanker(make_ranker("linear"), ("audio",)).fit(TRAIN)


def test_block_ranker_unknown_modality_raises():
    with pytest.raises(DataError, match=r"got modalities \['image'\], expected 'audio'"):
        BlockRanker(make_ranker("linear"), ("text",), "audio").fit(TRAIN)
