from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.errors import DataError
from modalrank import log_form
from modalrank.encoding import fit_encoders
from modalrank.lists import ALWAYS_LEARNED, Window
from modalrank.log_form import LogForm
from modalrank.retriever_config import default_retrievers
from tests.modalrank.form_parts import (
    form_of,
    labelled,
    liked_pairs,
    only,
    pairs,
    pairs_of_candidates,
    rows_of,
    split_of,
)
from tests.modalrank.worlds import World


@pytest.fixture(scope="module")
def log(log_world) -> LogForm:
    return form_of(log_world)


@pytest.fixture(scope="module")
def strict(log_world) -> LogForm:
    return form_of(log_world, "protocol=strict")


@pytest.fixture(scope="module")
def timeless_world(log_world, log, tmp_path_factory) -> World:
    """Nearly the same splits, told by a column, and no times; every fifth user has one row in valid."""
    world = World(Path(shutil.copytree(log_world.folder, tmp_path_factory.mktemp("timeless") / "log")))
    several = pl.col("query").str.tail(1).is_in(["0", "5"]).not_()
    first = (pl.col("split") == "valid") & pl.int_range(pl.len()).over("query", "split").eq(0)
    split = pl.when(several | ~first).then("split").otherwise(pl.lit("train")).alias("split")
    rows = log.dataset.interactions.with_columns(split)
    names = {"query": "user_id", "item": "item_id", "label": "rating"}
    world.rewrite("interactions.parquet", rows.select(*names, "split").rename(names))
    world.configure(data={"columns": {"label": "rating", "split": "split"}}, split={"by": "column"})
    return world


@pytest.fixture(scope="module")
def timeless(timeless_world) -> LogForm:
    return form_of(timeless_world)


def test_hidden_windows_share_nothing_with_their_history(strict):
    windows = strict.windows()
    assert [window.fold for window in windows] == [0, 1]
    for window in windows:
        known, hidden = pairs(window.model.history), pairs(window.truth)
        assert not known & hidden and known | hidden == pairs(strict.train)
        assert set(window.users.tolist()) == {user for user, _ in liked_pairs(window.truth)}
    assert sum(len(pairs(window.truth)) for window in windows) == len(pairs(strict.train))


def test_every_user_stays_warm_in_every_hidden_window(strict):
    for window in strict.windows():
        assert set(window.truth.users) <= set(window.model.history.users)


def assert_forward(windows, times):
    for window in windows:
        assert window.model.history.times.max() < window.truth.times.min()
    for before, after in pairwise(windows):
        assert before.truth.times.max() < after.truth.times.min()
        known = pairs(after.model.history)
        assert pairs(before.truth) <= known, "a later window may know the labels of an earlier one"
    assert times.max() == windows[-1].truth.times.max()


def test_forward_windows_end_their_history_before_their_labels(log_world):
    form = form_of(log_world, "labels.method=forward", "labels.folds=3", "protocol=strict")
    windows = form.windows()
    assert [window.fold for window in windows] == [0, 1, 2]
    assert_forward(windows, form.train.times)


@pytest.mark.parametrize("protocol", ["strict", "full"])
def test_forward_windows_need_times(protocol, timeless_world):
    with pytest.raises(DataError, match=r"labels\.method 'forward' needs times"):
        form_of(timeless_world, "labels.method=forward", f"protocol={protocol}")


@pytest.mark.parametrize("method", ["hide", "forward"])
def test_full_windows_are_those_of_train_to_learn_from_and_valid_dealt_by_user(method, log_world):
    form = form_of(log_world, f"labels.method={method}")
    windows = form.windows()
    assert [window.fold for window in windows] == [ALWAYS_LEARNED, ALWAYS_LEARNED, 0, 1]
    of_train, of_valid = windows[:2], windows[2:]
    assert all(pairs(w.truth) | pairs(w.model.history) <= pairs(form.train) for w in of_train)
    if method == "forward":
        assert_forward(of_train, form.train.times)
    for window in of_valid:
        assert pairs(window.model.history) == pairs(form.train)
        assert window.model is form.model_before("valid")
        assert pairs(window.truth) == pairs(split_of(form, "valid"))
    users = np.concatenate([window.users for window in of_valid])
    assert sorted(users) == sorted({user for user, _ in liked_pairs(split_of(form, "valid"))})
    sizes = [len(window.users) for window in of_valid]
    assert max(sizes) - min(sizes) <= 1


