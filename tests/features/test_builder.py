from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from features.builder import FeatureModel, FeatureSettings, RowBlock
from features.candidates import Candidates
from features.errors import ConfigError
from features.frame import RankingFrame
from features.space import ModalityVectors, Space
from tests.features.planted import TableRetriever, history_of, vectors_of

NAN = np.nan


def rows_of(users, items, scores=None) -> Candidates:
    n = len(users)
    return Candidates(
        np.asarray(users, dtype=np.int64),
        np.asarray(items, dtype=np.int64),
        np.zeros((n, 0), np.float32) if scores is None else np.asarray(scores, dtype=np.float32),
    )


def column(frame: RankingFrame, name: str) -> np.ndarray:
    return frame.features[:, frame.feature_names.index(name)]


TEXT = vectors_of([2, 0], [0, 3], [3, 4], None, [-1, 0])
# User 0 liked 0 and then 1 and disliked 4; user 1 liked only the item without text; user 2 liked 0, 2 and 3;
# user 3 met nothing.
HISTORY = history_of(
    [
        (0, 0, 1.0, 10),
        (0, 1, 1.0, 20),
        (0, 4, 0.0, 30),
        (1, 3, 1.0, 10),
        (2, 0, 1.0, 10),
        (2, 2, 1.0, 20),
        (2, 3, 1.0, 30),
    ],
    n_users=4,
    n_items=5,
)
PAIRS = rows_of([0, 0, 0, 1, 1, 2, 3], [2, 3, 4, 2, 3, 1, 0])


def hand_model(items: Space | None = None, users: Space | None = None, **settings) -> FeatureModel:
    return FeatureModel(
        HISTORY, {"text": TEXT} if items is None else items, users or {}, (), FeatureSettings(**settings)
    )


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        # Cosines of item 2 to 0, 1, 4: .6, .8, -.6; of item 4 to 0, 1: -1, 0; of item 1 to 0, 2: 0, .8.
        ("text.mean", [0.7, NAN, -0.5, NAN, NAN, 0.4, NAN]),
        ("text.max", [0.8, NAN, 0.0, NAN, NAN, 0.8, NAN]),
        ("text.last", [0.8, NAN, 0.0, NAN, NAN, NAN, NAN]),
        # The half-life is last_k = 1 item: user 2 has weights 1, 1/2 and 1/4 for 3 (no text), 2 and 0.
        ("text.recent", [(0.8 + 0.6 / 2) / 1.5, NAN, -0.5 / 1.5, NAN, NAN, 0.8 * 0.5 / 0.75, NAN]),
        ("text.contrast", [0.7 + 0.6, NAN, -0.5 - 1.0, NAN, NAN, NAN, NAN]),
        ("text.present", [1, 0, 1, 1, 0, 1, 1]),
        ("text.component_0", [3, NAN, -1, 3, NAN, 0, 2]),
        ("text.component_1", [4, NAN, 0, 4, NAN, 3, 0]),
    ],
)
def test_frame_item_modality_hand_computed(feature, expected):
    frame = hand_model(last_k=1).frame(PAIRS)
    np.testing.assert_allclose(column(frame, feature), expected, rtol=1e-6, atol=1e-7)


def test_frame_last_k_reaches_back_k_items():
    frame = hand_model(last_k=2).frame(PAIRS)
    # The last two liked by user 2 are items 3, without text, and 2.
    np.testing.assert_allclose(
        column(frame, "text.last"), [0.7, NAN, -0.5, NAN, NAN, 0.8, NAN], rtol=1e-6, atol=1e-7
    )


def test_frame_user_without_dislikes_alone_has_the_contrast_missing():
    frame = hand_model().frame(rows_of([2], [1]))
    np.testing.assert_array_equal(column(frame, "text.contrast"), [NAN])


