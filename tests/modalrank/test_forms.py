from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import DataError
from features.splits import hidden_folds
from modalrank import forms
from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.encoding import fit_encoders
from modalrank.forms import JudgedForm, LogForm, make_form
from tests.modalrank.worlds import N_DOCS


def form_of(world, *overrides):
    dataset = load_dataset(load_config(world.config, overrides))
    return make_form(dataset, fit_encoders(dataset, str), str)


@pytest.fixture(scope="module")
def log(log_world) -> LogForm:
    return form_of(log_world)


@pytest.fixture(scope="module")
def strict(log_world) -> LogForm:
    return form_of(log_world, "protocol=strict")


@pytest.fixture(scope="module")
def judged(judged_world) -> JudgedForm:
    return form_of(judged_world)


def pairs(history, keep=None) -> set[tuple[int, int]]:
    kept = history if keep is None else history.take(keep)
    return set(zip(kept.users.tolist(), kept.items.tolist(), strict=True))


def rows_of(frame) -> set[tuple[int, int]]:
    return set(zip(frame.queries.tolist(), frame.items.tolist(), strict=True))


def labelled(frame) -> set[tuple[int, int]]:
    positive = frame.labels > 0
    return set(zip(frame.queries[positive].tolist(), frame.items[positive].tolist(), strict=True))


def test_hidden_windows_share_nothing_with_their_history(log):
    windows = log._windows()
    assert len(windows) == 2
    for history, labels in windows:
        assert not (history & labels).any() and (history | labels).all()
        assert not pairs(log.train, history) & pairs(log.train, labels)
    assert np.array_equal(sum(labels.astype(int) for _, labels in windows), np.ones(len(log.train.users)))


def test_every_user_stays_warm_in_every_hidden_window(log):
    for history, labels in log._windows():
        assert set(log.train.users[labels]) <= set(log.train.users[history])


def test_forward_windows_end_their_history_before_their_labels(log_world):
    form = form_of(log_world, "labels.method=forward", "labels.folds=3")
    windows = form._windows()
    times = form.train.times
    assert len(windows) == 3
    for history, labels in windows:
        assert times[history].max() < times[labels].min()
    for (_, before), (history, after) in pairwise(windows):
        assert times[before].max() < times[after].min()
        assert history[before].all(), "a later window may know the labels of an earlier one"
    assert times.max() == times[windows[-1][1]].max()


def test_forward_windows_need_times(own_log):
    own_log.rewrite("interactions.parquet", own_log.table("interactions.parquet").drop("time"))
    own_log.configure(data={"columns": {"label": "rating"}}, split={"by": "query"})
    with pytest.raises(DataError, match=r"labels\.method 'forward' needs times"):
        form_of(own_log, "labels.method=forward").training()


def test_training_rows_are_labelled_by_what_their_window_hides_and_know_only_the_rest(log):
    training = log.training()
    frame, folds = training.frame, training.folds
    assert training.scheme == "cross" and set(folds.tolist()) == {0, 1}
    train = log.train
    hidden = hidden_folds(train.users, 2, log.config.seed, train.times)
    users = users_of_queries(log, training)
    activity = frame.features[:, frame.feature_names.index("context.log_activity")]
    popularity = frame.features[:, frame.feature_names.index("behaviour.log_popularity")]
    for query, (user, fold) in enumerate(zip(users, folds, strict=True)):
        rows = slice(frame.offsets[query], frame.offsets[query + 1])
        items = frame.items[rows]
        own = train.users == user
        liked = set(train.items[own & (hidden == fold) & train.is_positive].tolist())
        known = set(train.items[own & (hidden != fold)].tolist())
        assert set(items[frame.labels[rows] > 0].tolist()) <= liked
        assert not set(items.tolist()) & known, "what the history knows is no candidate"
        assert not set(items[frame.labels[rows] == 0].tolist()) & liked
        assert np.allclose(activity[rows], np.log1p(len(known)))
        counts = np.bincount(train.items[(hidden != fold) & train.is_positive], minlength=40)
        assert np.allclose(popularity[rows], np.log1p(counts[items]))


