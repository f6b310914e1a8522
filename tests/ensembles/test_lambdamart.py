from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensembles.lambdamart import LambdaMART
from ensembles.meta import mean_ndcg
from ensembles.score_frame import ScoreFrame
from features.errors import DataError
from tests.ensembles.planted import complementary


def test_lambdamart_small_data_still_has_leaves_of_20_rows() -> None:
    assert LambdaMART(rounds=2, threads=1).fit(complementary(50, 0)).ranker_.min_data_in_leaf == 20


def test_lambdamart_leaves_grow_with_the_data() -> None:
    frame = complementary(400, 0)
    meta = LambdaMART(rounds=2, leaf_share=0.02, threads=1).fit(frame)
    assert meta.ranker_.min_data_in_leaf == round(0.02 * len(frame.labels))


def test_lambdamart_learns_what_is_not_linear() -> None:
    # relevant is who is in the middle of the list
    train, test = (_middle(n, seed) for n, seed in ((300, 0), (200, 1)))
    meta = LambdaMART(threads=1).fit(train)
    assert mean_ndcg(meta.score(test), test, 10, 0) > 0.75
    assert max(mean_ndcg(sign * test.scores[:, 0], test, 10, 0) for sign in (1, -1)) < 0.5


def test_lambdamart_queries_that_teach_nothing_are_left_out() -> None:
    frame = complementary(100, 0)
    labels = frame.labels.copy()
    labels[: frame.offsets[50]] = 0.0
    taught = frame.take_queries(np.arange(50, 100))
    meta = LambdaMART(rounds=20, threads=1).fit(replace(frame, labels=labels))
    only = LambdaMART(rounds=20, threads=1).fit(taught)
    np.testing.assert_array_equal(meta.score(taught), only.score(taught))


def test_lambdamart_seed_decides() -> None:
    frame = complementary(100, 0)
    first, again, other = (
        LambdaMART(rounds=10, seed=s, threads=1).fit(frame).score(frame) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_lambdamart_threads_do_not_change_the_scores() -> None:
    frame = complementary(100, 0)
    one, two = (LambdaMART(rounds=10, threads=n).fit(frame).score(frame) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_lambdamart_absent_context_is_refused() -> None:
    frame = complementary(50, 0)
    meta = LambdaMART(rounds=2, threads=1).fit(frame)
    with pytest.raises(DataError, match="context:activity"):
        meta.score(replace(frame, context=frame.context[:, :0], context_names=()))


def _middle(n_queries: int, seed: int) -> ScoreFrame:
    frame = complementary(n_queries, seed, sizes=(11, 11))
    values = frame.scores.reshape(n_queries, 11, 2)[:, :, 0]
    labels = values.argsort(axis=1).argsort(axis=1) == 5
    return replace(frame, labels=labels.ravel().astype(np.float32))
