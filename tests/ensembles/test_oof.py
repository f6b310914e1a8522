from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles import oof
from ensembles.oof import (
    STOPPING_SHARE,
    Base,
    fit_base,
    fit_bases,
    oof_parts,
    out_of_fold,
    to_score_frame,
    without_folds,
)
from features.errors import DataError
from features.frame import RankingFrame
from rankers import make_ranker, mean_of, ndcg
from rankers.threads import fitting_threads

N_QUERIES, SIZE, N_FOLDS = 80, 8, 4


def noise_frame(n_queries: int = N_QUERIES, seed: int = 0) -> RankingFrame:
    """Features that tell each row from all others and have nothing to do with the labels."""
    rng = np.random.default_rng(seed)
    n = n_queries * SIZE
    features = rng.normal(size=(n, 3)).astype(np.float32)
    features[:, 2] = np.where(rng.random(n) < 0.2, np.nan, features[:, 2])
    return RankingFrame(
        features=features,
        feature_names=("a", "b", "activity"),
        blocks={"noise": (0, 1), "context": (2,)},
        labels=(rng.random(n) < 0.3).astype(np.float32),
        queries=np.repeat(rng.permutation(n_queries), SIZE).astype(np.int64),
        items=np.arange(n),
        modalities=("text",),
        present=rng.random((n, 1)) < 0.7,
        query_weights=rng.random(n_queries).astype(np.float32),
    )


def folds_of(frame: RankingFrame) -> np.ndarray:
    return np.random.default_rng(1).permutation(np.arange(frame.n_queries) % N_FOLDS)


@dataclass
class Memory:
    """Knows the label of every row that it has met, in training or for stopping, and nothing else."""

    fits: list[tuple[RankingFrame, RankingFrame | None]] = field(default_factory=list)
    labels: dict[bytes, float] = field(default_factory=dict)

    def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Memory:
        self.fits.append((train, valid))
        for frame in (train, valid):
            if frame is not None:
                self.labels |= dict(zip(map(bytes, frame.features), frame.labels, strict=True))
        return self

    def score(self, frame: RankingFrame) -> np.ndarray:
        return np.array([self.labels.get(bytes(row), 0.0) for row in frame.features])


def remembering() -> tuple[Base, list[Memory]]:
    """Return a base of memories and the list of all that it makes."""
    made: list[Memory] = []

    def make() -> Memory:
        made.append(Memory())
        return made[-1]

    return Base("memory", make), made


def boosted() -> Base:
    params = {"rounds": 60, "num_leaves": 63, "min_data_in_leaf": 1, "learning_rate": 0.3, "lambda_l2": 0.01}
    return Base("boosted", lambda: make_ranker("lightgbm", params=params, threads=1, device="cpu"))


def quality(scores: np.ndarray, frame: RankingFrame) -> float:
    return mean_of(ndcg(scores, frame.labels, frame.offsets, k=5)).mean


def chance(frame: RankingFrame) -> tuple[float, float]:
    """Return mean and standard deviation of the quality of random scores."""
    rng = np.random.default_rng(2)
    values = [quality(rng.random(frame.n_rows), frame) for _ in range(30)]
    return float(np.mean(values)), float(np.std(values))


def test_out_of_fold_memory_knows_none_of_its_own_labels():
    frame = noise_frame()
    base, made = remembering()
    scores = out_of_fold([base], frame, folds_of(frame), scheme="cross", seed=0)
    np.testing.assert_array_equal(scores, np.zeros((frame.n_rows, 1)))
    assert len(made) == N_FOLDS
    assert quality(Memory().fit(frame).score(frame), frame) == 1.0


@pytest.mark.parametrize("seed", [0, 1])
def test_out_of_fold_high_capacity_ranker_on_noise_is_at_chance(seed):
    frame = noise_frame(n_queries=300, seed=seed)
    scores = out_of_fold([boosted()], frame, folds_of(frame), scheme="cross", seed=seed)
    in_sample = boosted().make().fit(frame).score(frame)
    assert quality(in_sample, frame) > 0.95
    mean, deviation = chance(frame)
    assert abs(quality(scores[:, 0], frame) - mean) < 4 * deviation < 0.1