def test_full_windows_without_times_hide_valid_from_a_history_with_the_rest_of_it(timeless):
    windows = timeless.windows()
    train, valid = (pairs(split_of(timeless, split)) for split in ("train", "valid"))
    assert [window.fold for window in windows] == [0, 1]
    for window in windows:
        hidden = pairs(window.truth)
        assert hidden < valid
        assert pairs(window.model.history) == train | (valid - hidden)
    assert pairs(windows[0].truth) | pairs(windows[1].truth) == valid
    assert not pairs(windows[0].truth) & pairs(windows[1].truth)


def test_full_window_without_times_hides_the_one_new_interaction_of_a_user(timeless):
    valid = split_of(timeless, "valid")
    single = np.flatnonzero(np.bincount(valid.users, minlength=valid.n_users) == 1)
    assert len(single)
    hidden = [set(window.truth.users) & set(single) for window in timeless.windows()]
    assert hidden[0] | hidden[1] == set(single) and not hidden[0] & hidden[1]


def test_full_window_without_times_has_neighbours_for_the_items_it_knows(timeless):
    for window in timeless.windows():
        graph = window.model.items["taste"].graph
        sources = np.flatnonzero(np.diff(graph.tocsr().indptr))
        assert set(sources) <= set(np.flatnonzero(window.model.history.popularity > 0))


FORMS = ["strict", "log", "timeless"]


@pytest.mark.parametrize("name", FORMS)
def test_training_rows_are_labelled_by_what_their_window_hides_and_know_only_the_rest(name, request):
    form = request.getfixturevalue(name)
    training = form.training()
    frame = training.frame
    assert training.scheme == "cross"
    activity = frame.features[:, frame.feature_names.index("context.log_activity")]
    popularity = frame.features[:, frame.feature_names.index("behaviour.log_popularity")]
    taught = taught_queries(form)
    assert training.folds.tolist() == [window.fold for window, _ in taught]
    for query, (window, user) in enumerate(taught):
        rows = slice(frame.offsets[query], frame.offsets[query + 1])
        items, history = frame.items[rows], window.model.history
        liked = {item for who, item in liked_pairs(window.truth) if who == user}
        known = {item for who, item in pairs(history) if who == user}
        assert set(items[frame.labels[rows] > 0].tolist()) <= liked
        assert not set(items.tolist()) & known, "what the history knows is no candidate"
        assert not set(items[frame.labels[rows] == 0].tolist()) & liked
        assert np.allclose(activity[rows], np.log1p(len(known)))
        counts = np.bincount(history.items[history.is_positive], minlength=40)
        assert np.allclose(popularity[rows], np.log1p(counts[items]))


def taught_queries(form: LogForm) -> list[tuple[Window, int]]:
    """Window and user of the training queries, in order: those for whom a hidden positive is found.

    Concatenation renumbers the queries, so that the training frame does not tell.
    """
    found = []
    for window in form.windows():
        candidates = pairs_of_candidates(window.model, window.users)
        found += [(window, user) for user in sorted({u for u, _ in candidates & liked_pairs(window.truth)})]
    return found


def test_training_query_has_a_positive_and_no_more_negatives_than_asked(log):
    frame = log.training().frame
    positives = np.add.reduceat(frame.labels > 0, frame.offsets[:-1])
    assert positives.min() >= 1
    assert (frame.group_sizes - positives).max() <= log.config.labels.negatives


@pytest.mark.parametrize(("protocol", "scheme"), [("strict", "forward"), ("full", "cross")])
def test_forward_training_is_scored_forward_where_its_windows_are(protocol, scheme, log_world):
    training = form_of(log_world, "labels.method=forward", f"protocol={protocol}").training()
    assert training.scheme == scheme
    assert np.all(np.diff(training.folds) >= 0)


