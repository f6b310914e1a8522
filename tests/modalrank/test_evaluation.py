from __future__ import annotations

from math import log2

import numpy as np
import pytest

from ensembles.gate import Interval, Step
from ensembles.score_frame import ScoreFrame
from features.builder import FeatureModel
from features.candidates import Candidates
from features.history import History
from features.space import ModalityVectors
from modalrank import evaluation
from modalrank.evaluation import (
    Scored,
    activity_slices,
    coldness_slices,
    leaderboard,
    pattern_names,
    pattern_slices,
    query_pattern_slices,
)

K = 2
NO_POSITIVE = float("nan")


def history() -> History:
    """Item 0 is liked by four users and disliked by user 5, who likes 1; nobody met 2 and 3."""
    users, items = np.array([1, 2, 3, 4, 5, 5]), np.array([0, 0, 0, 0, 1, 0])
    labels = np.array([1, 1, 1, 1, 1, 0], dtype=np.float32)
    return History(users, items, labels, None, n_users=6, n_items=4, positive_from=1.0)


def model() -> FeatureModel:
    """Items 0 and 2 have an image."""
    image = ModalityVectors(np.eye(4, 2, dtype=np.float32), np.array([True, False, True, False]))
    return FeatureModel(history(), {"image": image}, {}, ())


def scored(**options) -> Scored:
    """User 0: items 0, 1, 2 in this order, of which 1 and 2 are positives; user 5: items 0, 3, 3 is one.

    User 3 has a positive, item 2, and no candidate; user 5 has a second positive that is no candidate.
    """
    labels = np.array([0, 1, 1, 0, 1], dtype=np.float32)
    frame = ScoreFrame(
        scores=np.zeros((5, 1)),
        bases=("b",),
        labels=labels,
        offsets=np.array([0, 3, 5]),
        modalities=("image",),
        present=np.array([[True], [False], [True], [True], [False]]),
        base_modality={},
        context=np.zeros((5, 0), np.float32),
        context_names=(),
    )
    facts = {
        "queries": np.array([0, 5]),
        "items": np.array([0, 1, 2, 0, 3]),
        "total_relevant": np.array([2, 2]),
        "unreached": np.array([3]),
    }
    return Scored(frame, **(facts | options))


SCORES = np.array([3.0, 2.0, 1.0, 0.1, 0.9])


def positives() -> Candidates:
    users, items = np.array([0, 0, 3, 5, 5]), np.array([1, 2, 2, 0, 3])
    return Candidates(users, items, np.zeros((5, 0), np.float32))


def means(slices) -> dict[str, tuple[float, int]]:
    return {part.name: (part.value.mean, part.value.n) for part in slices}


def test_metrics_are_those_computed_by_hand_and_an_unreached_query_counts_zero():
    ideal = 1 + 1 / log2(3)
    values = scored().all_metrics(SCORES, K)
    assert values[f"ndcg@{K}"].tolist() == pytest.approx([1 / log2(3) / ideal, 1 / ideal, 0.0])
    assert values[f"recall@{K}"].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert values[f"precision@{K}"].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert values[f"hit_rate@{K}"].tolist() == pytest.approx([1.0, 1.0, 0.0])
    assert values["map"].tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2, 1 / 2, 0.0])
    assert values["mrr"].tolist() == pytest.approx([1 / 2, 1.0, 0.0])
    assert scored().every_query.tolist() == [0, 5, 3]


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [0.0, 0.5, 0.0]), (2, [0.5, 0.5, 0.0]), (3, [1.0, 0.5, 0.0])]
)
def test_recall_is_of_all_positives_retrieved_or_not(k, expected):
    assert scored().recall(SCORES, k).tolist() == pytest.approx(expected)
    assert scored().recall(SCORES, k).tolist() == scored().all_metrics(SCORES, k)[f"recall@{k}"].tolist()


def test_query_without_a_positive_has_no_value():
    nobody = scored(total_relevant=None, unreached=np.zeros(0, dtype=np.int64))
    nobody.frame.labels[3:] = 0
    assert np.isnan(nobody.ndcg(SCORES, K)).tolist() == [False, True]


def test_coldness_slices_are_recall_of_positives_by_likes_before_the_cut():
    slices = coldness_slices(scored(), SCORES, model(), positives(), K)
    # Item 1 is found (rare); of item 2 both are lost and 3 is found (cold); 0 is no hit (warm).
    assert means(slices) == {
        "cold (0)": (pytest.approx(1 / 3), 3),
        "rare (1-3)": (1.0, 1),
        "warm (4+)": (0.0, 1),
    }
    assert {part.metric for part in slices} == {"recall@2 of positives"}


