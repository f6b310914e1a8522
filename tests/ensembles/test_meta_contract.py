"""What every meta-learner of the ladder does, on data whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ensembles import LADDER, MetaLearner, ScoreFrame, load_meta, make_meta
from ensembles.meta import mean_ndcg
from features.errors import DataError
from tests.ensembles.planted import complementary, from_lists, shuffle_within_queries

K = 10
COMBINING = tuple(name for name in LADDER if name != "best_single")
LEARNED = ("greedy", "linear_stack", "lambdamart")

every_meta = pytest.mark.parametrize("name", LADDER)


@cache
def fitted(name: str, *, noise_base: bool = False, missing: float = 0.0, n_queries: int = 300) -> MetaLearner:
    train = complementary(n_queries, 1, noise_base=noise_base, missing=missing)
    return make_meta(name, k=K, threads=1).fit(train)


@cache
def fresh(*, noise_base: bool = False, missing: float = 0.0) -> ScoreFrame:
    return complementary(500, 2, noise_base=noise_base, missing=missing)


def quality(name: str, *, noise_base: bool = False, missing: float = 0.0) -> float:
    frame = fresh(noise_base=noise_base, missing=missing)
    meta = fitted(name, noise_base=noise_base, missing=missing)
    return mean_ndcg(meta.score(frame), frame, K, 0)


@pytest.mark.parametrize("name", COMBINING)
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_meta_complementary_bases_beat_the_best_single(name: str, missing: float) -> None:
    assert quality(name, missing=missing) > quality("best_single", missing=missing) + 0.03


@pytest.mark.parametrize("name", LEARNED)
def test_meta_noise_base_costs_next_to_nothing(name: str) -> None:
    assert quality(name, noise_base=True) > quality(name) - 0.01


@pytest.mark.parametrize("name", ["best_single", *LEARNED])
def test_meta_one_good_base_and_noise_is_as_good_as_the_base(name: str) -> None:
    train, test = _good_and_noise(300, 5), _good_and_noise(500, 6)
    meta = make_meta(name, k=K, threads=1).fit(train)
    alone = mean_ndcg(test.scores[:, 0], test, K, 0)
    assert mean_ndcg(meta.score(test), test, K, 0) > alone - 0.02


@every_meta
def test_meta_saved_and_loaded_scores_the_same_bits(name: str, tmp_path: Path) -> None:
    meta = fitted(name, missing=0.4)
    meta.save(tmp_path)
    loaded = load_meta(tmp_path)
    assert type(loaded) is type(meta)
    assert loaded.bases_used() == meta.bases_used()
    np.testing.assert_array_equal(loaded.score(fresh(missing=0.4)), meta.score(fresh(missing=0.4)))


@every_meta
def test_meta_saved_files_are_json_or_native_text(name: str, tmp_path: Path) -> None:
    fitted(name).save(tmp_path)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".json", ".txt"}


@every_meta
def test_meta_fitted_twice_scores_the_same_bits(name: str) -> None:
    again = make_meta(name, k=K, threads=1).fit(complementary(300, 1, missing=0.4))
    np.testing.assert_array_equal(
        again.score(fresh(missing=0.4)), fitted(name, missing=0.4).score(fresh(missing=0.4))
    )


@every_meta
def test_meta_fitted_again_forgets_the_first_frame(name: str) -> None:
    meta = make_meta(name, k=K, threads=1).fit(complementary(60, 9, noise_base=True))
    meta.fit(complementary(300, 1))
    np.testing.assert_array_equal(meta.score(fresh()), fitted(name).score(fresh()))


@every_meta
@pytest.mark.parametrize("query", [0, 13, 499])
def test_meta_query_alone_scores_the_same_bits(name: str, query: int) -> None:
    frame = fresh(missing=0.4)
    meta = fitted(name, missing=0.4)
    alone = meta.score(frame.take_queries(np.array([query])))
    np.testing.assert_array_equal(alone, meta.score(frame)[frame.offsets[query] : frame.offsets[query + 1]])


@every_meta
def test_meta_rows_in_any_order_score_the_same_bits(name: str) -> None:
    frame = fresh(missing=0.4)
    shuffled, rows = shuffle_within_queries(frame, 0)
    meta = fitted(name, missing=0.4)
    np.testing.assert_array_equal(meta.score(shuffled), meta.score(frame)[rows])


@every_meta
def test_meta_queries_in_any_order_score_the_same_bits(name: str) -> None:
    frame = fresh(missing=0.4)
    meta = fitted(name, missing=0.4)
    order = np.random.default_rng(0).permutation(frame.n_queries)
    scores = np.split(meta.score(frame), frame.offsets[1:-1])
    np.testing.assert_array_equal(
        meta.score(frame.take_queries(order)), np.concatenate([scores[q] for q in order])
    )


@every_meta
def test_meta_score_reads_no_label_and_no_weight(name: str) -> None:
    frame = fresh(missing=0.4)
    blind = replace(
        frame,
        labels=np.zeros_like(frame.labels),
        query_weights=np.arange(frame.n_queries, dtype=np.float32),
    )
    meta = fitted(name, missing=0.4)
    np.testing.assert_array_equal(meta.score(blind), meta.score(frame))


@every_meta
def test_meta_equal_candidates_have_equal_scores(name: str) -> None:
    frame = fresh().take_queries(np.array([3]))
    twice = frame.take_queries(np.array([0, 0]))
    merged = replace(twice, offsets=np.array([0, len(twice.labels)]))
    first, second = np.split(fitted(name).score(merged), 2)
    np.testing.assert_array_equal(first, second)


@every_meta
def test_meta_frame_order_and_further_bases_do_not_matter(name: str) -> None:
    frame = fresh(missing=0.4)
    wider = replace(
        frame,
        scores=np.column_stack([np.full(len(frame.labels), 3.0), frame.scores[:, ::-1]]),
        bases=("stranger", *frame.bases[::-1]),
    )
    meta = fitted(name, missing=0.4)
    np.testing.assert_array_equal(meta.score(wider), meta.score(frame))


@every_meta
def test_meta_only_the_bases_used_are_needed(name: str) -> None:
    frame = fresh(missing=0.4)
    meta = fitted(name, missing=0.4)
    used = meta.bases_used()
    narrow = replace(frame, scores=frame.scores[:, [frame.bases.index(base) for base in used]], bases=used)
    np.testing.assert_array_equal(meta.score(narrow), meta.score(frame))


@every_meta
def test_meta_absent_base_is_refused(name: str) -> None:
    meta = fitted(name)
    used = meta.bases_used()
    without = [i for i, base in enumerate(fresh().bases) if base != used[0]]
    frame = replace(
        fresh(), scores=fresh().scores[:, without], bases=tuple(fresh().bases[i] for i in without)
    )
    with pytest.raises(DataError, match=f"expected also {used[0]}"):
        meta.score(frame)


@every_meta
def test_meta_candidate_without_opinion_is_1_below_the_lowest(name: str) -> None:
    frame = fresh().take_queries(np.array([0, 1]))
    scores = frame.scores.copy()
    scores[3] = np.nan
    got = fitted(name).score(replace(frame, scores=scores))
    assert np.isfinite(got).all()
    others = np.delete(got[: frame.offsets[1]], 3)
    assert got[3] == others.min() - 1.0


@every_meta
def test_meta_query_without_opinion_scores_0(name: str) -> None:
    frame = fresh().take_queries(np.array([0, 1]))
    scores = frame.scores.copy()
    scores[: frame.offsets[1]] = np.nan
    got = fitted(name).score(replace(frame, scores=scores))
    np.testing.assert_array_equal(got[: frame.offsets[1]], 0.0)
    alone = fitted(name).score(frame.take_queries(np.array([1])))
    np.testing.assert_array_equal(got[frame.offsets[1] :], alone)


@every_meta
def test_meta_missing_opinions_leave_finite_scores(name: str) -> None:
    frame = fresh()
    holes = np.random.default_rng(0).random(frame.scores.shape) < 0.5
    assert np.isfinite(
        fitted(name, missing=0.4).score(replace(frame, scores=np.where(holes, np.nan, frame.scores)))
    ).all()


@every_meta
def test_meta_one_row_and_empty_queries_are_fine(name: str) -> None:
    frame = fresh(missing=0.4)
    keep = np.zeros(len(frame.labels), dtype=bool)
    keep[frame.offsets[:-1:2]] = True
    scores = fitted(name, missing=0.4).score(frame.take_rows(keep))
    assert scores.shape == (250,)
    assert np.isfinite(scores).all()
    assert fitted(name).score(fresh().take_queries(np.zeros(0, dtype=np.int64))).shape == (0,)


@every_meta
def test_meta_one_row_queries_among_the_training_change_nothing_much(name: str) -> None:
    frame = complementary(300, 1)
    keep = np.ones(len(frame.labels), dtype=bool)
    for query in range(0, 60):
        keep[frame.offsets[query] + 1 : frame.offsets[query + 1]] = False
    meta = make_meta(name, k=K, threads=1).fit(frame.take_rows(keep))
    assert mean_ndcg(meta.score(fresh()), fresh(), K, 0) > quality(name) - 0.03


@every_meta
def test_meta_queries_of_weight_0_do_not_teach(name: str) -> None:
    good = complementary(200, 1)
    flip = np.concatenate([np.ones(200), np.zeros(200)]).astype(np.float32)
    both = good.take_queries(np.concatenate([np.arange(200), np.arange(200)]), flip)
    labels = both.labels.copy()
    half = len(good.labels)
    # the second half says that the worst candidate of base `text` is the best
    labels[half:] = 0.0
    for start, stop in pairwise(good.offsets):
        labels[half + start + int(np.argmin(good.scores[start:stop, 0]))] = 1.0
    meta = make_meta(name, k=K, threads=1).fit(replace(both, labels=labels))
    assert mean_ndcg(meta.score(fresh()), fresh(), K, 0) > quality(name) - 0.03


@every_meta
def test_meta_no_positive_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="none of 1 queries has a positive"):
        make_meta(name).fit(from_lists([[[1.0], [2.0]]]))


@every_meta
def test_meta_no_base_is_refused(name: str) -> None:
    frame = complementary(5, 0)
    with pytest.raises(DataError, match="got no base"):
        make_meta(name).fit(replace(frame, scores=np.zeros((len(frame.labels), 0)), bases=()))


def _good_and_noise(n_queries: int, seed: int) -> ScoreFrame:
    """One good base, and three that know nothing."""
    frame = complementary(n_queries, seed)
    generator = np.random.default_rng(seed)
    good = frame.labels + generator.normal(scale=0.5, size=len(frame.labels))
    noise = generator.normal(size=(len(good), 3))
    return replace(
        frame,
        scores=np.column_stack([good, noise]),
        bases=("good", "noise0", "noise1", "noise2"),
        base_modality={},
    )