@pytest.mark.parametrize("name", FORMS)
def test_training_lists_are_all_candidates_of_the_scored_windows(name, request):
    form = request.getfixturevalue(name)
    training = form.training()
    scored = [window for window in form.windows() if window.fold != ALWAYS_LEARNED]
    assert list(training.lists) == [window.fold for window in scored] == [0, 1]
    for window in scored:
        lists = training.lists[window.fold]
        np.testing.assert_array_equal(lists.queries, window.users)
        frame, positives = only(lists), liked_pairs(window.truth)
        assert rows_of(frame) == pairs_of_candidates(window.model, window.users)
        assert labelled(frame) == rows_of(frame) & positives
        counts = np.bincount([user for user, _ in positives], minlength=40)
        np.testing.assert_array_equal(lists.total_relevant, counts[lists.queries])
        np.testing.assert_array_equal(only(lists).features, frame.features)


@pytest.mark.parametrize(("protocol", "scored"), [("strict", [1]), ("full", [0, 1])])
def test_of_many_rows_the_last_window_is_scored_unless_all_of_them_choose(
    protocol, scored, log_world, monkeypatch
):
    monkeypatch.setattr(log_form, "LARGE", 0)
    asked = ["ensemble.queries=20", "ensemble.judges=20"]
    training = form_of(log_world, f"protocol={protocol}", *asked).training()
    assert list(training.lists) == scored
    assert sum(len(lists.queries) for lists in training.lists.values()) == 20


def test_training_queries_and_lists_are_no_more_than_asked_and_drawn_by_the_seed(log_world):
    few = ["labels.queries=20", "ensemble.queries=20", "protocol=strict"]
    drawn = [form_of(log_world, *few, f"seed={seed}").training() for seed in (0, 0, 1)]
    for training in drawn:
        assert np.bincount(training.folds).max() <= 10
        assert [len(lists.queries) for lists in training.lists.values()] == [10, 10]
        assert all(np.all(np.diff(lists.queries) > 0) for lists in training.lists.values())
    np.testing.assert_array_equal(drawn[1].frame.features, drawn[0].frame.features)
    queries = [np.concatenate([lists.queries for lists in t.lists.values()]).tolist() for t in drawn]
    assert queries[0] == queries[1] and queries[0] != queries[2]


def test_strict_test_knows_train_only_and_lists_nothing_met_in_valid(strict):
    model = strict.model_before("test")
    assert pairs(model.history) == pairs(strict.train)
    valid = pairs(split_of(strict, "valid"))
    frame = only(strict.held_out("test", model))
    assert not rows_of(frame) & (valid | pairs(strict.train))
    unguarded = pairs_of_candidates(model, np.unique(frame.queries))
    assert unguarded & valid, "without the guard items met in valid would be listed"


def test_full_test_is_refitted_on_train_and_valid(log):
    model = log.model_before("test")
    both = split_of(log, "train", "valid")
    assert pairs(model.history) == pairs(both)
    popularity = next(r for r in model.retrievers if r.name == "popularity")
    np.testing.assert_array_equal(popularity.counts, both.popularity)
    assert not rows_of(only(log.held_out("test", model))) & pairs(both)


@pytest.mark.parametrize("protocol", ["strict", "full"])
def test_validation_knows_train_only_in_both_protocols(protocol, log, strict):
    form = {"strict": strict, "full": log}[protocol]
    assert pairs(form.model_before("valid").history) == pairs(form.train)
    assert form.model_before("valid") is form.model_before("valid")


def test_items_met_may_be_listed_again_where_the_config_says_so(log_world):
    form = form_of(log_world, "candidates.exclude_seen=false", "protocol=strict")
    assert rows_of(only(form.held_out("test", form.model_before("test")))) & pairs(form.train)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_held_out_queries_are_the_users_with_a_positive_and_labels_the_truth(split, log):
    rows = log.dataset.interactions.filter(pl.col("split") == split, pl.col("label") >= 4)
    lists = log.held_out(split, log.model_before(split))
    frame = only(lists)
    expected = log.dataset.queries.codes(rows["query"].unique().sort())
    np.testing.assert_array_equal(lists.queries, expected)
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