def test_frame_behaviour_and_context_hand_computed():
    frame = hand_model().frame(PAIRS)
    popularity = np.array([2, 1, 1, 2, 0])
    np.testing.assert_allclose(
        column(frame, "behaviour.log_popularity"), np.log1p(popularity[PAIRS.items]), rtol=1e-6
    )
    np.testing.assert_allclose(
        column(frame, "context.log_activity"), np.log1p([3, 3, 3, 1, 1, 3, 0]), rtol=1e-6
    )
    expected = {
        # Times run from 10 to 30; item 4 was met once, at the end.
        "behaviour.age": [0.5, 1, 0, 0.5, 1, 0.5, 1],
        "behaviour.idle": [0.5, 0, 0, 0.5, 0, 0.5, 1],
        "context.text.coverage": [1, 1, 1, 0, 0, 2 / 3, 0],
        # The two liked vectors of user 0 are at a right angle, those of user 2 have the cosine .6.
        "context.text.breadth": [*[1 - np.sqrt(0.5)] * 3, NAN, NAN, 1 - np.sqrt(0.8), NAN],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(column(frame, name), values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_frame_smooth_popularity_is_the_weighted_mean_of_the_neighbours():
    graph = np.zeros((5, 5), dtype=np.float32)
    graph[[0, 1], 4] = [0.5, 0.25]
    graph[1, 2] = 0.1
    graphed = ModalityVectors(TEXT.vectors, TEXT.present, sparse.csr_array(graph))
    frame = hand_model({"text": graphed}).frame(PAIRS)
    of_2, of_4 = np.log1p(1.0), np.log1p((0.5 * 2 + 0.25 * 1) / 0.75)
    np.testing.assert_allclose(
        column(frame, "text.smooth_popularity"), [of_2, NAN, of_4, of_2, NAN, NAN, NAN], rtol=1e-6
    )


def test_frame_without_graph_has_no_smooth_popularity():
    assert "text.smooth_popularity" not in hand_model().frame(PAIRS).feature_names


def test_frame_user_modality_gives_its_components_by_query():
    age = vectors_of([20], [30], None, [50])
    frame = hand_model(users={"age": age}).frame(PAIRS)
    np.testing.assert_array_equal(column(frame, "age.component_0"), [20, 20, 20, 30, 30, NAN, 50])
    np.testing.assert_array_equal(column(frame, "age.present"), [1, 1, 1, 1, 1, 0, 1])
    assert [frame.feature_names[c] for c in frame.blocks["age"]] == ["age.component_0", "age.present"]


@pytest.mark.parametrize(("components", "expected"), [(0, 0), (1, 1), (9, 2)])
def test_frame_at_most_so_many_components(components, expected):
    names = hand_model(components=components).frame(PAIRS).feature_names
    assert sum(name.startswith("text.component_") for name in names) == expected


def test_frame_retriever_scores_with_z_and_rank_within_the_query():
    scores = [[1, 7], [3, NAN], [NAN, NAN], [5, 7], [2, 4], [2, NAN]]
    pairs = rows_of([0, 0, 0, 0, 2, 2], [0, 1, 2, 4, 0, 1], scores)
    retrievers = (TableRetriever("one", np.zeros((4, 5))), TableRetriever("two", np.zeros((4, 5)), "text"))
    frame = FeatureModel(HISTORY, {"text": TEXT}, {}, retrievers).frame(pairs)
    far = np.sqrt(1.5)
    expected = {
        "one.score": [1, 3, NAN, 5, 2, 2],
        "one.z": [-far, 0, NAN, far, 0, 0],
        "one.rank": [1 / 3, 2 / 3, NAN, 1, 0.75, 0.75],
        "two.score": [7, NAN, NAN, 7, 4, NAN],
        "two.z": [0, NAN, NAN, 0, 0, NAN],
        "two.rank": [0.75, NAN, NAN, 0.75, 1, NAN],
        "context.opinions": [2, 1, 0, 2, 2, 1],
        "context.disagreement": [(0.75 - 1 / 3) / 2, 0, 0, 0.125, 0.125, 0],
        "one.unit": [0, 0.5, NAN, 1, 0.5, 0.5],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(column(frame, name), values, rtol=1e-6, atol=1e-7, err_msg=name)
    assert {frame.feature_names[c] for c in frame.blocks["behaviour"]} > {"one.score", "one.z", "one.rank"}
    assert {frame.feature_names[c] for c in frame.blocks["text"]} > {"two.score", "two.z", "two.rank"}


def test_frame_row_block_comes_as_it_is():
    block = RowBlock(("a", "b"), np.arange(14, dtype=np.float32).reshape(7, 2), np.arange(7) != 3)
    frame = hand_model().frame(PAIRS, row_blocks={"given": block})
    np.testing.assert_array_equal(column(frame, "given.b"), [1, 3, 5, 7, 9, 11, 13])
    np.testing.assert_array_equal(column(frame, "given.present"), block.present)
    assert frame.modalities == ("behaviour", "text", "given")
    np.testing.assert_array_equal(frame.present[:, 2], block.present)


def test_frame_presence_of_each_pair():
    age = vectors_of([20], [30], None, [50])
    model = hand_model(users={"age": age})
    assert model.modalities == ("behaviour", "text", "age")
    # Item 3 has no text and user 2 no age; every item was met, 4 by a user who disliked it.
    expected = [[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1]]
    np.testing.assert_array_equal(model.presence(PAIRS.queries, PAIRS.items), np.array(expected, dtype=bool))
    np.testing.assert_array_equal(model.frame(PAIRS).present, np.array(expected, dtype=bool))
    liked_only = replace(model, history=HISTORY.take(HISTORY.is_positive))
    np.testing.assert_array_equal(liked_only.presence(PAIRS.queries, PAIRS.items)[:, 0], PAIRS.items != 4)


def test_frame_labels_are_those_given_or_0():
    labels = np.arange(7, dtype=np.float32)
    np.testing.assert_array_equal(hand_model().frame(PAIRS, labels=labels).labels, labels)
    np.testing.assert_array_equal(hand_model().frame(PAIRS).labels, np.zeros(7))


def test_frame_without_history_has_nothing_about_behaviour():
    nothing = history_of([], 4, 5)
    frame = FeatureModel(nothing, {"text": TEXT}, {}, ()).frame(PAIRS)
    assert frame.feature_names == ("text.component_0", "text.component_1", "text.present")
    assert frame.modalities == ("text",)


def test_frame_columns_do_not_depend_on_what_a_history_holds():
    liked_only = HISTORY.take(HISTORY.is_positive)
    both = [FeatureModel(history, {"text": TEXT}, {}, ()).frame(PAIRS) for history in (HISTORY, liked_only)]
    assert both[0].feature_names == both[1].feature_names
    assert np.isnan(column(both[1], "text.contrast")).all()


def test_frame_without_times_or_dislikes_has_neither_last_nor_contrast():
    liked_only = replace(HISTORY.take(HISTORY.is_positive), times=None)
    settings = FeatureSettings(last_k=0, contrast=False)
    names = FeatureModel(liked_only, {"text": TEXT}, {}, (), settings).frame(PAIRS).feature_names
    assert {"text.mean", "text.max"} < set(names)
    absent = {"text.last", "text.recent", "text.contrast", "behaviour.age", "behaviour.idle"}
    assert not absent & set(names)


def test_exclude_leaves_out_the_features_that_fit_and_keeps_the_rest_as_they_were():
    whole = hand_model().frame(PAIRS)
    part = hand_model(exclude=("behaviour.*", "text.m*")).frame(PAIRS)

    kept = [name for name in whole.feature_names if not name.startswith(("behaviour.", "text.m"))]
    assert list(part.feature_names) == kept
    assert "behaviour" in whole.blocks and "behaviour" not in part.blocks
    for name in kept:
        np.testing.assert_array_equal(column(part, name), column(whole, name))
    for block, places in part.blocks.items():
        names = {whole.feature_names[place] for place in whole.blocks[block]}
        assert {part.feature_names[place] for place in places} == names & set(kept)


def test_exclude_of_an_unknown_feature_names_it_and_those_there_are():
    with pytest.raises(ConfigError, match=r"'text\.mode'.*text\.mean"):
        hand_model(exclude=("text.mode",)).frame(PAIRS)


def test_exclude_of_what_a_retriever_says_points_to_the_retrievers():
    table = TableRetriever("table", np.ones((4, 5), dtype=np.float32))
    model = replace(hand_model(exclude=("table.*",)), retrievers=(table,))
    pairs = rows_of([0, 0], [2, 3], [[1.0], [2.0]])
    with pytest.raises(ConfigError, match=r"candidates\.retrievers"):
        model.frame(pairs)