def planted() -> RankingFrame:
    """The noise frame with labels that feature `a` tells."""
    frame = noise_frame()
    return replace(frame, labels=(frame.features[:, 0] > 0.7).astype(np.float32))


def test_out_of_fold_what_holds_in_all_folds_is_learned():
    frame = planted()
    scores = out_of_fold([boosted()], frame, folds_of(frame), scheme="cross", seed=0)
    assert quality(scores[:, 0], frame) > 0.95


def learned_from(memory: Memory) -> set[int]:
    return {int(query) for frame in memory.fits[0] if frame is not None for query in frame.queries}


def query_codes(frame: RankingFrame) -> np.ndarray:
    return frame.queries[frame.offsets[:-1]]


def test_out_of_fold_cross_learns_from_all_other_folds():
    frame = noise_frame()
    folds = folds_of(frame)
    base, made = remembering()
    out_of_fold([base], frame, folds, scheme="cross", seed=0)
    for fold, memory in enumerate(made):
        assert learned_from(memory) == set(query_codes(frame)[folds != fold].tolist())


def test_out_of_fold_forward_learns_from_earlier_folds_only_and_leaves_the_first_out():
    frame = noise_frame()
    folds = folds_of(frame)
    base, made = remembering()
    scores = out_of_fold([base], frame, folds, scheme="forward", seed=0)
    assert len(made) == N_FOLDS - 1
    for fold, memory in enumerate(made, start=1):
        assert learned_from(memory) == set(query_codes(frame)[folds < fold].tolist())
    np.testing.assert_array_equal(np.isnan(scores[:, 0]), np.repeat(folds == 0, frame.group_sizes))


@pytest.mark.parametrize("scheme", ["cross", "forward"])
def test_out_of_fold_negative_folds_are_learned_from_always_and_never_scored(scheme):
    frame = noise_frame()
    folds = folds_of(frame) - 1
    base, made = remembering()
    scores = out_of_fold([base], frame, folds, scheme=scheme, seed=0)
    always = set(query_codes(frame)[folds < 0].tolist())
    assert len(made) == N_FOLDS - 1
    for fold, memory in enumerate(made):
        assert always <= learned_from(memory)
        held = set(query_codes(frame)[folds == fold].tolist())
        assert not held & learned_from(memory)
    np.testing.assert_array_equal(np.isnan(scores[:, 0]), np.repeat(folds < 0, frame.group_sizes))


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=20), st.sets(st.integers(0, 4), min_size=1))
def test_without_folds_leaves_out_the_held_and_forward_what_is_later_too(drawn, held):
    folds = np.array(drawn)
    frame = noise_frame(n_queries=len(folds))
    codes = query_codes(frame)
    cross = query_codes(without_folds(frame, folds, sorted(held), "cross"))
    assert cross.tolist() == codes[[fold not in held for fold in drawn]].tolist()
    forward = query_codes(without_folds(frame, folds, sorted(held), "forward"))
    assert forward.tolist() == codes[folds < min(held)].tolist()


@given(st.integers(1, 20), st.sampled_from(["cross", "forward"]), st.integers(0, 2 * oof.LARGE))
def test_oof_parts_hold_every_fold_once(n_folds, scheme, n_rows):
    parts = oof_parts(range(n_folds), n_rows, scheme)
    assert sorted(fold for part in parts for fold in part) == list(range(n_folds))
    if scheme == "forward" or n_rows <= oof.LARGE:
        assert parts == [[fold] for fold in range(n_folds)]
    else:
        assert len(parts) == min(n_folds, 2)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_out_of_fold_scores_go_to_their_rows_and_bases():
    frame = noise_frame()

    @dataclass
    class Column:
        column: int

        def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Column:
            return self

        def score(self, frame: RankingFrame) -> np.ndarray:
            return frame.features[:, self.column].astype(np.float64)

    bases = [Base(name, lambda number=number: Column(number)) for number, name in enumerate("ab")]
    said: list[str] = []
    scores = out_of_fold(bases, frame, folds_of(frame), scheme="cross", seed=0, progress=said.append)
    np.testing.assert_array_equal(scores, frame.features[:, :2])
    assert said == [f"base {base}, fold {fold}" for fold in range(N_FOLDS) for base in "ab"]


