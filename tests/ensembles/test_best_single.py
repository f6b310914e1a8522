from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ensembles.best_single import BestSingle
from tests.ensembles.planted import complementary, from_lists

NAN = np.nan


def test_best_single_picks_the_base_with_the_best_ndcg() -> None:
    frame = complementary(200, 0, missing=0.3, noise_base=True)
    meta = BestSingle(10).fit(frame)
    assert meta.bases_ == ("text",)
    assert meta.quality_["text"] > meta.quality_["image"] > meta.quality_["noise"]


def test_best_single_k_decides() -> None:
    # base0 has the hit first in 1 of 3 queries, base1 always second
    scores = [[[3.0, 2.0], [2.0, 3.0], [1.0, 1.0]], *[[[1.0, 2.0], [2.0, 3.0], [3.0, 1.0]]] * 2]
    frame = from_lists(scores, labels=[[1, 0, 0]] * 3)
    assert BestSingle(1).fit(frame).bases_ == ("base0",)
    assert BestSingle(2).fit(frame).bases_ == ("base1",)


def test_best_single_equal_bases_keep_the_order_of_the_frame() -> None:
    frame = from_lists([[[2.0, 4.0], [1.0, 3.0]]], labels=[[1, 0]])
    assert BestSingle().fit(frame).bases_ == ("base0",)


def test_best_single_order_is_that_of_the_base() -> None:
    frame = complementary(50, 0)
    scores = BestSingle().fit(frame).score(frame)
    for start, stop in pairwise(frame.offsets):
        np.testing.assert_array_equal(np.argsort(scores[start:stop]), np.argsort(frame.scores[start:stop, 0]))


def test_best_single_next_best_places_what_the_best_does_not_know() -> None:
    frame = from_lists(
        [[[9.0, 4.0], [8.0, 3.0], [NAN, 1.0], [NAN, 2.0]]],
        labels=[[2, 1, 0, 0]],
    )
    meta = BestSingle().fit(frame)
    assert meta.bases_used() == ("base0", "base1")
    # base0's two are stretched to ranks 1.5 and 3.5, base1 gives ranks 4 and 3 to the others
    np.testing.assert_array_equal(meta.score(frame), [-1.5, -3.5, -4.0, -3.0])


def test_best_single_fallbacks_end_where_everything_is_known() -> None:
    frame = from_lists(
        [[[9.0, 5.0, 1.0], [NAN, 4.0, 2.0], [7.0, NAN, 3.0]]],
        labels=[[2, 0, 1]],
    )
    assert BestSingle().fit(frame).bases_used() == ("base0", "base1")


@pytest.mark.parametrize("hole", [True, False])
def test_best_single_reports_every_base(hole: bool) -> None:
    frame = complementary(30, 0, missing=0.5 if hole else 0.0)
    assert set(BestSingle().fit(frame).quality_) == {"text", "image"}
