"""One suite that every ranker and objective passes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from features.errors import DataError
from features.frame import RankingFrame
from rankers import load_ranker, make_ranker, mean_of, ndcg
from rankers.protocol import Ranker
from tests.rankers.planted import (
    VARIANTS,
    planted_frame,
    quick_ranker,
    reorder,
    shuffled_rows,
    with_feature,
    with_labels,
)

TRAIN, VALID, TEST = planted_frame(seed=1), planted_frame(30, seed=2), planted_frame(30, seed=3)

every_ranker = pytest.mark.parametrize(("family", "objective"), VARIANTS)
BOOSTERS = [variant for variant in VARIANTS if variant[0] != "linear"]


@cache
def fitted(family: str, objective: str) -> Ranker:
    return quick_ranker(family, objective).fit(TRAIN)


def quality(ranker: Ranker, frame: RankingFrame, k: int = 5) -> float:
    return mean_of(ndcg(ranker.score(frame), frame.labels, frame.offsets, k)).mean


def random_quality(frame: RankingFrame) -> float:
    return mean_of(ndcg(np.zeros(frame.n_rows), frame.labels, frame.offsets, k=5)).mean


@every_ranker
def test_fit_planted_answer_is_found(family, objective):
    assert quality(fitted(family, objective), TEST) > random_quality(TEST) + 0.3


@every_ranker
def test_score_is_one_float64_a_row(family, objective):
    scores = fitted(family, objective).score(TEST)
    assert scores.shape == (TEST.n_rows,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@every_ranker
def test_fit_rows_and_queries_in_another_order_same_model(family, objective):
    shuffled = reorder(TRAIN, shuffled_rows(TRAIN, seed=5))
    assert not np.array_equal(shuffled.queries, TRAIN.queries)
    scores = quick_ranker(family, objective).fit(shuffled).score(TEST)
    np.testing.assert_array_equal(scores, fitted(family, objective).score(TEST))


@every_ranker
def test_score_rows_in_another_order_same_scores(family, objective):
    rows = shuffled_rows(TEST, seed=6)
    ranker = fitted(family, objective)
    np.testing.assert_array_equal(ranker.score(reorder(TEST, rows)), ranker.score(TEST)[rows])


@every_ranker
def test_fit_same_seed_same_scores(family, objective):
    again = quick_ranker(family, objective).fit(TRAIN)
    np.testing.assert_array_equal(again.score(TEST), fitted(family, objective).score(TEST))


@every_ranker
def test_load_scores_bit_for_bit_as_saved(family, objective, tmp_path):
    ranker = fitted(family, objective)
    ranker.save(tmp_path)
    loaded = load_ranker(tmp_path)
    assert loaded == ranker  # parameters, feature names and best rounds
    np.testing.assert_array_equal(loaded.score(TEST), ranker.score(TEST))


@every_ranker
def test_save_writes_no_pickle(family, objective, tmp_path):
    fitted(family, objective).save(tmp_path)
    for path in tmp_path.rglob("*"):
        assert path.suffix in {".json", ".txt", ".ubj", ".cbm", ".npz", ".safetensors"}
        assert not path.read_bytes().startswith(b"\x80")
        assert b"numpy.core.multiarray" not in path.read_bytes()


@every_ranker
def test_score_part_of_the_queries_bit_for_bit_as_in_the_whole(family, objective):
    ranker = fitted(family, objective)
    whole = ranker.score(TEST)
    for positions in ([0], [3, 4, 5], [29, 7]):
        part = TEST.take_queries(np.array(positions))
        rows = np.concatenate([np.arange(TEST.offsets[q], TEST.offsets[q + 1]) for q in positions])
        np.testing.assert_array_equal(ranker.score(part), whole[rows])


@every_ranker
def test_score_one_row_query_same_score_as_among_others(family, objective):
    keep = np.zeros(TEST.n_rows, dtype=bool)
    keep[17] = True
    ranker = fitted(family, objective)
    np.testing.assert_array_equal(ranker.score(TEST.take_rows(keep)), ranker.score(TEST)[[17]])


@every_ranker
def test_score_empty_frame_gives_no_score(family, objective):
    scores = fitted(family, objective).score(TEST.take_rows(np.zeros(TEST.n_rows, dtype=bool)))
    assert scores.shape == (0,)
    assert scores.dtype == np.float64


@every_ranker
def test_fit_with_one_row_and_constant_queries_among_others_still_learns(family, objective):
    labels = TRAIN.labels.copy()
    labels[TRAIN.offsets[1] : TRAIN.offsets[2]] = 0
    labels[TRAIN.offsets[2] : TRAIN.offsets[3]] = 2
    keep = np.ones(TRAIN.n_rows, dtype=bool)
    keep[1 : TRAIN.offsets[1]] = False
    frame = with_labels(TRAIN, labels).take_rows(keep)
    assert frame.group_sizes[0] == 1
    assert quality(quick_ranker(family, objective).fit(frame), TEST) > random_quality(TEST) + 0.3


@every_ranker
def test_fit_query_weights_pull_towards_the_heavy_queries(family, objective):
    # Half of the queries prefer a high signal and half a low one.
    labels = TRAIN.labels.copy()
    opposed = np.repeat(np.arange(TRAIN.n_queries) % 2 == 1, TRAIN.group_sizes)
    labels[opposed] = 3 - labels[opposed]
    frame = with_labels(TRAIN, labels)
    odd = np.arange(frame.n_queries) % 2 == 1
    for_even = replace(frame, query_weights=np.where(odd, 0.1, 1).astype(np.float32))
    for_odd = replace(frame, query_weights=np.where(odd, 1, 0.1).astype(np.float32))
    assert quality(quick_ranker(family, objective).fit(for_even), TEST) > random_quality(TEST) + 0.1
    assert quality(quick_ranker(family, objective).fit(for_odd), TEST) < random_quality(TEST) - 0.1


@every_ranker
def test_fit_weights_times_a_power_of_two_same_model(family, objective):
    weights = np.random.default_rng(0).integers(1, 5, TRAIN.n_queries).astype(np.float32)
    one, other = (
        quick_ranker(family, objective).fit(replace(TRAIN, query_weights=w)) for w in (weights, 64 * weights)
    )
    np.testing.assert_array_equal(one.score(TEST), other.score(TEST))


@every_ranker
def test_score_missing_values_have_a_score(family, objective):
    blank = replace(TEST, features=np.full_like(TEST.features, np.nan))
    assert np.isfinite(fitted(family, objective).score(blank)).all()


@every_ranker
def test_fit_feature_missing_everywhere_is_accepted(family, objective):
    features = TRAIN.features.copy()
    features[:, 2] = np.nan
    ranker = quick_ranker(family, objective).fit(replace(TRAIN, features=features))
    assert quality(ranker, TEST) > random_quality(TEST) + 0.3


@every_ranker
def test_fit_library_unfriendly_feature_names_are_accepted(family, objective):
    names = ("a b", 'c"[1]<', "é:{,}", "e")
    ranker = quick_ranker(family, objective).fit(replace(TRAIN, feature_names=names))
    np.testing.assert_array_equal(
        ranker.score(replace(TEST, feature_names=names)), fitted(family, objective).score(TEST)
    )


@every_ranker
def test_score_other_features_raises_with_counts_and_difference(family, objective):
    with pytest.raises(DataError, match=r"got 1 features, expected the 4 .* number 1: got 'helper'"):
        fitted(family, objective).score(TEST.select_blocks(["image"]))


@every_ranker
def test_score_infinite_feature_raises(family, objective):
    with pytest.raises(DataError, match="column 'noise_a', row 6: feature is inf"):
        fitted(family, objective).score(with_feature(TEST, 5, 2, np.inf))


@every_ranker
def test_score_before_fit_raises(family, objective, tmp_path):
    with pytest.raises(DataError, match="not fitted"):
        quick_ranker(family, objective).score(TEST)
    with pytest.raises(DataError, match="not fitted"):
        quick_ranker(family, objective).save(tmp_path)


def label_of_first_row(value: float) -> RankingFrame:
    return with_labels(TRAIN, np.where(np.arange(TRAIN.n_rows) == 0, value, TRAIN.labels))


def long_query() -> RankingFrame:
    n = 10_001
    return RankingFrame(
        features=np.arange(n + 2, dtype=np.float32)[:, None],
        feature_names=("a",),
        blocks={"a": (0,)},
        labels=(np.arange(n + 2) % 2).astype(np.float32),
        queries=(np.arange(n + 2) >= n).astype(np.int64),
        items=np.arange(n + 2),
    )


REFUSED = {
    "query over 10,000 rows": (long_query(), "query 0 has 10001 rows"),
    "all labels equal": (with_labels(TRAIN, np.ones(TRAIN.n_rows)), "all labels are 1"),
    "no contrast within a query": (
        with_labels(TRAIN, TRAIN.queries % 3),
        "no query holds two different labels",
    ),
    "label 31": (label_of_first_row(31), "label 31 is above 30"),
    "fraction label": (label_of_first_row(0.5), "label 0.5 is not a whole number"),
    "negative label": (label_of_first_row(-1), "label -1 is negative"),
    "NaN label": (label_of_first_row(np.nan), "label nan is missing"),
    "infinite feature": (with_feature(TRAIN, 2, 3, -np.inf), "column 'noise_b', row 3: feature is -inf"),
    "one query": (TRAIN.take_queries(np.array([0])), "got 1 query"),
    "empty": (TRAIN.take_rows(np.zeros(TRAIN.n_rows, dtype=bool)), "got no row"),
    "no feature": (TRAIN.select_blocks([]), "got no feature column"),
    "constant features": (
        replace(TRAIN, features=np.ones_like(TRAIN.features)),
        "all 4 features are constant",
    ),
}


@every_ranker
@pytest.mark.parametrize("case", REFUSED)
def test_fit_unusable_frame_raises_the_same_for_all(family, objective, case):
    frame, problem = REFUSED[case]
    with pytest.raises(DataError, match=problem):
        quick_ranker(family, objective).fit(frame)


@every_ranker
@pytest.mark.parametrize(
    "frame",
    [label_of_first_row(30), with_feature(TRAIN, 0, 0, np.nan), with_feature(TRAIN, 0, 0, 3e38)],
    ids=["label 30", "NaN feature", "huge feature"],
)
def test_fit_unusual_but_legal_frame_still_learns(family, objective, frame):
    scores = quick_ranker(family, objective).fit(frame).score(TEST)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 5


@every_ranker
def test_fit_queries_coded_in_falling_order_same_as_sorted(family, objective):
    # The first library takes group counts only, the others want sorted ids: all must give one answer.
    falling = np.argsort(-TRAIN.queries, kind="stable")
    scores = quick_ranker(family, objective).fit(reorder(TRAIN, falling)).score(TEST)
    np.testing.assert_array_equal(scores, fitted(family, objective).score(TEST))


def trained_for(rounds: int, family: str, objective: str) -> Ranker:
    ranker = quick_ranker(family, objective)
    ranker.rounds, ranker.learning_rate = rounds, 0.3
    return ranker.fit(TRAIN)


@pytest.mark.parametrize(("family", "objective"), BOOSTERS)
def test_fit_with_valid_scores_with_the_best_round_only(family, objective):
    ranker = quick_ranker(family, objective)
    ranker.rounds, ranker.patience, ranker.learning_rate = 300, 3, 0.3
    ranker.fit(TRAIN, VALID)
    best = ranker.best_rounds_
    assert 1 <= best < 300
    same = trained_for(best, family, objective)
    np.testing.assert_allclose(ranker.score(TEST), same.score(TEST), rtol=1e-6, atol=1e-6)
    # The libraries break ties in another way than our metric, hence the tolerance.
    for rounds in range(max(1, best - 3), best + 4):
        other = quality(trained_for(rounds, family, objective), VALID, k=10)
        assert other <= quality(same, VALID, k=10) + 2e-4


@pytest.mark.parametrize(("family", "objective"), BOOSTERS)
def test_fit_valid_without_contrast_trains_all_rounds(family, objective, caplog):
    ranker = quick_ranker(family, objective).fit(TRAIN, with_labels(VALID, np.zeros(VALID.n_rows)))
    assert ranker.best_rounds_ == 40
    assert "without early stopping" in caplog.text
    np.testing.assert_array_equal(ranker.score(TEST), fitted(family, objective).score(TEST))


@every_ranker
def test_fit_valid_with_other_features_raises(family, objective):
    with pytest.raises(DataError, match="got 1 features, expected the 4"):
        quick_ranker(family, objective).fit(TRAIN, VALID.select_blocks(["text"]))


@pytest.mark.parametrize(
    ("family", "objective"), [v for v in BOOSTERS if v[0] == "lightgbm" or v[1] in ("rank:ndcg", "YetiRank")]
)
def test_fit_another_seed_another_model(family, objective):
    other = quick_ranker(family, objective, seed=1).fit(TRAIN)
    assert not np.array_equal(other.score(TEST), fitted(family, objective).score(TEST))


@pytest.mark.parametrize(("family", "objective"), VARIANTS)
def test_fit_other_number_of_threads_same_scores(family, objective):
    ranker = quick_ranker(family, objective)
    ranker.threads = 2
    np.testing.assert_array_equal(ranker.fit(TRAIN).score(TEST), fitted(family, objective).score(TEST))


def test_fit_many_rounds_on_several_threads_same_scores():
    """LightGBM's bags of queries gave another model each time, from a hundred rounds on."""
    frame = planted_frame(n_queries=1_500, size=60)
    once, again = (
        make_ranker("lightgbm", params={"rounds": 120}, seed=0, threads=2).fit(frame).score(TEST)
        for _ in range(2)
    )
    np.testing.assert_array_equal(again, once)