def test_fit_base_stops_on_a_share_of_the_training_queries():
    frame = noise_frame()
    base, _ = remembering()
    memory = fit_base(base, frame, seed=0)
    train, valid = memory.fits[0]
    assert valid.n_queries == int(STOPPING_SHARE * N_QUERIES)
    assert not set(train.queries) & set(valid.queries)
    assert learned_from(memory) == set(query_codes(frame).tolist())
    for part in (train, valid):
        weights = dict(zip(query_codes(frame), frame.query_weights, strict=True))
        assert part.query_weights.tolist() == [weights[query] for query in query_codes(part)]


def test_fit_base_seed_decides_which_queries_stop():
    frame = noise_frame()
    stopping = [
        fit_base(remembering()[0], frame, seed=seed).fits[0][1].queries.tolist() for seed in (0, 0, 1)
    ]
    assert stopping[0] == stopping[1]
    assert stopping[0] != stopping[2]


def test_fit_base_few_queries_all_train():
    frame = noise_frame(n_queries=6)
    train, valid = fit_base(remembering()[0], frame, seed=0).fits[0]
    assert valid is None
    assert train.n_queries == 6


@pytest.mark.parametrize("family", ["lightgbm", "xgboost", "catboost", "linear"])
def test_fit_bases_side_by_side_gives_the_bits_of_one_after_the_other(family):
    frame = noise_frame()
    bases = [
        Base(f"{family} {seed}", lambda seed=seed: make_ranker(family, seed=seed, threads=1))
        for seed in range(4)
    ]
    said: list[str] = []
    together = fit_bases(bases, frame, 0, at_once=4, threads=1, progress=said.append)
    assert list(together) == [base.name for base in bases]
    assert sorted(said) == [f"base {base.name}" for base in bases]
    for base in bases:
        alone = fit_base(base, frame, seed=0).score(frame)
        np.testing.assert_array_equal(together[base.name].score(frame), alone)


def test_fit_bases_grants_threads_to_fits_alone():
    granted = []

    class Curious:
        def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Curious:
            granted.append(fitting_threads(3))
            return self

    fit_bases([Base("curious", Curious)] * 2, noise_frame(), 0, at_once=2, threads=5)
    assert granted == [5, 5]
    assert fitting_threads(3) == 3


def test_fit_bases_stops_at_the_first_that_fails():
    class Slow:
        def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Slow:
            time.sleep(0.1)
            return self

    class Broken:
        def fit(self, train: RankingFrame, valid: RankingFrame | None = None) -> Broken:
            raise DataError("got nothing, expected something", fix="give something")

    started: list[str] = []
    bases = [*(Base(str(number), Slow) for number in range(20)), Base("broken", Broken)]
    with pytest.raises(DataError, match="got nothing"):
        fit_bases(bases, noise_frame(), 0, progress=started.append)
    assert started[0] == "base broken"
    assert len(started) < len(bases)


def test_to_score_frame_puts_scores_beside_what_the_frame_knows():
    frame = noise_frame()
    scores = np.random.default_rng(0).normal(size=(frame.n_rows, 2))
    got = to_score_frame(frame, scores, ["one", "two"], {"one": "text"}, ["activity", "not.there", "a"])
    np.testing.assert_array_equal(got.scores, scores)
    assert got.bases == ("one", "two")
    assert got.base_modality == {"one": "text"}
    assert got.modalities == ("text",)
    for name in ("labels", "offsets", "present", "query_weights"):
        np.testing.assert_array_equal(getattr(got, name), getattr(frame, name))


def test_to_score_frame_context_is_the_named_features_with_0_for_missing():
    frame = noise_frame()
    got = to_score_frame(frame, np.zeros((frame.n_rows, 1)), ["one"], {}, ["activity", "not.there", "a"])
    assert got.context_names == ("activity", "a")
    missing = np.isnan(frame.features[:, 2])
    assert missing.any()
    np.testing.assert_array_equal(got.context[:, 0], np.where(missing, 0, frame.features[:, 2]))
    np.testing.assert_array_equal(got.context[:, 1], frame.features[:, 0])


def test_to_score_frame_no_context_has_no_column():
    frame = noise_frame()
    got = to_score_frame(frame, np.zeros((frame.n_rows, 1)), ["one"], {}, [])
    assert (got.context.shape, got.context_names) == ((frame.n_rows, 0), ())