def users_of_queries(form: LogForm, training) -> np.ndarray:
    """Users of the training queries: concatenation renumbers the queries, window by window."""
    users = []
    for number, (_, labels) in enumerate(form._windows()):
        model = form.feature_model(form.train.take(~labels), form.items)
        truth = form.train.take(labels)
        (candidates,) = model.generated(np.unique(truth.users[truth.is_positive]))
        found = forms._labels(truth, candidates) > 0
        users += np.unique(candidates.queries[found]).tolist()
        assert len(np.unique(candidates.queries[found])) == (training.folds == number).sum()
    return np.array(users)


def test_training_query_has_a_positive_and_no_more_negatives_than_asked(log):
    frame = log.training().frame
    positives = np.add.reduceat(frame.labels > 0, frame.offsets[:-1])
    assert positives.min() >= 1
    assert (frame.group_sizes - positives).max() <= log.config.labels.negatives


def test_forward_training_is_scored_forward(log_world):
    training = form_of(log_world, "labels.method=forward").training()
    assert training.scheme == "forward"
    assert np.all(np.diff(training.folds) >= 0)


@given(st.data())
def test_sampled_negatives_are_as_many_as_asked_and_every_positive_stays(data):
    labels, offsets = [], [0]
    for _ in range(data.draw(st.integers(1, 5))):
        query = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=8))
        labels += query
        offsets.append(len(labels))
    wanted = data.draw(st.integers(1, 5))
    relevance = np.array(labels, dtype=np.float32)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    keep = forms._sample_negatives(np.array(offsets), relevance, wanted, rng)
    for start, stop in pairwise(offsets):
        here, kept = relevance[start:stop], keep[start:stop]
        if here.any():
            assert kept[here > 0].all()
            assert (kept & (here == 0)).sum() == min(wanted, int((here == 0).sum()))
        else:
            assert not kept.any()


def test_negatives_are_drawn_from_all_over_the_list():
    offsets, labels = np.array([0, 101]), np.zeros(101, dtype=np.float32)
    labels[50] = 1
    drawn = [forms._sample_negatives(offsets, labels, 10, np.random.default_rng(s)) for s in range(40)]
    assert np.count_nonzero(np.sum(drawn, axis=0)) > 90


def test_strict_test_knows_train_only_and_lists_nothing_met_in_valid(strict):
    model = strict.model_before("test")
    assert pairs(model.history) == pairs(strict.train)
    valid = pairs(strict.dataset.history(strict.dataset.in_split("valid")))
    (frame,) = strict.held_out("test", model)
    assert not rows_of(frame) & (valid | pairs(strict.train))
    unguarded = pairs_of_candidates(model, np.unique(frame.queries))
    assert unguarded & valid, "without the guard items met in valid would be listed"


def pairs_of_candidates(model, users) -> set[tuple[int, int]]:
    (candidates,) = model.generated(users)
    return set(zip(candidates.queries.tolist(), candidates.items.tolist(), strict=True))


def test_full_test_is_refitted_on_train_and_valid(log):
    model = log.model_before("test")
    both = log.dataset.history(log.dataset.in_split("train", "valid"))
    assert pairs(model.history) == pairs(both)
    popularity = next(r for r in model.retrievers if r.name == "popularity")
    np.testing.assert_array_equal(popularity.counts, both.popularity)
    (frame,) = log.held_out("test", model)
    assert not rows_of(frame) & pairs(both)


@pytest.mark.parametrize("protocol", ["strict", "full"])
def test_validation_knows_train_only_in_both_protocols(protocol, log, strict):
    form = {"strict": strict, "full": log}[protocol]
    assert pairs(form.model_before("valid").history) == pairs(form.train)
    assert form.model_before("valid") is form.model_before("valid")


