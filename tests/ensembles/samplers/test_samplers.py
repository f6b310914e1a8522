"""What every sampler keeps to, whatever it draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensembles.samplers import SAMPLERS, Draw, apply_draw, make_sampler
from ensembles.samplers.draw import spare_last_sources
from ensembles.score_frame import ScoreFrame
from features.errors import ConfigError
from tests.ensembles.planted import complementary, from_lists

NAMES = [
    *SAMPLERS,
    "pattern_balanced+modality_dropout",
    "shapley+modality_dropout",
    "raking+pattern_balanced",
]
every_sampler = pytest.mark.parametrize("name", NAMES)


def sparse(seed: int, n_queries: int = 40) -> ScoreFrame:
    """Candidates with each modality at random, a few with none, and a base that reads both."""
    frame = complementary(n_queries, seed, missing=0.4, sizes=(4, 9))
    generator = np.random.default_rng(seed)
    present = frame.present & (generator.random(frame.present.shape) < 0.7)
    scores = np.where(present, frame.scores, np.nan)
    both = np.where(present.any(axis=1), np.nan_to_num(scores).sum(axis=1), np.nan)
    activity = generator.integers(0, 5, frame.n_queries)
    return replace(
        frame,
        scores=np.column_stack([scores, both]),
        bases=(*frame.bases, "fused"),
        base_reads={"fused": ("text", "image")},
        present=present,
        context=np.repeat(activity, frame.group_sizes)[:, None].astype(np.float32),
        context_names=("context.log_activity",),
        users=generator.integers(0, 12, frame.n_queries),
    )


def drawn_from(name: str, frame: ScoreFrame, seed: int = 0) -> tuple[Draw, ScoreFrame]:
    draw = make_sampler(name)(frame, np.random.default_rng(seed))
    return draw, apply_draw(frame, draw)


@every_sampler
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_laws(name: str, seed: int) -> None:
    frame = sparse(seed)
    draw, drawn = drawn_from(name, frame, seed)
    again, _ = drawn_from(name, frame, seed)
    np.testing.assert_array_equal(again.queries, draw.queries)
    for one, other in ((again.keep, draw.keep), (again.hidden, draw.hidden)):
        np.testing.assert_array_equal(one, other)
    assert draw.weights.mean() == pytest.approx(1.0)
    assert len(drawn.labels) == pytest.approx(len(frame.labels), rel=0.2)
    before = frame.take_queries(draw.queries)
    before = before if draw.keep is None else before.take_rows(draw.keep)
    had, has = (~np.isnan(each.scores).all(axis=1) for each in (before, drawn))
    np.testing.assert_array_equal(has, had)
    np.testing.assert_array_equal(drawn.present.any(axis=1), before.present.any(axis=1))
    assert not (drawn.present & ~before.present).any()


@every_sampler
def test_queries_without_positive_are_dropped_and_counted(name: str) -> None:
    frame = from_lists([[[1.0], [2.0]], [[1.0]], [[3.0], [4.0]]], labels=[[0, 1], [0], [0, 0]])
    draw, drawn = drawn_from(name, frame)
    assert draw.n_dropped == 2
    np.testing.assert_array_equal(draw.queries, [0])
    np.testing.assert_array_equal(drawn.labels, [0, 1])


@every_sampler
def test_no_positive_at_all_draws_nothing(name: str) -> None:
    draw, drawn = drawn_from(name, from_lists([[[1.0], [2.0]]]))
    assert (len(draw.queries), draw.n_dropped, drawn.n_queries) == (0, 1, 0)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("natural", "shapley")])
def test_another_seed_draws_otherwise(name: str) -> None:
    frame = sparse(1, n_queries=200)
    first, second = (drawn_from(name, frame, seed)[1] for seed in (0, 1))
    assert first.scores.shape != second.scores.shape or not np.array_equal(
        first.scores, second.scores, equal_nan=True
    )


def test_natural_draws_every_query_once() -> None:
    frame = sparse(0)
    draw, drawn = drawn_from("natural", frame)
    np.testing.assert_array_equal(draw.queries, np.arange(40))
    np.testing.assert_array_equal(drawn.scores, frame.scores)


def test_class_balanced_draws_every_pattern_as_often() -> None:
    frame = complementary(1000, 0, missing=0.9)
    _, drawn = drawn_from("class_balanced", frame)
    assert 0.05 < frame.present[frame.labels > 0, 1].mean() < 0.15
    assert drawn.present[drawn.labels > 0, 1].mean() == pytest.approx(0.5, abs=0.01)


def test_hidden_modality_silences_every_base_that_reads_it_and_its_context() -> None:
    frame = replace(sparse(0), context_names=("text.length",))
    hidden = np.zeros_like(frame.present)
    hidden[::2, 0] = True
    seen = frame.hide(hidden)
    assert np.isnan(seen.scores[::2][:, [0, 2]]).all()
    np.testing.assert_array_equal(seen.scores[:, 1], frame.scores[:, 1])
    np.testing.assert_array_equal(seen.scores[1::2], frame.scores[1::2])
    assert not seen.present[::2, 0].any() and not seen.context[::2].any()
    np.testing.assert_array_equal(seen.context[1::2], frame.context[1::2])


def test_views_are_made_anew_where_something_is_hidden_and_kept_where_rows_are_left_out() -> None:
    frame = complementary(3, 0)
    rows = np.zeros_like(frame.present)
    best = int(np.argmax(frame.scores[: frame.offsets[1], 0]))
    rows[best, 0] = True
    queries, weights = np.arange(3), np.ones(3, np.float32)
    hidden = apply_draw(frame, Draw(queries, weights, hidden=rows))
    second = np.sort(frame.scores[: frame.offsets[1], 0])[-2]
    assert hidden.views.rank[: frame.offsets[1], 0][frame.scores[: frame.offsets[1], 0] == second] == 1.0
    thinned = apply_draw(frame, Draw(queries, weights, keep=~rows[:, 0]))
    np.testing.assert_array_equal(thinned.views.z, np.delete(frame.views.z, best, axis=0))


def test_apply_draw_multiplies_the_query_weights() -> None:
    frame = replace(complementary(3, 0), query_weights=np.array([1.0, 2.0, 3.0], np.float32))
    drawn = apply_draw(frame, Draw(np.array([2, 1]), np.array([0.5, 1.5], np.float32)))
    np.testing.assert_array_equal(drawn.query_weights, [1.5, 3.0])


def test_spared_candidates_keep_one_source() -> None:
    frame = sparse(3)
    everything = np.ones_like(frame.present)
    spared = spare_last_sources(frame, everything, np.random.default_rng(0))
    left = (frame.present & ~spared).sum(axis=1)
    np.testing.assert_array_equal(left[frame.present.any(axis=1)], 1)


def test_dropout_hides_the_asked_share_in_the_asked_share_of_queries() -> None:
    frame = complementary(2000, 0)
    sampler = make_sampler("modality_dropout", {"rate": 0.4, "copies": 3.0})
    drawn = apply_draw(frame, sampler(frame, np.random.default_rng(0)))
    # 3 of 4 queries lose .4 of each modality; of the .16 that would lose both, half loses either
    assert 1.0 - drawn.present.mean() == pytest.approx(0.75 * (0.4 - 0.08), abs=0.01)
    per_query = np.add.reduceat(~drawn.present[:, 0], drawn.offsets[:-1]) / drawn.group_sizes
    untouched = ~np.logical_or.reduceat(~drawn.present, drawn.offsets[:-1]).any(axis=1)
    assert untouched.mean() == pytest.approx(0.25 + 0.375 * 0.36, abs=0.02)
    assert ((per_query > 0) & (per_query < 1)).mean() > 0.3


def test_raking_meets_several_margins_at_once() -> None:
    frame = complementary(4000, 0, missing=0.85)
    generator = np.random.default_rng(1)
    activity = np.where(generator.random(4000) < 0.5, 1.0, generator.integers(2, 6, 4000))
    frame = replace(
        frame,
        context=np.repeat(activity, frame.group_sizes)[:, None].astype(np.float32),
        context_names=("context.log_activity",),
    )
    sampler = make_sampler("raking", {"tau": 0.0, "clip": 100.0, "per_user": 100.0})
    drawn = apply_draw(frame, sampler(frame, np.random.default_rng(0)))
    assert drawn.present[drawn.labels > 0, 1].mean() == pytest.approx(0.5, abs=0.02)
    # quarters cut 1, 1, 1, 2, 3, 4, 5 below 4 alone
    asked = drawn.context[drawn.offsets[:-1], 0]
    assert (activity >= 4).mean() < 0.27 and (asked >= 4).mean() == pytest.approx(0.5, abs=0.02)


def test_raking_caps_the_share_of_a_user() -> None:
    frame = complementary(1000, 0)
    frame = replace(frame, users=np.where(np.arange(1000) < 500, 0, np.arange(1000)))
    draw, _ = drawn_from("raking", frame)
    average = len(draw.queries) / len(np.unique(frame.users))
    assert (draw.queries < 500).sum() < 0.05 * len(draw.queries)
    assert (draw.queries < 500).sum() >= average


def test_composition_draws_from_what_the_first_drew() -> None:
    frame = complementary(1000, 0, missing=0.9)
    _, drawn = drawn_from("class_balanced+modality_dropout", frame)
    plain, _ = drawn_from("class_balanced", frame)
    has_image = frame.present[frame.labels > 0, 1]
    assert has_image[plain.queries].mean() == pytest.approx(0.5, abs=0.01)
    # the 2 in 3 of the queries' images that are left: half of the queries lose .3 of their modalities
    assert drawn.present[drawn.labels > 0, 1].mean() == pytest.approx(0.5 * (1 - 0.5 * 0.255), abs=0.03)


def test_composition_passes_parameters_by_name() -> None:
    frame = complementary(300, 0, missing=0.3)
    names = "class_balanced+modality_dropout"
    none = make_sampler(names, {"modality_dropout.rate": 0.0})
    drawn = apply_draw(frame, none(frame, np.random.default_rng(0)))
    np.testing.assert_array_equal(np.isnan(drawn.scores[:, 0]), False)
    with pytest.raises(ConfigError, match=r"'rate', expected class_balanced\.<parameter>"):
        make_sampler(names, {"rate": 0.1})


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'shuffle', expected one of natural, class_balanced"):
        make_sampler("shuffle")


@pytest.mark.parametrize(("name", "key"), [("natural", "tau"), ("pattern_balanced", "gamma")])
def test_unknown_parameter_is_refused(name: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        make_sampler(name, {key: 1.0})


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("modality_dropout", {"rate": 1.5}),
        ("modality_dropout", {"copies": -1}),
        ("shapley", {"kappa": -1}),
        ("shapley", {"k": 0}),
        ("raking", {"tau": 2}),
        ("raking", {"per_user": 0.5}),
    ],
)
def test_value_out_of_range_is_refused(name: str, params: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"{name}: got {next(iter(params))}"):
        make_sampler(name, params)
