from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.behaviour_vectors import behaviour_vectors
from features.frame import RankingFrame
from features.frame import concatenate as concatenate_frames
from features.history import History
from features.item_models import unit_rows
from features.sequences import ItemTable, Sequences, concatenate
from tests.features.planted import block_history, history_of

TABLE = ItemTable(
    ("text", "image"), (np.eye(4, dtype=np.float32), np.ones((4, 2), np.float32)), (np.ones(4, bool),) * 2
)


def sequences_of(*recent: list[int], table: ItemTable = TABLE) -> Sequences:
    return Sequences(np.array(recent), np.zeros(len(recent), dtype=np.int64), (table,), True)


def frame_of(sequences: Sequences | None) -> RankingFrame:
    return RankingFrame(
        features=np.arange(6, dtype=np.float32)[:, None],
        feature_names=("a",),
        blocks={"text": (0,)},
        labels=np.zeros(6, np.float32),
        queries=np.array([7, 7, 3, 3, 3, 5]),
        items=np.array([0, 1, 0, 1, 2, 3]),
        sequences=sequences,
    )


FRAME = frame_of(sequences_of([0, 1], [2, -1], [3, 0]))


def test_frame_keeps_the_sequences_beside_their_queries():
    taken = FRAME.take_queries(np.array([2, 0, 0]))
    assert taken.sequences.recent.tolist() == [[3, 0], [0, 1], [0, 1]]
    kept = FRAME.take_rows(np.array([False, False, True, False, False, True]))
    assert kept.sequences.recent.tolist() == [[2, -1], [3, 0]]
    assert FRAME.select_blocks(["text"]).sequences.modalities == ("text",)
    assert FRAME.select_blocks([]).sequences.modalities == ()


def test_frame_with_sequences_of_another_number_of_queries_raises():
    with pytest.raises(ValueError, match="sequences: got 2, expected 3"):
        replace(FRAME, sequences=sequences_of([0, 1], [2, 3]))


def test_concatenate_keeps_a_shared_table_once_and_others_apart():
    other = ItemTable(TABLE.modalities, TABLE.vectors, TABLE.present)
    parts = [sequences_of([0]), sequences_of([1], [2], table=other), sequences_of([3])]
    joined = concatenate(parts)
    assert [table is t for table, t in zip(joined.tables, (TABLE, other), strict=True)] == [True, True]
    assert joined.sources.tolist() == [0, 1, 1, 0]
    assert joined.recent.ravel().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("other", [None, sequences_of([0]), replace(FRAME.sequences, ordered=False)])
def test_concatenate_frames_with_other_sequences_raises(other):
    few = FRAME.take_queries(np.arange(1)) if other is not None and len(other.recent) == 1 else FRAME
    with pytest.raises(ValueError, match="other sequences"):
        concatenate_frames([FRAME, replace(few, sequences=other)])


def test_newest_is_the_last_liked_items_with_the_newest_first():
    history = history_of([(0, 2, 1, 5), (0, 1, 1, 9), (0, 3, 0, 11), (0, 2, 1, 10), (2, 0, 1, 1)], 3, 4)
    assert history.newest(3).tolist() == [[2, 1, -1], [-1, -1, -1], [0, -1, -1]]
    assert history.newest(1).tolist() == [[2], [-1], [0]]


def untimed(history: History) -> History:
    return replace(history, times=None)


def test_newest_without_times_are_items_of_the_user_and_do_not_depend_on_the_rows_or_new_items():
    history = untimed(block_history(20, 2, 12))
    newest = history.newest(5)
    for user, items in enumerate(newest):
        assert len(set(items)) == 5
        assert set(items) <= set(history.liked[[user]].indices)
    rows = np.random.default_rng(0).permutation(len(history.users))
    shuffled = replace(
        history, users=history.users[rows], items=history.items[rows], labels=history.labels[rows]
    )
    np.testing.assert_array_equal(shuffled.newest(5), newest)
    np.testing.assert_array_equal(history.resized(25, 40).newest(5)[:20], newest)


def test_newest_without_times_does_not_prefer_low_codes():
    everything = untimed(history_of([(0, item, 1, 0) for item in range(1000)], 1, 1000))
    assert 350 < everything.newest(100).mean() < 650


def cosines(history: History) -> np.ndarray:
    unit = unit_rows(behaviour_vectors(history).vectors)
    return unit @ unit.T


def test_behaviour_vectors_of_items_of_one_block_are_alike_and_cold_ones_absent():
    history = block_history(200, 4, 10, n_cold=3)
    modality = behaviour_vectors(history)
    assert modality.present.tolist() == [True] * 40 + [False] * 3
    close = cosines(history)[:40, :40]
    same = np.arange(40)[:, None] // 10 == np.arange(40) // 10
    assert close[same & ~np.eye(40, dtype=bool)].min() > close[~same].max()


@given(share=st.floats(0.6, 0.9), seed=st.integers(0, 5))
def test_behaviour_vectors_of_parts_of_a_history_lie_in_one_space(share, seed):
    history = block_history(200, 4, 10)
    keep = np.random.default_rng(seed).random(len(history.users)) < share
    one, other = (unit_rows(behaviour_vectors(h).vectors) for h in (history, history.take(keep)))
    assert (one * other).sum(axis=1).mean() > 0.9


def test_behaviour_vectors_do_not_change_with_the_code_space_and_the_rows():
    history = block_history(50, 2, 10)
    vectors = behaviour_vectors(history).vectors
    np.testing.assert_array_equal(behaviour_vectors(history.resized(60, 30)).vectors[:20], vectors)
    assert not behaviour_vectors(history.resized(60, 30)).present[20:].any()
    rows = np.random.default_rng(0).permutation(len(history.users))
    shuffled = replace(
        history.take(np.ones(len(rows), dtype=bool)),
        users=history.users[rows],
        items=history.items[rows],
        labels=history.labels[rows],
        times=history.times[rows],
    )
    np.testing.assert_array_equal(behaviour_vectors(shuffled).vectors, vectors)


def test_behaviour_vectors_of_no_history_are_absent():
    assert not behaviour_vectors(history_of([], 3, 4)).present.any()
