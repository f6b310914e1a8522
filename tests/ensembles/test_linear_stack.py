from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ensembles import linear_stack
from ensembles.linear_stack import LinearStack
from ensembles.score_frame import ScoreFrame
from features.errors import DataError
from features.per_query import z_scores
from tests.ensembles.planted import complementary, from_lists


def trust_by_activity(n_queries: int, seed: int) -> ScoreFrame:
    """`text` is right where activity is high, `image` where it is low; activity belongs to the query."""
    frame = complementary(n_queries, seed)
    generator = np.random.default_rng(seed)
    activity = generator.choice([-1.0, 1.0], n_queries)
    by_row = np.repeat(activity, frame.group_sizes)
    noise = generator.normal(size=(len(by_row), 2))
    signal = 2.0 * frame.labels
    scores = np.column_stack([noise[:, 0] + signal * (by_row > 0), noise[:, 1] + signal * (by_row < 0)])
    return replace(frame, scores=scores, context=by_row[:, None].astype(np.float32))


def test_linear_stack_weights_depend_on_the_context() -> None:
    weights = LinearStack().fit(trust_by_activity(500, 0)).weights()
    assert weights["text*context:activity"] > 0.3
    assert weights["image*context:activity"] < -0.3


def test_linear_stack_weights_are_readable() -> None:
    weights = LinearStack().fit(complementary(200, 0, missing=0.3)).weights()
    # text is there for everybody, and presence of an image adds nothing to the base that needs it
    assert set(weights) == {
        "text",
        "image",
        "text*present:image",
        "text*context:activity",
        "image*context:activity",
    }


def test_linear_stack_noise_gets_next_to_no_weight() -> None:
    weights = LinearStack().fit(complementary(500, 0, noise_base=True)).weights()
    assert abs(weights["noise"]) < 0.15 * weights["text"]


def test_linear_stack_stronger_penalty_gives_smaller_weights() -> None:
    frame = complementary(200, 0)
    weak, strong = (LinearStack(l2=l2).fit(frame).weights() for l2 in (0.1, 100.0))
    assert 0.0 < strong["text"] < weak["text"]


def test_linear_stack_score_is_the_sum_of_the_readable_weights() -> None:
    frame = complementary(50, 0, missing=0.3)
    meta = LinearStack().fit(frame)
    weights = meta.weights()
    z = np.nan_to_num(z_scores(frame.scores, frame.offsets))
    standard = (frame.context[:, 0] - frame.context[:, 0].mean()) / frame.context[:, 0].std()
    activity = np.clip(standard, -3.0, 3.0)
    text = weights["text"] + weights["text*present:image"] * frame.present[:, 1]
    text = text + weights["text*context:activity"] * activity
    image = weights["image"] + weights["image*context:activity"] * activity
    np.testing.assert_allclose(meta.score(frame), text * z[:, 0] + image * z[:, 1], rtol=1e-5, atol=1e-5)


def test_linear_stack_context_far_outside_counts_as_three_deviations() -> None:
    frame = trust_by_activity(200, 0)
    meta = LinearStack().fit(frame)
    far, farther = (replace(frame, context=np.full_like(frame.context, value)) for value in (10.0, 1e6))
    np.testing.assert_array_equal(meta.score(far), meta.score(farther))


def test_linear_stack_absent_context_is_refused() -> None:
    frame = complementary(50, 0)
    meta = LinearStack().fit(frame)
    bare = replace(frame, context=frame.context[:, :0], context_names=())
    with pytest.raises(DataError, match="expected also context:activity"):
        meta.score(bare)


def test_linear_stack_recovers_the_weights_of_a_logistic_model() -> None:
    generator = np.random.default_rng(0)
    truth = np.array([1.0, -0.5])
    x = generator.normal(size=(20_000, 2))
    ahead = generator.random(20_000) < 1.0 / (1.0 + np.exp(-x @ truth))
    margins = np.where(ahead[:, None], x, -x)
    np.testing.assert_allclose(linear_stack._fit_logistic(margins, np.ones(20_000), 1e-3), truth, atol=0.05)


def test_fit_logistic_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(1)
    margins = generator.normal(0.3, 1.0, (400, 3))
    weights = generator.uniform(0.5, 2.0, 400)
    sign = np.where(np.arange(400) % 2, 1.0, -1.0)
    oracle = LogisticRegression(fit_intercept=False, C=0.5, tol=1e-8).fit(
        margins * sign[:, None], sign > 0, sample_weight=weights
    )
    np.testing.assert_allclose(linear_stack._fit_logistic(margins, weights, 2.0), oracle.coef_[0], atol=1e-4)


def test_draw_pairs_are_of_one_query_and_in_order() -> None:
    frame = complementary(40, 0)
    labels = np.random.default_rng(0).integers(0, 3, len(frame.labels)).astype(np.float32)
    frame = replace(frame, labels=labels, query_weights=np.arange(40, dtype=np.float32))
    pairs = linear_stack._draw_pairs(frame, 5, 10_000, np.random.default_rng(0))
    query = np.repeat(np.arange(40), frame.group_sizes)
    np.testing.assert_array_equal(query[pairs.better], query[pairs.worse])
    assert np.all(labels[pairs.better] > labels[pairs.worse])
    per_query = np.bincount(query[pairs.better], weights=pairs.weights, minlength=40)
    np.testing.assert_allclose(per_query, np.arange(40), atol=1e-9)


def test_draw_pairs_never_exceed_the_limit() -> None:
    pairs = linear_stack._draw_pairs(complementary(40, 0), 50, 100, np.random.default_rng(0))
    assert len(pairs.better) == len(pairs.worse) == len(pairs.weights) == 100


def test_linear_stack_without_modalities_and_context_is_plain() -> None:
    frame = from_lists([[[2.0, 0.0], [1.0, 5.0]]] * 30, labels=[[1, 0]] * 30)
    assert set(LinearStack().fit(frame).weights()) == {"base0", "base1"}
