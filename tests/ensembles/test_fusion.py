from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ensembles.fusion import RankFusion
from tests.ensembles.planted import complementary, from_lists

NAN = np.nan
LABELS = [[1, 0, 0, 0]]


def test_rank_fusion_hand_computed() -> None:
    frame = from_lists([[[4.0, 1.0], [3.0, 2.0], [2.0, 4.0], [1.0, 3.0]]], labels=LABELS)
    expected = [(1 / 61 + 1 / 64) / 2, (1 / 62 + 1 / 63) / 2, (1 / 63 + 1 / 61) / 2, (1 / 64 + 1 / 62) / 2]
    np.testing.assert_allclose(RankFusion().fit(frame).score(frame), expected, rtol=1e-14)


def test_rank_fusion_full_opinions_order_as_the_published_sum() -> None:
    frame = complementary(30, 0, noise_base=True)
    got = RankFusion().fit(frame).score(frame)
    for start, stop in pairwise(frame.offsets):
        ranks = (-frame.scores[start:stop]).argsort(axis=0).argsort(axis=0) + 1
        np.testing.assert_allclose(got[start:stop] * 3, (1 / (60 + ranks)).sum(axis=1), rtol=1e-12)


def test_rank_fusion_ties_share_their_average_rank() -> None:
    frame = from_lists([[[4.0], [4.0], [2.0], [1.0]]], labels=LABELS)
    np.testing.assert_allclose(RankFusion().fit(frame).score(frame), [1 / 61.5, 1 / 61.5, 1 / 63, 1 / 64])


def test_rank_fusion_missing_opinion_is_no_penalty() -> None:
    frame = from_lists([[[4.0, NAN], [3.0, 2.0], [2.0, 4.0], [1.0, 3.0]]], labels=LABELS)
    assert np.argmax(RankFusion().fit(frame).score(frame)) == 0


def test_rank_fusion_first_of_few_is_not_first_of_all() -> None:
    # base1 knows one candidate only: it counts as the middle of four, not as the top
    frame = from_lists([[[4.0, NAN], [3.0, NAN], [2.0, NAN], [1.0, 9.0]]], labels=LABELS)
    scores = RankFusion().fit(frame).score(frame)
    assert scores[3] == pytest.approx((1 / 64 + 1 / 62.5) / 2)
    assert np.argsort(-scores).tolist() == [0, 1, 2, 3]


def test_rank_fusion_constant_is_a_parameter() -> None:
    frame = from_lists([[[4.0], [3.0], [2.0], [1.0]]], labels=LABELS)
    np.testing.assert_allclose(RankFusion(constant=0.0).fit(frame).score(frame), [1, 1 / 2, 1 / 3, 1 / 4])
