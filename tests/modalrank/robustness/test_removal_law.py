"""The law of removal: dropping vectors at scoring is never having had them in the tables at scoring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ensembles import make_meta
from features.errors import DataError
from features.removal import without_vectors
from features.retrievers import BEHAVIOUR, content_retrievers
from features.space import place, with_graph
from modalrank.dataset import load_dataset
from modalrank.encoding import encode_rows
from modalrank.forms import make_form
from modalrank.judged_form import JudgedForm
from modalrank.robustness.bench import make_bench, without_cells
from modalrank.scoring import Fresh, refreshed, score_candidates
from tests.modalrank.worlds import N_ITEMS, item_ids, user_ids

NEIGHBOURS = 10
COLUMNS = {"taste": "vector", "title": "title"}
GONE = {
    "half of one": {"taste": np.arange(N_ITEMS) % 2 == 0},
    "all of one": {"title": np.ones(N_ITEMS, dtype=bool)},
    "half of both": {name: np.arange(N_ITEMS) % 2 == 1 for name in COLUMNS},
    "all of both": {name: np.ones(N_ITEMS, dtype=bool) for name in COLUMNS},
}


@pytest.fixture(scope="module")
def bundles(log_result, log_bundle):
    """The bundle under meta-learners that read every base."""
    made = {}
    for name in ("best_single", "rank_fusion", "linear_stack"):
        meta = make_meta(name, k=5, threads=1).fit(log_result.test.frame)
        stack = replace(log_result.stack, meta=meta).pruned()
        blocks = {base: log_result.blocks[base] for base in stack.bases}
        made[name] = replace(log_bundle, stack=stack, blocks=blocks)
    return made


def pairs(items) -> pl.DataFrame:
    rows = [(user, item) for user in user_ids()[::4] for item in items]
    return pl.DataFrame(rows, schema=["query", "item"], orient="row")


def scored(bundle, rows) -> pl.DataFrame:
    return pl.concat(list(score_candidates(bundle, rows))).sort("query", "item")


def emptied(table: pl.DataFrame, gone) -> pl.DataFrame:
    """Return the item table, in the order of the codes, with nulls for what is gone."""
    table = table.sort("item_id")
    for name, mask in gone.items():
        column = pl.col(COLUMNS[name])
        table = table.with_columns(pl.when(pl.Series(mask)).then(None).otherwise(column).alias(COLUMNS[name]))
    return table


def never_had(bundle, world, gone):
    """Return the bundle as it is made of an item table that lacks what is gone, by the same encoders."""
    model = bundle.model
    rows = emptied(world.table("items.parquet"), gone).rename({"item_id": "id"}).with_row_index("row", 1)
    encoded = encode_rows(bundle.config, bundle.encoders, "items", rows, world.folder / "items.parquet")
    items = {}
    for name in model.items:
        new = place(encoded[name], np.arange(N_ITEMS), N_ITEMS)
        items[name] = with_graph(new, model.history.popularity > 0, NEIGHBOURS)
    behaviour = [retriever for retriever in model.retrievers if retriever.block == BEHAVIOUR]
    content = content_retrievers(items, behaviour, model.history)
    return replace(bundle, model=replace(model, items=items, retrievers=(*behaviour, *content)))


@pytest.mark.parametrize("meta", ["best_single", "rank_fusion", "linear_stack"])
@pytest.mark.parametrize("gone", GONE.values(), ids=GONE)
def test_dropped_vectors_score_as_if_the_item_table_never_had_them(gone, meta, bundles, log_world):
    bundle = bundles[meta]
    dropped = replace(bundle, model=without_vectors(bundle.model, gone, NEIGHBOURS))
    rows = pairs(item_ids())
    ours, theirs = scored(dropped, rows), scored(never_had(bundle, log_world, gone), rows)
    assert ours.equals(theirs), "scores, ranks, modalities used and fallbacks"
    assert not ours["modalities_used"].equals(scored(bundle, rows)["modalities_used"])
    for name, mask in gone.items():
        lost = ours.filter(pl.col("item").is_in(list(np.array(item_ids())[mask])))
        assert not lost["modalities_used"].str.contains(name).any()
        if meta == "rank_fusion":
            assert lost["fallback"].str.contains(f"no_{name}").all()


def test_new_items_without_vectors_score_as_those_of_a_table_without_them(bundles, tmp_path):
    bundle = bundles["rank_fusion"]
    names = [f"new{number}" for number in range(6)]
    rng = np.random.default_rng(1)
    vectors = [row.tolist() for row in rng.normal(size=(6, 4))]
    gone = [True, False, True, False, True, False]

    def grown(file: str, kept: list) -> object:
        path = tmp_path / file
        column = pl.Series("vector", kept, dtype=pl.List(pl.Float32))
        titles = pl.Series("title", ["harbour tide"] * 6)
        pl.DataFrame([pl.Series("item_id", names), column, titles]).write_parquet(path)
        return refreshed(bundle, Fresh(items=path), [], names)

    full = grown("full.parquet", vectors)
    poor = grown("poor.parquet", [None if lost else row for row, lost in zip(vectors, gone, strict=True)])
    mask = np.concatenate([np.zeros(N_ITEMS, dtype=bool), gone])
    dropped = replace(full, model=without_vectors(full.model, {"taste": mask}, NEIGHBOURS))
    rows = pairs([*item_ids()[::3], *names])
    assert scored(dropped, rows).equals(scored(poor, rows))
    assert not scored(full, rows)["score"].equals(scored(poor, rows)["score"])


def test_lists_stay_and_their_features_are_those_of_the_poorer_model(log_result):
    form = make_form(log_result.dataset, log_result.encodings, print)
    bench = make_bench(form, log_result.model, log_result.encodings, "test", 25)
    lists = list(bench.frames({}))
    assert np.concatenate([frame.items for frame in lists]).tolist() == bench.truth.items.tolist()
    assert bench.truth.frame.n_queries + len(bench.truth.unreached) == 25
    gone = GONE["half of both"]
    poorer = without_vectors(log_result.model, gone, NEIGHBOURS)
    for whole, left in zip(lists, bench.frames(gone), strict=True):
        np.testing.assert_array_equal(left.items, whole.items)
        np.testing.assert_array_equal(left.labels, whole.labels)
        (candidates,) = poorer.given(whole.queries, whole.items)
        np.testing.assert_array_equal(left.features, poorer.frame(candidates).features)
        taste = left.modalities.index("taste")
        assert not left.present[gone["taste"][left.items], taste].any()
        assert whole.present[gone["taste"][whole.items], taste].any()


def test_truth_of_a_bench_is_that_of_the_evaluation(log_result):
    form = make_form(log_result.dataset, log_result.encodings, print)
    truth = make_bench(form, log_result.model, log_result.encodings, "test", None).truth
    scores = log_result.test_scores[log_result.chosen]
    np.testing.assert_array_equal(truth.ndcg(scores, 5), log_result.test.ndcg(scores, 5))
    np.testing.assert_array_equal(truth.recall(scores, 5), log_result.test.recall(scores, 5))


def test_judged_rows_without_cells_are_those_of_a_table_with_nulls(judged_result, own_judged):
    dataset = judged_result.dataset
    gone = {"clicks": np.arange(len(dataset.items)) % 2 == 0}
    lost = dataset.items.ids[gone["clicks"]].tolist()
    table = own_judged.table("judged.parquet")
    cells = [
        pl.when(pl.col("doc_id").is_in(lost)).then(None).otherwise(pl.col(c)).alias(c)
        for c in ("c1", "c2", "c3")
    ]
    own_judged.rewrite("judged.parquet", table.with_columns(cells))
    config = dataset.config.model_copy(
        update={"data": dataset.config.data.model_copy(update={"root": str(own_judged.folder)})}
    )
    poorer = load_dataset(config)
    columns = ["query", "item", "label", "split", "c1", "c2", "c3", "w1"]
    ours, theirs = (each.interactions.select(columns) for each in (without_cells(dataset, gone), poorer))
    assert ours.equals(theirs)
    form = JudgedForm(dataset, judged_result.encodings, str)
    bench = make_bench(form, judged_result.model, judged_result.encodings, "test", None)
    (left,) = bench.frames(gone)
    (never,) = JudgedForm(poorer, judged_result.encodings, str).held_out("test", judged_result.model).frames()
    np.testing.assert_array_equal(left.features, never.features)
    np.testing.assert_array_equal(left.present, never.present)
    assert bench.presence["words"].all() and 0 < bench.presence["clicks"].mean() < 1


def test_catalogue_without_content_is_refused(log_result):
    form = make_form(log_result.dataset, log_result.encodings, print)
    bare = replace(log_result.model, items={})
    with pytest.raises(DataError, match="no modality of items has a vector"):
        make_bench(form, bare, log_result.encodings, "test", None)
