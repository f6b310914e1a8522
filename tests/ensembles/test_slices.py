from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.score_frame import ACTIVITY
from ensembles.slices import FEWEST, RankedPositives, positive_slices, worst_slice
from rankers.metrics import ndcg
from tests.ensembles.planted import complementary, from_lists

K = 5


@given(seed=st.integers(0, 1000), share=st.floats(0.1, 1.0))
def test_ndcg_of_a_part_is_that_of_the_list_without_the_other_positives(seed: int, share: float) -> None:
    frame = complementary(12, seed)
    generator = np.random.default_rng(seed)
    frame = replace(frame, labels=generator.integers(0, 3, len(frame.labels)).astype(np.float32))
    part = (frame.labels > 0) & (generator.random(len(frame.labels)) < share)
    scores = generator.normal(size=len(frame.labels))
    values = RankedPositives.of(frame, scores).ndcg(part, K)
    left = part | (frame.labels == 0)
    alone = frame.take_rows(left)
    expected = ndcg(scores[left], alone.labels, alone.offsets, K)
    np.testing.assert_allclose(values, expected, atol=1e-12)


@given(seed=st.integers(0, 1000), share=st.floats(0.2, 1.0))
def test_ranked_among_some_candidates_is_ranked_without_the_others(seed: int, share: float) -> None:
    frame = complementary(12, seed)
    generator = np.random.default_rng(seed)
    frame = replace(frame, labels=generator.integers(0, 3, len(frame.labels)).astype(np.float32))
    among = generator.random(len(frame.labels)) < share
    scores = generator.normal(size=len(frame.labels))
    values = RankedPositives.of(frame, scores, among).ndcg(among, K)
    alone = frame.take_rows(among)
    expected = ndcg(scores[among], alone.labels, alone.offsets, K)
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_query_without_a_positive_of_the_part_has_no_value() -> None:
    frame = from_lists([[[2.0], [1.0]], [[1.0], [2.0]]], labels=[[1, 0], [1, 0]])
    part = np.array([True, False, False, False])
    np.testing.assert_array_equal(RankedPositives.of(frame, frame.scores[:, 0]).ndcg(part, 1), [1.0, np.nan])


def test_slices_are_patterns_coldness_and_activity() -> None:
    frame = complementary(400, 0, missing=0.5)
    activity = np.repeat(np.arange(400.0), frame.group_sizes)[:, None].astype(np.float32)
    frame = replace(
        frame,
        context=activity,
        context_names=(ACTIVITY,),
        modalities=("behaviour", "image"),
        base_modality={},
    )
    slices = positive_slices(frame)
    assert set(slices) == {
        "pattern behaviour",
        "pattern behaviour+image",
        "items met",
        "quiet users",
        "users between",
        "busy users",
    }
    positives = int((frame.labels > 0).sum())
    assert sum(int(slices[name].sum()) for name in slices if name.startswith("pattern")) == positives
    assert sum(int(slices[name].sum()) for name in slices if "users" in name) == positives
    few = frame.take_queries(np.arange(FEWEST - 1))
    assert positive_slices(few) == {}


def test_worst_slice_is_the_one_that_is_ranked_worst() -> None:
    frame = complementary(300, 0, missing=0.5)
    # right wherever the positive has an image, upside down elsewhere
    has = frame.present[frame.labels > 0, 1]
    scores = frame.labels * np.where(np.repeat(has, frame.group_sizes), 1.0, -1.0)
    worst = worst_slice(frame, scores, positive_slices(frame), K)
    assert worst is not None
    assert (worst.name, worst.mean, worst.n) == ("pattern text", pytest.approx(0.0), int((~has).sum()))
    assert worst_slice(frame, scores, {}, K) is None