def test_coldness_slice_without_a_positive_is_left_out():
    one = Candidates(np.array([0]), np.array([1]), np.zeros((1, 0), np.float32))
    assert list(means(coldness_slices(scored(), SCORES, model(), one, K))) == ["rare (1-3)"]


def test_pattern_slices_are_recall_of_positives_by_what_the_item_has(monkeypatch):
    monkeypatch.setattr(evaluation, "FEWEST_OF_PATTERN", 1)
    slices = pattern_slices(scored(), SCORES, model(), positives(), K)
    assert means(slices) == {
        "behaviour": (1.0, 1),
        "behaviour+image": (0.0, 1),
        "image": (0.0, 2),
        "none": (1.0, 1),
    }


def test_rare_patterns_are_one_slice(monkeypatch):
    monkeypatch.setattr(evaluation, "FEWEST_OF_PATTERN", 2)
    slices = pattern_slices(scored(), SCORES, model(), positives(), K)
    assert means(slices) == {"image": (0.0, 2), "other patterns": (pytest.approx(2 / 3), 3)}


def test_found_is_among_the_first_k_whatever_the_scores_of_others():
    recall_at = {k: means(coldness_slices(scored(), SCORES, model(), positives(), k)) for k in (1, 3)}
    assert recall_at[1]["rare (1-3)"] == (0.0, 1)
    assert recall_at[3]["cold (0)"] == (pytest.approx(2 / 3), 3)


def test_activity_slices_are_ndcg_of_queries_by_what_they_met():
    values = scored().ndcg(SCORES, K)
    slices = activity_slices(scored(), values, model(), K)
    # User 0 met nothing; 3 (unreached) met one item and 5 two.
    assert means(slices) == {
        "0": (pytest.approx(values[0]), 1),
        "1-2": (pytest.approx((values[1] + 0) / 2), 2),
    }


def test_activity_borders_are_named():
    users = np.repeat(np.arange(5), [0, 3, 10, 11, 51])
    items = np.concatenate([np.arange(n) for n in (0, 3, 10, 11, 51)])
    known = History(users, items, np.ones(len(users), np.float32), None, 5, 60, 1.0)
    everybody = scored(queries=np.arange(2), unreached=np.arange(2, 5))
    slices = activity_slices(everybody, np.zeros(5), FeatureModel(known, {}, {}, ()), K)
    assert [(part.name, part.value.n) for part in slices] == [("0", 1), ("3-10", 2), ("11-50", 1), ("51+", 1)]


def test_query_pattern_slices_are_ndcg_by_the_best_candidate(monkeypatch):
    monkeypatch.setattr(evaluation, "FEWEST_OF_PATTERN", 1)
    lists = scored(total_relevant=None, unreached=np.zeros(0, dtype=np.int64))
    lists.frame.labels[:] = [0, 1, 2, 0, 1]
    values = np.array([0.25, 0.75])
    # The best of the first query is its third row, which has the image, and of the second its last.
    assert means(query_pattern_slices(lists, values, K)) == {"image": (0.25, 1), "none": (0.75, 1)}


def test_pattern_names_join_what_is_present_in_the_order_of_the_modalities():
    present = np.array([[True, False, True], [False, False, False], [True, True, True]])
    assert pattern_names(("text", "image", "audio"), present).tolist() == [
        "text+audio",
        "none",
        "text+image+audio",
    ]
    assert pattern_names(("text",), np.zeros((0, 1), dtype=bool)).tolist() == []
    assert pattern_names((), np.zeros((2, 0), dtype=bool)).tolist() == ["none", "none"]


def test_leaderboard_is_ordered_by_validation_and_shows_the_gate():
    valid = {"weak": np.array([0.1, 0.3]), "best": np.array([0.9, 0.7]), "meta": np.array([0.5, NO_POSITIVE])}
    test = {"weak": np.array([1.0]), "best": np.array([0.0, 0.2])}
    step = Step("meta", 0.5, "best", Interval(-0.3, -0.4, -0.2, 2), accepted=False)
    board = leaderboard(valid, test, dict.fromkeys(valid, "r"), "best", [step], 200)
    assert [row.name for row in board] == ["best", "meta", "weak"]
    assert [row.chosen for row in board] == [True, False, False]
    assert board[0].valid.mean == pytest.approx(0.8) and board[0].test.mean == pytest.approx(0.1)
    assert board[1].test is None
    assert board[1].valid.n == 1, "a query without a positive is left out"
    assert board[1].note == "refused: -0.3000 [-0.4000, -0.2000] against best"


def test_accepted_step_says_so():
    step = Step("meta", 0.5, "best", Interval(0.1, 0.05, 0.2, 9), accepted=True)
    (row,) = leaderboard({"meta": np.ones(2)}, {}, {"meta": "meta"}, "meta", [step], 100)
    assert row.note == "accepted: +0.1000 [+0.0500, +0.2000] against best"
