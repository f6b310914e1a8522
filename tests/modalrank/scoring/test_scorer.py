"""Laws of scoring: what is asked together, in which order and in which chunks changes no bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensembles import TunedFusion, make_meta
from features.errors import DataError
from modalrank.scoring import (
    Fresh,
    candidates_of,
    refreshed,
    score_candidates,
    score_table,
    score_users,
    scorer,
)
from tests.modalrank.scoring.conftest import with_meta
from tests.modalrank.worlds import N_COLD, item_ids, user_ids

METAS = ("best_single", "rank_fusion", "linear_stack")
LOG_METAS = (*METAS, "reserve", "hedge")
NEW_ITEM, NEW_USER = "new-item", "new-user"


@pytest.fixture(scope="module")
def log_bundles(log_result, log_bundle):
    return {name: with_meta(log_result, log_bundle, name) for name in LOG_METAS}


@pytest.fixture(scope="module")
def judged_bundles(judged_result, judged_bundle):
    return {name: with_meta(judged_result, judged_bundle, name) for name in METAS}


@pytest.fixture(scope="module")
def log_rows() -> pl.DataFrame:
    """Some users with all items, in no order."""
    pairs = [(user, item) for user in user_ids()[::5] for item in item_ids()]
    frame = pl.DataFrame(pairs, schema=["query", "item"], orient="row")
    return frame.sample(fraction=1, shuffle=True, seed=3)


@pytest.fixture(scope="module")
def judged_rows(judged_world) -> pl.DataFrame:
    rows = judged_world.table("judged.parquet").rename({"query_id": "query", "doc_id": "item"})
    return rows.drop("grade")


def scored(bundle, rows, **options) -> pl.DataFrame:
    return pl.concat(list(score_candidates(bundle, rows, **options))).sort("query", "item")


def same_bits(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    bits = [frame["score"].to_numpy().view(np.int64) for frame in (one, other)]
    return np.array_equal(*bits) and one.drop("score").equals(other.drop("score"))


@pytest.mark.parametrize("meta", LOG_METAS)
@given(chunk_rows=st.integers(1, 400), seed=st.integers(0, 2**31))
@settings(max_examples=8, deadline=None)
def test_score_log_any_chunks_and_order_give_the_same_bits(meta, log_bundles, log_rows, chunk_rows, seed):
    expected = scored(log_bundles[meta], log_rows)
    shuffled = log_rows.sample(fraction=1, shuffle=True, seed=seed)
    assert same_bits(scored(log_bundles[meta], shuffled, chunk_rows=chunk_rows), expected)


@pytest.mark.parametrize("meta", METAS)
@given(chunk_rows=st.integers(1, 300), seed=st.integers(0, 2**31))
@settings(max_examples=8, deadline=None)
def test_score_judged_any_chunks_and_order_give_the_same_bits(
    meta, judged_bundles, judged_rows, chunk_rows, seed
):
    expected = scored(judged_bundles[meta], judged_rows)
    shuffled = judged_rows.sample(fraction=1, shuffle=True, seed=seed)
    assert same_bits(scored(judged_bundles[meta], shuffled, chunk_rows=chunk_rows), expected)


@pytest.mark.parametrize("meta", LOG_METAS)
def test_score_query_alone_and_among_others_give_the_same_bits(meta, log_bundles, log_rows):
    together = scored(log_bundles[meta], log_rows)
    for user in log_rows["query"].unique():
        alone = scored(log_bundles[meta], log_rows.filter(pl.col("query") == user))
        assert same_bits(alone, together.filter(pl.col("query") == user))


@pytest.mark.parametrize("meta", METAS)
def test_score_judged_query_alone_and_among_others_give_the_same_bits(meta, judged_bundles, judged_rows):
    together = scored(judged_bundles[meta], judged_rows)
    for query in judged_rows["query"].unique().sort()[::7]:
        alone = scored(judged_bundles[meta], judged_rows.filter(pl.col("query") == query))
        assert same_bits(alone, together.filter(pl.col("query") == query))


@pytest.mark.parametrize("meta", LOG_METAS)
def test_score_users_alone_and_among_others_give_the_same_lists(meta, log_bundles):
    bundle = log_bundles[meta]
    together = pl.concat(list(score_users(bundle, user_ids(), 10)))
    for user in user_ids()[::9]:
        alone = pl.concat(list(score_users(bundle, [user], 10)))
        assert same_bits(alone, together.filter(pl.col("query") == user))


@pytest.mark.parametrize("meta", LOG_METAS)
def test_score_new_names_beside_known_ones_change_no_bit_of_theirs(meta, log_bundles, log_rows, tmp_path):
    bundle = log_bundles[meta]
    grown = refreshed(bundle, Fresh(items=new_items(tmp_path)), [NEW_USER], [NEW_ITEM])
    assert same_bits(scored(grown, log_rows), scored(bundle, log_rows))


def test_chunks_never_split_a_query():
    queries = np.array([0, 0, 0, 1, 2, 2, 5])
    assert list(scorer._chunks(queries, 1)) == [(0, 3), (3, 4), (4, 6), (6, 7)]
    assert list(scorer._chunks(queries, 4)) == [(0, 4), (4, 7)]
    assert list(scorer._chunks(queries, 5)) == [(0, 6), (6, 7)]
    assert list(scorer._chunks(queries[:0], 5)) == []


def test_ranks_start_at_one_in_every_query_and_ties_keep_the_order_of_the_rows():
    runs = np.array([0, 0, 0, 0, 1, 1])
    scores = np.array([1.0, 2.0, 1.0, 2.0, 0.0, 0.0])
    assert scorer._ranks(runs, scores).tolist() == [3, 1, 4, 2, 1, 2]


def test_scored_rows_are_ranked_by_their_scores(log_bundles, log_rows):
    for part in score_candidates(log_bundles["linear_stack"], log_rows):
        assert part.sort("query", "rank").equals(part)
        for query in part.partition_by("query"):
            assert query["rank"].to_list() == list(range(1, len(query) + 1))
            assert query["score"].is_sorted(descending=True)
            assert query["score"].is_finite().all()


def test_lists_of_users_are_cut_at_top_k_and_leave_out_what_was_met(log_bundles):
    bundle = log_bundles["rank_fusion"]
    lists = pl.concat(list(score_users(bundle, user_ids(), 7)))
    assert lists["query"].n_unique() == len(user_ids())
    assert set(lists.group_by("query").len()["len"]) == {7}
    seen = bundle.model.history.seen[bundle.queries.codes(lists["query"]), bundle.items.codes(lists["item"])]
    assert not seen.any()
    longer = pl.concat(list(score_users(bundle, user_ids(), 20)))
    assert same_bits(longer.filter(pl.col("rank") <= 7), lists)


def test_lists_reach_items_that_nobody_met(log_bundles):
    cold = set(item_ids()[-N_COLD:])
    lists = pl.concat(list(score_users(log_bundles["rank_fusion"], user_ids(), 100)))
    assert cold & set(lists["item"])
    assert all(
        "behaviour" not in used for used in lists.filter(pl.col("item").is_in(cold))["modalities_used"]
    )


def test_user_nobody_knows_gets_the_popular_items(log_bundles):
    grown = refreshed(log_bundles["best_single"], Fresh(), [NEW_USER], [])
    popularity = grown.model.history.popularity
    assert grown.model.settings.per_source == 15
    for asked, found in [(15, 15), (100, int((popularity > 0).sum()))]:
        (part,) = score_users(grown, [NEW_USER], asked)
        of_part = popularity[grown.items.codes(part["item"])]
        assert len(part) == found and of_part.min() >= np.sort(popularity)[-found]


def test_judged_model_makes_no_lists(judged_bundle):
    with pytest.raises(DataError, match="no sources to generate any"):
        list(score_users(judged_bundle, ["q00"], 5))


def test_modalities_used_are_present_and_read(log_result, log_bundles, log_world):
    items = log_world.table("items.parquet")
    has = {
        "taste": set(items.filter(pl.col("vector").is_not_null())["item_id"]),
        "title": set(items.filter(pl.col("title").is_not_null())["item_id"]),
    }
    everything = log_bundles["rank_fusion"]
    history = everything.model.history
    has["behaviour"] = {item for item, n in zip(everything.items.ids, history.popularity, strict=True) if n}
    pairs = pl.DataFrame({"query": ["u03"] * 40, "item": item_ids()})
    for item, used in scored(everything, pairs).select("item", "modalities_used").rows():
        assert set(used.split("+")) == {"profile"} | {name for name, ids in has.items() if item in ids}
    ageless = scored(everything, pairs.with_columns(query=pl.lit("u39")))
    assert not ageless["modalities_used"].str.contains("profile").any()


def test_modality_that_no_base_reads_is_not_used(log_result, log_bundle):
    only_taste = {"taste_neighbours": log_result.stack.bases["taste_neighbours"]}
    modality = {"taste_neighbours": "taste"}
    everything = log_result.test.frame
    column = everything.scores[:, [everything.bases.index("taste_neighbours")]]
    frame = replace(everything, scores=column, bases=("taste_neighbours",), base_modality=modality)
    meta = make_meta("best_single", k=5).fit(frame)
    stack = replace(log_result.stack, bases=only_taste, base_modality=modality, meta=meta)
    bundle = replace(log_bundle, stack=stack, blocks={"taste_neighbours": ("taste",)})
    pairs = pl.DataFrame({"query": ["u03"] * 3, "item": ["i05", "i06", "i07"]})
    assert scored(bundle, pairs)["modalities_used"].to_list() == ["none", "taste", "taste"]


def new_items(folder, vector=(1.0, 0.5, -0.5, 0.25), title="harbour tide", item=NEW_ITEM):
    file = folder / "new_items.parquet"
    vectors = pl.Series("vector", [None if vector is None else list(vector)], dtype=pl.List(pl.Float32))
    titles = pl.Series("title", [title], dtype=pl.String)
    pl.DataFrame([pl.Series("item_id", [item]), vectors, titles]).write_parquet(file)
    return file


@pytest.mark.parametrize(
    ("vector", "title", "used"),
    [
        ((1.0, 0.5, -0.5, 0.25), "harbour tide", "taste+title+profile"),
        ((1.0, 0.5, -0.5, 0.25), None, "taste+profile"),
        (None, "harbour tide", "title+profile"),
        (None, None, "profile"),
    ],
)
def test_new_item_is_scored_by_the_modalities_it_has(vector, title, used, log_bundles, tmp_path):
    fresh = Fresh(items=new_items(tmp_path, vector, title))
    pairs = pl.DataFrame({"query": ["u03"] * 4, "item": [NEW_ITEM, "i01", "i02", "i03"]})
    part = scored(refreshed(log_bundles["rank_fusion"], fresh, ["u03"], pairs["item"]), pairs)
    assert part["score"].is_finite().all()
    assert part.filter(pl.col("item") == NEW_ITEM)["modalities_used"].to_list() == [used]


def test_new_item_like_a_loved_one_is_above_its_opposite(log_bundles, log_world, tmp_path):
    bundle = log_bundles["rank_fusion"]
    loved = bundle.model.items["taste"].unit.T @ bundle.model.history.liked[[3]].toarray()[0]
    for name, vector in (("alike", loved), ("opposite", -loved)):
        raw = vector * np.std(np.stack(log_world.table("items.parquet")["vector"].drop_nulls()), axis=0)
        bundle = refreshed(bundle, Fresh(items=new_items(tmp_path, raw, None, name)), [], [name])
    pairs = pl.DataFrame({"query": ["u03"] * 2, "item": ["alike", "opposite"]})
    alike, opposite = scored(bundle, pairs)["score"]
    assert alike > opposite


def test_new_user_with_and_without_a_profile_is_scored(log_bundles, tmp_path):
    profiles = tmp_path / "profiles.csv"
    profiles.write_text(f"user_id,age\n{NEW_USER},33\n")
    pairs = pl.DataFrame({"query": [NEW_USER] * 3, "item": ["i01", "i02", "i03"]})
    bundle = log_bundles["rank_fusion"]
    bare = scored(refreshed(bundle, Fresh(), [NEW_USER], []), pairs)
    known = scored(refreshed(bundle, Fresh(users=profiles), [NEW_USER], []), pairs)
    assert not bare["modalities_used"].str.contains("profile").any()
    assert known["modalities_used"].str.contains("profile").all()
    for part in (bare, known):
        assert part["score"].is_finite().all()


def test_item_that_nobody_described_is_refused(log_bundle, tmp_path):
    with pytest.raises(DataError, match="2 items are in neither the model nor an item table, such as 'x'"):
        refreshed(log_bundle, Fresh(), [], ["i01", "y", "x"])
    with pytest.raises(DataError, match="such as 'x'"):
        refreshed(log_bundle, Fresh(items=new_items(tmp_path)), [], [NEW_ITEM, "x"])


def test_known_item_in_the_new_table_keeps_what_the_model_has(log_bundles, log_rows, tmp_path):
    bundle = log_bundles["rank_fusion"]
    both = tmp_path / "both.parquet"
    new = pl.read_parquet(new_items(tmp_path))
    known = pl.read_parquet(new_items(tmp_path, (9.0, 9.0, 9.0, 9.0), "snow", "i01"))
    pl.concat([known, new]).write_parquet(both)
    grown = refreshed(bundle, Fresh(items=both), [], ["i01", NEW_ITEM])
    assert same_bits(scored(grown, log_rows), scored(bundle, log_rows))
    alone = refreshed(bundle, Fresh(items=new_items(tmp_path)), [], [NEW_ITEM])
    pair = pl.DataFrame({"query": ["u03"], "item": [NEW_ITEM]})
    assert same_bits(scored(grown, pair), scored(alone, pair))


def test_new_item_of_broken_vectors_is_refused_with_its_row(log_bundle, tmp_path):
    with pytest.raises(
        DataError, match=r"new_items\.parquet, column 'vector', row 1: got vectors of length 2"
    ):
        refreshed(log_bundle, Fresh(items=new_items(tmp_path, (1.0, 2.0))), [], [NEW_ITEM])


def test_history_replaces_the_model_s(log_bundles, log_world, tmp_path):
    bundle = log_bundles["rank_fusion"]
    log = log_world.table("interactions.parquet")
    file = tmp_path / "history.parquet"
    log.filter(pl.col("user_id") != "u03").vstack(
        log[:1].with_columns(user_id=pl.lit("u03"), item_id=pl.lit("i39"), rating=pl.lit(5.0))
    ).write_parquet(file)
    grown = refreshed(bundle, Fresh(history=file), [], [])
    code = grown.queries.codes(["u03"])
    assert grown.model.history.seen[code].indices.tolist() == grown.items.codes(["i39"]).tolist()
    lists = pl.concat(list(score_users(grown, ["u03"], 100)))
    before = pl.concat(list(score_users(bundle, ["u03"], 100)))
    met = set(bundle.items.ids[bundle.model.history.seen[bundle.queries.codes(["u03"])].indices])
    assert "i39" not in set(lists["item"])
    assert met & set(lists["item"]) and not met & set(before["item"])


def test_same_history_in_any_order_changes_no_bit(log_bundles, log_rows, log_world, tmp_path):
    bundle = log_bundles["rank_fusion"]
    log = log_world.table("interactions.parquet")
    lists = []
    for seed in (1, 2):
        file = tmp_path / f"history{seed}.parquet"
        log.sample(fraction=1, shuffle=True, seed=seed).write_parquet(file)
        lists.append(scored(refreshed(bundle, Fresh(history=file), [], []), log_rows))
    assert same_bits(*lists)


def test_history_may_bring_new_users_and_described_items(log_bundles, log_world, tmp_path):
    log = log_world.table("interactions.parquet")
    row = log[:1].with_columns(user_id=pl.lit(NEW_USER), item_id=pl.lit(NEW_ITEM), rating=pl.lit(5.0))
    file = tmp_path / "history.parquet"
    log.vstack(row).write_parquet(file)
    bundle = log_bundles["rank_fusion"]
    with pytest.raises(DataError, match=f"such as '{NEW_ITEM}'"):
        refreshed(bundle, Fresh(history=file), [], [])
    grown = refreshed(bundle, Fresh(items=new_items(tmp_path), history=file), [], [])
    (lists,) = score_users(grown, [NEW_USER], 100)
    assert len(lists) and NEW_ITEM not in set(lists["item"])
    taste = set(grown.items.ids[grown.model.items["taste"].graph[grown.items.codes([NEW_ITEM])].indices])
    assert taste <= set(item_ids()), "a new item is no neighbour of others"


def test_score_table_takes_unknown_users_and_renamed_columns(log_bundle):
    import pandas as pd

    table = pd.DataFrame({"user_id": ["stranger", "u01"], "item_id": ["i01", "i02"], "note": ["a", "b"]})
    part = score_table(log_bundle, candidates_of(log_bundle, table))
    assert dict(part.select("query", "rank").rows()) == {"stranger": 1, "u01": 1}


def test_score_table_judged_features_that_are_absent_count_as_missing(judged_bundles, judged_rows):
    bundle = judged_bundles["rank_fusion"]
    rows = judged_rows.filter(pl.col("query") == "q00")
    without = candidates_of(bundle, rows.drop("c1", "c2", "c3").to_pandas())
    nulls = rows.with_columns(pl.lit(None, pl.Float64).alias(c) for c in ("c1", "c2", "c3"))
    part = score_table(bundle, without)
    assert same_bits(part, score_table(bundle, candidates_of(bundle, nulls.to_pandas())))
    assert set(part["modalities_used"]) == {"words"}


@pytest.mark.parametrize("form", ["log", "judged"])
def test_explained_scores_tell_what_each_modality_changes(form, log_bundles, judged_bundles, request):
    bundle = (log_bundles if form == "log" else judged_bundles)["linear_stack"]
    ordered = request.getfixturevalue(f"{form}_rows").sort("query", "item")
    plain, told = (scorer.score_chunk(bundle, ordered, explain=explain).rows for explain in (False, True))
    assert told.select(plain.columns).equals(plain)
    names = [name for name in told.columns if name.startswith("contribution_")]
    assert {name.removeprefix("contribution_") for name in names} <= bundle.modalities_read
    assert len(names) > 1
    for name in names:
        used = told["modalities_used"].str.split("+").list.contains(name.removeprefix("contribution_"))
        assert (told[name].is_not_null() == used).all()
        assert told.filter(used)[name].abs().max() > 0


def test_contribution_of_the_only_modality_of_an_additive_stack_is_its_part(judged_bundles, judged_rows):
    bundle = judged_bundles["linear_stack"]
    only = next(name for name, need in bundle.stack.base_modality.items() if need == "words")
    weights = TunedFusion()
    weights.weights_ = {only: 1.0}
    stack = replace(bundle.stack, meta=weights).pruned()
    alone = replace(bundle, stack=stack, blocks={only: ("words",)})
    told = scorer.score_chunk(alone, judged_rows.sort("query", "item"), explain=True).rows
    assert [name for name in told.columns if name.startswith("contribution_")] == ["contribution_words"]
    np.testing.assert_allclose(told["contribution_words"], told["score"], atol=1e-12)
