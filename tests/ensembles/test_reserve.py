from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles import BestSingle, MedianScore, load_meta
from ensembles.reserve import Places, Reserve, new_rows
from ensembles.score_frame import ScoreFrame
from tests.ensembles.planted import from_lists


def lists(scores: list[list[float]], new: list[list[int]]) -> ScoreFrame:
    """One base; the items of `new` lack behaviour."""
    labels = [[1] + [0] * (len(row) - 1) for row in scores]
    frame = from_lists([[[value] for value in row] for row in scores], labels=labels)
    present = np.array([[bit == 0] for row in new for bit in row])
    return replace(frame, modalities=("behaviour",), present=present)


def ranked(frame: ScoreFrame, slots: int, k: int) -> list[list[int]]:
    """Rows of each query, best first."""
    scores = frame.scores[:, 0]
    merit = np.where(new_rows(frame, "behaviour"), scores, np.nan)
    return by_query(frame, Places.ordered(frame, scores, merit, -np.inf).with_reserve(slots, k))


def by_query(frame: ScoreFrame, final: np.ndarray) -> list[list[int]]:
    parts = np.split(final, frame.offsets[1:-1])
    return [np.argsort(-part, kind="stable").tolist() for part in parts]


@pytest.mark.parametrize(
    ("new", "slots", "expected"),
    [
        ([0, 0, 0, 0, 1, 1], 1, [0, 1, 4, 2, 3, 5]),
        ([0, 0, 0, 0, 1, 1], 2, [0, 4, 5, 1, 2, 3]),
        # A new item that is among the first three already holds one of the places, where it stands.
        ([1, 0, 0, 0, 1, 0], 1, [0, 1, 2, 3, 4, 5]),
        ([1, 0, 0, 0, 1, 0], 2, [0, 1, 4, 2, 3, 5]),
        # Too few new items leave the places to the others.
        ([0, 0, 0, 0, 0, 1], 2, [0, 1, 5, 2, 3, 4]),
        ([0, 0, 0, 0, 0, 0], 2, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_reserve_by_hand(new: list[int], slots: int, expected: list[int]) -> None:
    frame = lists([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]], [new])
    assert ranked(frame, slots, k=3) == [expected]


@given(st.integers(0, 10_000), st.integers(0, 4), st.integers(1, 5))
def test_reserve_keeps_its_promise_and_all_other_order(seed: int, slots: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, 3)
    scores = [rng.permutation(20)[:n].astype(float).tolist() for n in sizes]
    new = [rng.integers(0, 2, n).tolist() for n in sizes]
    for row, bits, place in zip(scores, new, ranked(lists(scores, new), slots, k), strict=True):
        inner = np.argsort(-np.array(row)).tolist()
        assert sorted(place) == list(range(len(row)))
        shown = sum(bits[i] for i in place[:k])
        assert shown >= min(slots, sum(bits), k)
        for bit in (0, 1):
            assert [i for i in place if bits[i] == bit] == [i for i in inner if bits[i] == bit]


def two_opinions() -> ScoreFrame:
    """Two users; the bases disagree about the two new items at the end, which suit the second user better."""
    rows = [[4.0, 0.0], [3.0, 0.0], [2.0, 1.0], [1.0, 2.0]]
    better = [[4.0, 0.0], [3.0, 0.0], [2.0, 3.0], [1.0, 4.0]]
    frame = from_lists([rows, better], labels=[[1, 0, 0, 0], [1, 0, 0, 0]])
    return replace(
        frame,
        modalities=("behaviour",),
        present=np.array([[True], [True], [False], [False]] * 2),
    )


def by_score(frame: ScoreFrame, base: int) -> MedianScore:
    """The scores of one base as they are."""
    meta = MedianScore(best=1)
    meta.bases_, meta.centre_, meta.scale_ = (frame.bases[base],), np.zeros(1), np.ones(1)
    return meta


def chooser(frame: ScoreFrame, base: int) -> BestSingle:
    """The best single base, taught that it is this one."""
    labels = (frame.scores[:, base] == frame.scores[:, base].max()).astype(np.int32)
    return BestSingle(2).fit(replace(frame, labels=labels))


def test_newcomers_order_new_items_and_those_that_suit_alone_get_places(tmp_path: Path) -> None:
    frame = two_opinions()
    inner, newcomers = chooser(frame, 0), by_score(frame, 1)
    assert inner.bases_used() != newcomers.bases_used()
    everybody = Reserve(inner, newcomers, "behaviour", 1, 2)
    assert by_query(frame, everybody.score(frame)) == [[0, 3, 1, 2]] * 2
    good = Reserve(inner, newcomers, "behaviour", 1, 2, least=3.5)
    assert by_query(frame, good.score(frame)) == [[0, 1, 2, 3], [0, 3, 1, 2]]
    assert set(good.bases_used()) == set(frame.bases)
    for number, reserve in enumerate((good, everybody)):
        folder = tmp_path / str(number)
        folder.mkdir()
        reserve.save(folder)
        np.testing.assert_array_equal(load_meta(folder).score(frame), reserve.score(frame))


def test_the_context_of_a_user_can_speak_for_new_items(tmp_path: Path) -> None:
    frame = two_opinions()
    frame = replace(
        frame, context=np.repeat([[1.0], [3.0]], 4, axis=0).astype(np.float32), context_names=("activity",)
    )
    inner, newcomers = chooser(frame, 0), by_score(frame, 1)
    weights = {"score": 1.0, "activity": 2.0}
    active = Reserve(inner, newcomers, "behaviour", 1, 2, weights=weights, least=7.0)
    # The best new item of the first user is worth 2 + 2, of the second one 4 + 6.
    assert by_query(frame, active.score(frame)) == [[0, 1, 2, 3], [0, 3, 1, 2]]
    active.save(tmp_path)
    np.testing.assert_array_equal(load_meta(tmp_path).score(frame), active.score(frame))


def test_new_items_of_which_nothing_is_known_get_no_place(tmp_path: Path) -> None:
    frame = two_opinions()
    # of the two new items the first has an image, and the better second one has nothing
    has_image = np.array([[False], [False], [True], [False]] * 2)
    frame = replace(
        frame, modalities=("behaviour", "image"), present=np.column_stack([frame.present, has_image])
    )
    inner, newcomers = chooser(frame, 0), chooser(frame, 1)
    told = Reserve(inner, newcomers, "behaviour", 1, 2, told_by=("image",))
    assert by_query(frame, told.score(frame)) == [[0, 2, 1, 3]] * 2
    told.save(tmp_path)
    np.testing.assert_array_equal(load_meta(tmp_path).score(frame), told.score(frame))


def test_new_items_without_the_opinion_that_orders_them_get_no_place() -> None:
    frame = two_opinions()
    inner, newcomers = chooser(frame, 0), chooser(frame, 1)
    scores = frame.scores.copy()
    scores[3::4, 1] = np.nan
    silent = replace(frame, scores=scores)
    reserve = Reserve(inner, newcomers, "behaviour", 2, 3)
    assert by_query(frame, reserve.score(frame)) == [[0, 3, 2, 1]] * 2
    assert by_query(silent, reserve.score(silent)) == [[0, 1, 2, 3]] * 2, "the first of them is third anyway"
    one = Reserve(inner, newcomers, "behaviour", 1, 2)
    assert by_query(silent, one.score(silent)) == [[0, 2, 1, 3]] * 2


def test_reserve_equal_scores_earn_nothing_by_their_row() -> None:
    n = 400
    frame = lists([[1.0] * n], [[0] * n])
    first_half = np.array(ranked(frame, 1, k=n // 2)[0][: n // 2]) < n // 2
    assert 0.4 < first_half.mean() < 0.6
