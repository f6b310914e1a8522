from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensembles.comparisons import compare, draw_bag, draw_jitter
from ensembles.meta import mean_ndcg
from rankers.metrics import ndcg
from tests.ensembles.planted import complementary, from_lists


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_compare_mean_ndcg_agrees_with_the_metric(k: int) -> None:
    frame = complementary(60, 0, noise_base=True)
    generator = np.random.default_rng(0)
    frame = replace(
        frame,
        labels=generator.integers(0, 4, len(frame.labels)).astype(np.float32),
        query_weights=generator.uniform(0.5, 2.0, 60).astype(np.float32),
    )
    jitter = draw_jitter(len(frame.labels), generator)
    bag = compare(frame, k, jitter)
    expected = [mean_ndcg(column, frame, k, 0) for column in frame.scores.T]
    np.testing.assert_allclose(bag.after_each(bag.jitter), expected, rtol=1e-12)
    shifted = bag.jitter - bag.z[0]
    assert bag.after(shifted, 2.0, 0) == pytest.approx(expected[0], rel=1e-12)
    each = ndcg(frame.scores[:, 0], frame.labels, frame.offsets, k)
    np.testing.assert_allclose(bag.per_query(frame.scores[:, 0] + jitter), np.nan_to_num(each), rtol=1e-12)


def test_compare_ties_are_broken_at_random_not_by_row() -> None:
    # a constant base with the positive always first: NDCG is that of a random order of 4
    frame = from_lists([[[1.0]] * 4] * 4000, labels=[[1, 0, 0, 0]] * 4000)
    bag = compare(frame, 10, draw_jitter(len(frame.labels), np.random.default_rng(0)))
    expected = np.mean(1.0 / np.log2(np.arange(4) + 2.0))
    assert bag.after(bag.jitter, 1.0, 0) == pytest.approx(expected, abs=0.02)


def test_draw_bag_is_bounded() -> None:
    frame = from_lists([[[1.0]] * 4] * 100, labels=[[1, 0, 0, 0]] * 90 + [[0, 0, 0, 0]] * 10)

    def drawn(largest: int) -> np.ndarray:
        return draw_bag(frame, 0.5, largest, np.random.default_rng(0))

    assert len(drawn(1000)) == 45
    assert len(drawn(42)) == len(np.unique(drawn(42))) == 10
    assert len(drawn(1)) == 1
