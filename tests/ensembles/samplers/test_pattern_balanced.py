from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensembles.samplers import (
    Draw,
    Sampler,
    apply_draw,
    availability_patterns,
    make_sampler,
    pattern_balanced,
)
from ensembles.score_frame import ScoreFrame
from features.errors import ConfigError
from tests.ensembles.planted import from_lists


def planted(n_queries: int, rare: float, seed: int = 0, size: int = 12) -> ScoreFrame:
    """One positive a query; a share `rare` of the positives and half of the negatives lack the image."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((n_queries, size), dtype=np.float32)
    labels[:, 0] = 1.0
    has_image = generator.random((n_queries, size)) < 0.5
    has_image[:, 0] = generator.random(n_queries) >= rare
    n = n_queries * size
    return ScoreFrame(
        scores=generator.normal(size=(n, 1)),
        bases=("base",),
        labels=labels.ravel(),
        offsets=np.arange(n_queries + 1) * size,
        modalities=("text", "image"),
        present=np.stack([np.ones(n, dtype=bool), has_image.ravel()], axis=1),
        base_modality={},
        context=np.zeros((n, 0), dtype=np.float32),
        context_names=(),
    )


def share_without_image(frame: ScoreFrame, *, positive: bool) -> float:
    return float(1.0 - frame.present[(frame.labels > 0) == positive, 1].mean())


def draw_and_apply(sampler: Sampler, frame: ScoreFrame, seed: int = 0) -> tuple[Draw, ScoreFrame]:
    draw = sampler(frame, np.random.default_rng(seed))
    return draw, apply_draw(frame, draw)


def test_availability_patterns_are_bits() -> None:
    present = np.array([[True, False], [True, True], [False, False], [False, True]])
    np.testing.assert_array_equal(availability_patterns(present), [1, 3, 0, 2])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rare=st.floats(0.0, 1.0),
    tau=st.floats(0.0, 1.0),
    clip=st.floats(1.0, 10.0),
    beta=st.floats(0.0, 1.0),
)
def test_pattern_balanced_laws(seed: int, rare: float, tau: float, clip: float, beta: float) -> None:
    frame = planted(40, rare, seed)
    sampler = pattern_balanced(tau, clip, beta, floor=5)
    draw, drawn = draw_and_apply(sampler, frame, seed)
    assert len(drawn.labels) == pytest.approx(len(frame.labels), rel=0.1)
    assert draw.weights.mean() == pytest.approx(1.0)
    again = sampler(frame, np.random.default_rng(seed))
    np.testing.assert_array_equal(again.queries, draw.queries)
    np.testing.assert_array_equal(again.keep, draw.keep)
    positives = np.add.reduceat(drawn.labels > 0, drawn.offsets[:-1], dtype=np.int64)
    np.testing.assert_array_equal(positives, 1)
    assert drawn.group_sizes.min() >= 2


def test_pattern_balanced_another_seed_draws_otherwise() -> None:
    frame = planted(200, 0.1)
    first, _ = draw_and_apply(pattern_balanced(), frame, 0)
    second, _ = draw_and_apply(pattern_balanced(), frame, 1)
    assert not np.array_equal(first.queries, second.queries)


def test_pattern_balanced_tau_one_draws_every_query_once() -> None:
    draw, _ = draw_and_apply(pattern_balanced(tau=1.0, min_kept=1.0), planted(300, 0.1))
    np.testing.assert_array_equal(draw.queries, np.arange(300))


@pytest.mark.parametrize(("tau", "expected"), [(0.0, 0.5), (0.5, 0.25)])
def test_pattern_balanced_share_of_a_rare_pattern_follows_tau(tau: float, expected: float) -> None:
    # 10% without an image: n_p^tau is 1 to 1 for tau 0 and 1 to 3 for tau .5
    frame = planted(2000, 0.1)
    frame = replace(frame, present=frame.present.copy())
    frame.present[frame.offsets[:-1], 1] = np.arange(2000) >= 200
    _, drawn = draw_and_apply(pattern_balanced(tau=tau, clip=100.0), frame)
    assert share_without_image(drawn, positive=True) == pytest.approx(expected, abs=0.002)


def test_pattern_balanced_clip_bounds_the_copies() -> None:
    # unclipped, the 20 rare queries of 2,000 would be drawn 50 times each
    frame = planted(2000, 0.0)
    frame.present[frame.offsets[:20], 1] = False
    draw, _ = draw_and_apply(pattern_balanced(tau=0.0, clip=5.0, floor=1, min_kept=1.0), frame)
    copies = np.bincount(draw.queries, minlength=2000)
    # expectations are 5 and .505, rescaled to 2,000 draws
    assert set(copies[:20]) <= {9, 10}
    assert copies[20:].max() == 1


def test_pattern_balanced_floor_spares_a_tiny_pattern() -> None:
    frame = planted(1000, 0.0)
    frame.present[frame.offsets[:2], 1] = False
    # as 2 queries they would fill half of the draw; as 250 they are expected 2 times, 4 after rescaling
    draw, _ = draw_and_apply(pattern_balanced(tau=0.0, clip=1000.0, floor=250, min_kept=1.0), frame)
    assert np.bincount(draw.queries)[:2].sum() == pytest.approx(8, abs=1)
    draw, _ = draw_and_apply(pattern_balanced(tau=0.0, clip=1000.0, floor=1, min_kept=1.0), frame)
    assert np.bincount(draw.queries)[:2].sum() == pytest.approx(500, abs=1)


@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0])
def test_pattern_balanced_negatives_have_the_target_shares(beta: float) -> None:
    frame = planted(3000, 0.2)
    _, drawn = draw_and_apply(pattern_balanced(tau=1.0, beta=beta), frame)
    catalogue = float(1.0 - frame.present[:, 1].mean())
    target = beta * 0.2 + (1.0 - beta) * catalogue
    assert share_without_image(drawn, positive=False) == pytest.approx(target, abs=0.015)


def test_pattern_balanced_negatives_follow_the_resampled_positives() -> None:
    _, drawn = draw_and_apply(pattern_balanced(tau=0.0, beta=1.0), planted(3000, 0.1))
    positives = share_without_image(drawn, positive=True)
    assert positives == pytest.approx(0.5, abs=0.02)
    assert share_without_image(drawn, positive=False) == pytest.approx(positives, abs=0.02)


def test_pattern_balanced_min_kept_holds_where_targets_ask_for_less() -> None:
    # no positive has an image but most candidates do: beta 1 would keep the few without only
    frame = planted(500, 1.0)
    frame.present[frame.labels == 0, 1] = np.random.default_rng(0).random(500 * 11) < 0.95
    half = pattern_balanced(tau=1.0, beta=0.9, min_kept=0.5)
    _, drawn = draw_and_apply(half, frame)
    assert (drawn.labels == 0).sum() / (11 * drawn.n_queries) == pytest.approx(0.5, abs=0.03)
    assert len(drawn.labels) == pytest.approx(len(frame.labels), rel=0.03)


def test_pattern_balanced_a_query_keeps_a_negative_even_of_an_unwanted_pattern() -> None:
    # no positive has an image and beta 1 asks for no negative with one, which is all that most queries have
    frame = planted(200, 1.0, size=3)
    negative = frame.labels == 0
    frame.present[negative, 1] = np.random.default_rng(0).random(400) < 0.9
    _, drawn = draw_and_apply(pattern_balanced(tau=1.0, beta=1.0, min_kept=0.0), frame)
    assert drawn.group_sizes.min() == 2
    assert np.mean(drawn.group_sizes == 2) > 0.9


def test_pattern_balanced_query_of_positives_alone_stays_as_it_is() -> None:
    frame = from_lists([[[1.0], [2.0]], [[1.0], [2.0]]], labels=[[1, 1], [1, 0]])
    _, drawn = draw_and_apply(pattern_balanced(), frame)
    np.testing.assert_array_equal(drawn.labels, frame.labels)


def test_pattern_balanced_pattern_is_that_of_the_highest_label() -> None:
    frame = planted(400, 0.0)
    frame.labels[frame.offsets[:-1] + 1] = 2.0
    frame.present[frame.offsets[:-1] + 1, 1] = np.arange(400) >= 40
    draw, _ = draw_and_apply(pattern_balanced(tau=0.0, clip=10.0), frame)
    assert (draw.queries < 40).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "params", [{"tau": 1.5}, {"clip": 0.5}, {"beta": -0.1}, {"floor": 0}, {"min_kept": 2}, {"tau": "half"}]
)
def test_make_sampler_value_out_of_range_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(params))):
        make_sampler("pattern_balanced", params)