def test_items_met_may_be_listed_again_where_the_config_says_so(log_world):
    form = form_of(log_world, "candidates.exclude_seen=false", "protocol=strict")
    (frame,) = form.held_out("test", form.model_before("test"))
    assert rows_of(frame) & pairs(form.train)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_held_out_queries_are_the_users_with_a_positive_and_labels_the_truth(split, log):
    rows = log.dataset.interactions.filter(pl.col("split") == split, pl.col("label") >= 4)
    (frame,) = log.held_out(split, log.model_before(split))
    expected = log.dataset.queries.codes(rows["query"].unique().sort())
    np.testing.assert_array_equal(log.queries(split), expected)
    assert set(frame.queries.tolist()) <= set(expected.tolist())
    truth = set(
        zip(
            log.dataset.queries.codes(rows["query"]).tolist(),
            log.dataset.items.codes(rows["item"]).tolist(),
            strict=True,
        )
    )
    assert labelled(frame) == rows_of(frame) & truth
    positives = log.positives(split)
    assert set(zip(positives.queries.tolist(), positives.items.tolist(), strict=True)) == truth


def test_total_relevant_counts_positives_retrieved_or_not(log):
    rows = log.dataset.interactions.filter(pl.col("split") == "test", pl.col("label") >= 4)
    counts = dict(rows.group_by("query").len().rows())
    codes = np.array([30, 2, 7])
    expected = [counts.get(log.dataset.queries.ids[code], 0) for code in codes]
    assert log.total_relevant("test", codes).tolist() == expected


def test_ceilings_are_the_share_of_validation_positives_retrieved(log):
    (frame,) = log.held_out("valid", log.model_before("valid"))
    ceilings = log.ceilings()
    total = log.total_relevant("valid", log.queries("valid")).sum()
    assert ceilings["union"] == pytest.approx(len(labelled(frame)) / total)
    assert set(ceilings) == {"popularity", "item_knn", "taste_knn", "title_knn", "union"}
    assert all(0 <= share <= ceilings["union"] for share in ceilings.values())


def test_grid_of_a_retriever_is_decided_on_validation(log_world):
    grid = "candidates.retrievers=[{kind: popularity}, {kind: item_knn, params: {shrink: [0, 10]}}]"
    form = form_of(log_world, grid)
    chosen = form.params["item_knn"]
    by_setting = {trial.params["shrink"]: trial.ndcg for trial in form.trials}
    assert set(by_setting) == {0, 10}
    assert chosen["shrink"] == max(by_setting, key=lambda shrink: by_setting[shrink])


def test_without_content_no_modality_retrieves(log_world):
    form = form_of(log_world, "candidates.content=false")
    assert [r.name for r in form.model_before("valid").retrievers] == ["popularity", "item_knn"]


def test_split_without_a_positive_is_refused(log):
    labels = pl.when(pl.col("split") == "valid").then(0.0).otherwise("label").cast(pl.Float32)
    dataset = replace(log.dataset, interactions=log.dataset.interactions.with_columns(label=labels))
    with pytest.raises(DataError, match="the split 'valid' has no label of at least 4"):
        LogForm(dataset, fit_encoders(dataset, str), str)


def test_no_hidden_positive_among_the_candidates_is_refused(log, monkeypatch):
    monkeypatch.setattr(
        forms, "_labels", lambda truth, candidates: np.zeros(len(candidates.items), np.float32)
    )
    with pytest.raises(DataError, match="no candidate source found any hidden positive"):
        log.training()


def test_judged_folds_part_the_train_queries_evenly(judged):
    training = judged.training()
    assert training.scheme == "cross"
    assert sorted(np.bincount(training.folds)) == [9, 9]
    queries = judged.dataset.queries.ids[training.frame.queries]
    assert set(queries) == set(judged.dataset.interactions.filter(pl.col("split") == "train")["query"])


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_judged_frame_is_the_rows_of_the_split_with_their_features(split, judged, judged_world):
    frame = judged._frame(split, judged.model_before("test"))
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
    assert judged.total_relevant("test", np.array([0])) is None
    (frame,) = judged.held_out("test", judged.model_before("test"))
    np.testing.assert_array_equal(judged.queries("test"), np.unique(frame.queries))


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
