from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from modalrank.judged_form import JudgedForm
from tests.modalrank.form_parts import form_of, only, rows_of
from tests.modalrank.worlds import N_DOCS


@pytest.fixture(scope="module")
def judged(judged_world) -> JudgedForm:
    return form_of(judged_world)


@pytest.mark.parametrize(
    ("protocol", "splits", "sizes"), [("strict", ["train"], [9, 9]), ("full", ["train", "valid"], [12, 12])]
)
def test_judged_folds_part_the_known_queries_evenly(protocol, splits, sizes, judged_world):
    form = form_of(judged_world, f"protocol={protocol}")
    training = form.training()
    assert training.scheme == "cross"
    assert sorted(np.bincount(training.folds)) == sizes
    queries = form.dataset.queries.ids[training.frame.queries]
    assert set(queries) == set(form.dataset.interactions.filter(pl.col("split").is_in(splits))["query"])


def test_judged_lists_are_the_whole_queries_of_their_fold(judged):
    training = judged.training()
    codes = training.frame.queries[training.frame.offsets[:-1]]
    assert sorted(training.lists) == [0, 1]
    for fold, lists in training.lists.items():
        np.testing.assert_array_equal(lists.queries, codes[training.folds == fold])
        np.testing.assert_array_equal(only(lists).queries, np.repeat(lists.queries, N_DOCS))
        assert rows_of(only(lists)) <= rows_of(training.frame)
        assert lists.total_relevant is None


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_judged_frame_is_the_rows_of_the_split_with_their_features(split, judged, judged_world):
    frame = judged._frame((split,), judged.model_before("test"))
    rows = judged_world.table("judged.parquet").rename({"query_id": "query", "doc_id": "item"})
    index = {(query, item): n for n, (query, item) in enumerate(rows.select("query", "item").rows())}
    dataset = judged.dataset
    place = [
        index[pair]
        for pair in zip(dataset.queries.ids[frame.queries], dataset.items.ids[frame.items], strict=True)
    ]
    assert len(place) == frame.n_queries * N_DOCS
    np.testing.assert_array_equal(frame.labels, rows["grade"].to_numpy()[place])
    for name in ("words.w1", "clicks.c2"):
        given = rows[name.split(".")[1]].to_numpy()[place].astype(np.float32)
        np.testing.assert_array_equal(frame.features[:, frame.feature_names.index(name)], given)
    assert frame.modalities == ("words", "clicks")
    has_clicks = ~np.isnan(rows["c1"].to_numpy()[place])
    np.testing.assert_array_equal(frame.present[:, 1], has_clicks)


def test_judged_queries_have_all_their_relevant_rows(judged):
    lists = judged.held_out("test", judged.model_before("test"))
    assert lists.total_relevant is None
    rows = judged.dataset.interactions.filter(pl.col("split") == "test")
    assert set(judged.dataset.queries.ids[lists.queries]) == set(rows["query"])
    np.testing.assert_array_equal(lists.queries, np.unique(only(lists).queries))


def test_judged_queries_are_drawn_where_there_are_more_than_asked(judged):
    model = judged.model_before("test")
    every, some = judged.held_out("test", model), judged.held_out("test", model, 2)
    assert len(some.queries) == 2 and set(some.queries) <= set(every.queries)
    rows = np.isin(only(every).queries, some.queries)
    np.testing.assert_array_equal(only(some).features, only(every).features[rows])


def test_judged_row_weights_become_query_weights(own_judged):
    rows = own_judged.table("judged.parquet")
    weights = pl.col("query_id").str.slice(1).cast(pl.Float64) + pl.int_range(pl.len()).over("query_id")
    own_judged.rewrite("judged.parquet", rows.with_columns(importance=weights))
    own_judged.configure(
        data={"columns": {"query": "query_id", "item": "doc_id", "label": "grade", "weight": "importance"}}
    )
    form = form_of(own_judged)
    frame = form.training().frame
    numbers = [int(query[1:]) for query in form.dataset.queries.ids[frame.queries[frame.offsets[:-1]]]]
    np.testing.assert_allclose(frame.query_weights, np.array(numbers) + 3.5)