@pytest.mark.parametrize("most", [1, 10, 1000])
def test_held_out_queries_are_drawn_where_there_are_more_than_asked(most, log_world):
    form = form_of(log_world)
    model = form.model_before("test")
    every = form.held_out("test", model)
    lists = form.held_out("test", model, most)
    assert len(lists.queries) == min(most, len(every.queries))
    assert set(lists.queries) <= set(every.queries)
    np.testing.assert_array_equal(
        lists.total_relevant, every.total_relevant[np.isin(every.queries, lists.queries)]
    )


def test_full_chooses_on_no_more_queries_than_asked(log_world):
    training = form_of(log_world, "protocol=full", "ensemble.judges=20").training()
    assert [len(lists.queries) for lists in training.lists.values()] == [10, 10]


def test_total_relevant_counts_positives_retrieved_or_not(log):
    rows = log.dataset.interactions.filter(pl.col("split") == "test", pl.col("label") >= 4)
    counts = dict(rows.group_by("query").len().rows())
    lists = log.held_out("test", log.model_before("test"))
    expected = [counts[log.dataset.queries.ids[code]] for code in lists.queries]
    assert lists.total_relevant.tolist() == expected
    assert sum(expected) > len(labelled(only(lists))), "some positives are not retrieved"


def test_ceilings_are_the_share_of_validation_positives_retrieved(log):
    lists = log.held_out("valid", log.model_before("valid"))
    ceilings = log.ceilings()
    assert ceilings["union"] == pytest.approx(len(labelled(only(lists))) / lists.total_relevant.sum())
    assert set(ceilings) == {r.name for r in log.model_before("valid").retrievers} | {"union"}
    assert all(0 <= share <= ceilings["union"] for share in ceilings.values())


def test_grid_of_a_retriever_is_decided_on_validation(log_world):
    grid = "candidates.retrievers=[{kind: popularity}, {kind: item_knn, params: {shrink: [0, 10]}}]"
    form = form_of(log_world, grid)
    chosen = form.params["item_knn"]
    by_setting = {trial.params["shrink"]: trial.ndcg for trial in form.trials}
    assert set(by_setting) == {0, 10}
    assert chosen["shrink"] == max(by_setting, key=lambda shrink: by_setting[shrink])


def test_grids_of_a_retriever_are_tried_one_after_the_other(log_world):
    grids = "[{shrink: [0, 10]}, {shrink: 100, neighbours: 5}]"
    form = form_of(log_world, f"candidates.retrievers=[{{kind: item_knn, params: {grids}}}]")
    chosen = form.params["item_knn"]
    tried = [trial.params for trial in form.trials]
    assert tried == [{"shrink": 0}, {"shrink": 10}, {"shrink": 100, "neighbours": 5}]
    best = max(form.trials, key=lambda trial: trial.ndcg)
    assert chosen == best.params


@pytest.mark.parametrize(
    ("world", "protocol", "timed", "staged"),
    [
        ("log_world", "full", True, True),
        ("log_world", "strict", True, False),
        ("timeless_world", "full", False, True),
        ("timeless_world", "strict", False, False),
    ],
)
def test_auto_retrievers_are_those_that_the_data_allow(world, protocol, timed, staged, request, monkeypatch):
    monkeypatch.setattr(log_form, "pick_setting", lambda kind, grids, *_, **__: (grids[0], []))
    overrides = ["candidates.retrievers=auto", f"protocol={protocol}"]
    params = form_of(request.getfixturevalue(world), *overrides).params
    expected = default_retrievers(timed=timed, staged=staged)
    assert params == {retriever.kind: retriever.grids[0] for retriever in expected}


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
        log_form, "_labels", lambda truth, candidates: np.zeros(len(candidates.items), np.float32)
    )
    with pytest.raises(DataError, match="no candidate source found any hidden positive"):
        log.training()
