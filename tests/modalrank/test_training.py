from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from ensembles import oof
from ensembles.meta import mean_ndcg
from ensembles.stack import Stack
from features.errors import DataError
from modalrank import reserve_choice, training
from modalrank.bases import BaseSet, base_set
from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.evaluation import Scored
from modalrank.forms import make_form
from modalrank.training import Stages, TrainResult, lay_groundwork, score_lists, train
from tests.modalrank.form_parts import form_of, only, rows_of
from tests.modalrank.worlds import item_ids

RETRIEVERS = {
    "popularity",
    "item_knn",
    "taste_neighbours",
    "title_neighbours",
    "content_knn",
    "content_regression",
    "item_knn_content",
}
BASES = RETRIEVERS | {"taste", "fused", "linear"}
LADDER = ["best_single", "rank_fusion", "linear_stack"]


def test_result_has_a_standing_for_every_base_and_rung(log_result):
    names = {standing.name: standing for standing in log_result.standings}
    climbed = [*LADDER, *(["blend"] if log_result.chosen == "blend" else [])]
    assert set(names) == BASES | set(climbed)
    assert names["taste"].role == "single: taste" and names["fused"].role == "fused"
    assert [name for name, standing in names.items() if standing.chosen] == [log_result.chosen]
    assert [step.name for step in log_result.steps] == climbed[1:]


def test_standings_and_metrics_are_of_the_held_out_scores(log_result):
    k = log_result.dataset.config.ensemble.k
    for standing in log_result.standings:
        values = log_result.test.ndcg(log_result.test_scores[standing.name], k)
        assert standing.test.mean == pytest.approx(np.nanmean(values))
    (chosen,) = (standing for standing in log_result.standings if standing.chosen)
    assert log_result.metrics[f"ndcg@{k}"] == chosen.test


def test_taste_is_planted_and_popularity_is_not(log_result):
    by_name = {standing.name: standing.valid.mean for standing in log_result.standings}
    assert by_name["taste_neighbours"] > 2 * by_name["popularity"]


def test_words_are_planted_and_found_almost_perfectly(judged_result):
    by_name = {standing.name: standing.test.mean for standing in judged_result.standings}
    assert by_name["words"] > 0.85


def test_stack_scores_test_as_reported(log_result):
    np.testing.assert_array_equal(
        log_result.stack.meta.score(log_result.test.frame), log_result.test_scores[log_result.chosen]
    )


def test_every_stage_is_told_and_timed(log_result):
    assert list(log_result.seconds) == [
        "encode",
        "fit behaviour models",
        "make training queries",
        "score out of fold",
        "fit bases",
        "score validation",
        "climb the ladder",
        "score test",
        "evaluate",
    ]
    assert all(spent >= 0 for spent in log_result.seconds.values())


def test_stage_times_add_up_and_are_said():
    said: list[str] = []
    stages = Stages(said.append)
    for name in ("a", "b", "a"):
        with stages.stage(name):
            pass
    assert said == ["a", "b", "a"] and list(stages.seconds) == ["a", "b"]


def test_forward_strict_training_gives_a_result(log_world):
    overrides = ["labels.method=forward", "protocol=strict", "ensemble.ladder=[best_single, rank_fusion]"]
    result = train(load_dataset(load_config(log_world.config, overrides)))
    train_rows = result.dataset.in_split("train").sum()
    assert len(result.model.history.users) == train_rows
    assert np.isfinite(result.test_scores[result.chosen]).all()


def judged_on(result: TrainResult) -> set[tuple[int, int]]:
    queries = np.repeat(result.valid.queries, result.valid.frame.group_sizes)
    return set(zip(queries.tolist(), result.valid.items.tolist(), strict=True))


@pytest.mark.parametrize("protocol", ["strict", "full"])
def test_log_is_judged_on_the_lists_of_validation(protocol, log_world):
    one = ["ensemble.ladder=[best_single]", "bases=[{name: b, family: linear, blocks: [taste]}]"]
    result = train(load_dataset(load_config(log_world.config, [*one, f"protocol={protocol}"])))
    form = form_of(log_world, *one, f"protocol={protocol}")
    lists = form.held_out("valid", form.model_before("valid"))
    assert judged_on(result) == rows_of(only(lists))
    assert sorted(result.valid.every_query) == lists.queries.tolist()
    totals = dict(zip(lists.queries.tolist(), lists.total_relevant.tolist(), strict=True))
    assert result.valid.total_relevant.tolist() == [totals[query] for query in result.valid.queries]
    known = {"strict": ["train"], "full": ["train", "valid"]}[protocol]
    assert len(result.model.history.users) == result.dataset.in_split(*known).sum()


@pytest.mark.parametrize("protocol", ["strict", "full"])
def test_judged_lists_are_judged_on_all_queries_of_train_and_valid(protocol, judged_world):
    """Strict: those of train out of fold, those of valid by bases that learned from all of train."""
    config = load_config(judged_world.config, [f"protocol={protocol}"])
    ground = lay_groundwork(load_dataset(config), Stages(str))
    judge, rows = ground.judge, ground.dataset.in_split("train", "valid")
    assert sorted(judge.queries) == np.unique(ground.dataset.query_codes[rows]).tolist()
    assert judge.frame.n_queries == len(judge.queries) and len(judge.items) == len(judge.frame.labels)
    assert ground.oof is None
    form = make_form(ground.dataset, ground.encodings, str)
    lists = form.held_out("valid", form.model_before("valid"))
    held_out = score_lists(ground.stack, lists)
    last = judge.frame.take_queries(np.flatnonzero(np.isin(judge.queries, lists.queries)))
    same = np.array_equal(last.scores, held_out.frame.scores, equal_nan=True)
    assert same == (protocol == "strict")


@pytest.mark.parametrize(("large", "parts"), [(10**9, [[0], [1], [2]]), (0, [[0, 2], [1]])])
@pytest.mark.parametrize("protocol", ["strict", "full"])
def test_out_of_fold_bases_learn_from_all_but_the_folds_they_score(
    protocol, large, parts, log_world, monkeypatch
):
    form = form_of(log_world, "labels.folds=3", f"protocol={protocol}")
    queries, config = form.training(), form.config
    learned = []

    fit_base = oof.fit_base

    def remembering(base, frame, seed):
        learned.append(frame.queries[frame.offsets[:-1]])
        return fit_base(base, frame, seed)

    monkeypatch.setattr(oof, "LARGE", large)
    monkeypatch.setattr(oof, "fit_base", remembering)
    bases = base_set(config, form.model_before("valid"), queries.frame)
    scored = training.scored_out_of_fold(bases, queries, config, str)
    for number, held in enumerate(parts):
        (expected,) = np.nonzero(~np.isin(queries.folds, held))
        for codes in learned[number * len(bases.bases) : (number + 1) * len(bases.bases)]:
            np.testing.assert_array_equal(codes, expected)
    assert len(learned) == len(parts) * len(bases.bases)
    reached = [only(queries.lists[fold]) for part in parts for fold in part]
    np.testing.assert_array_equal(scored.items, np.concatenate([frame.items for frame in reached]))
    np.testing.assert_array_equal(scored.frame.labels, np.concatenate([frame.labels for frame in reached]))


def test_first_window_of_a_forward_scheme_is_judged_by_nobody(log_world):
    form = form_of(log_world, "labels.method=forward", "labels.folds=3", "protocol=strict")
    queries, config = form.training(), form.config
    bases = base_set(config, form.model_before("valid"), queries.frame)
    scored = training.scored_out_of_fold(bases, queries, config, str)
    expected = [only(queries.lists[fold]).items for fold in (1, 2)]
    np.testing.assert_array_equal(scored.items, np.concatenate(expected))


def test_places_for_new_items_are_part_of_the_stack(own_log, monkeypatch, tmp_path):
    monkeypatch.setattr(reserve_choice, "MOST_COST", 1.0)
    # Whoever meets one of the first items meets it last, so that nobody met these in train.
    late = pl.col("item_id").is_in(item_ids()[:8]).cast(pl.Int64)
    own_log.rewrite(
        "interactions.parquet",
        own_log.table("interactions.parquet").with_columns(pl.col("time") + late * 10**9),
    )
    overrides = ["ensemble.ladder=[best_single]", "ensemble.reserve=2"]
    result = train(load_dataset(load_config(own_log.config, overrides)))
    assert result.chosen == "reserve"
    by_name = {standing.name: standing for standing in result.standings}
    assert by_name["reserve"].role == "meta" and by_name["reserve"].chosen
    frame, scores = result.test.frame, result.test_scores["reserve"]
    new = ~frame.present[:, frame.modalities.index("behaviour")]
    shown = [
        (new[a:b][np.argsort(-scores[a:b])][:5].sum(), new[a:b].sum()) for a, b in pairwise(frame.offsets)
    ]
    meta = result.stack.meta
    merit = meta.merit(frame)
    good = np.add.reduceat(merit >= meta.least, frame.offsets[:-1])
    assert meta.slots == 2 and good.any()
    assert all(seen >= min(2, enough) for (seen, _), enough in zip(shown, good, strict=True))
    result.stack.pruned().save(tmp_path)
    np.testing.assert_array_equal(Stack.load(tmp_path).meta.score(frame), scores)


def test_user_whom_no_source_reaches_counts_zero(log_world):
    """The only source knows users by what they liked, and one of the test users has no history."""
    overrides = [
        "candidates.retrievers=[{kind: item_knn}]",
        "candidates.content=false",
        "ensemble.ladder=[best_single]",
        "bases=[{name: b, family: linear, blocks: [taste]}]",
        "protocol=strict",
    ]
    dataset = load_dataset(load_config(log_world.config, overrides))
    lonely = dataset.queries.codes(["u04"])[0]
    keep = (dataset.query_codes != lonely) | ~dataset.in_split("train")
    without = replace(
        dataset,
        interactions=dataset.interactions.filter(pl.Series(keep)),
        query_codes=dataset.query_codes[keep],
        item_codes=dataset.item_codes[keep],
    )
    result = train(without)
    assert result.test.unreached.tolist() == [lonely]
    values = result.test.ndcg(result.test_scores[result.chosen], 5)
    assert len(values) == len(result.test.queries) + 1 and values[-1] == 0


@pytest.mark.parametrize("protocol", ["strict", "full"])
def test_best_single_is_chosen_on_validation_alone_in_a_log(protocol, log_world):
    overrides = ["ensemble.ladder=[best_single]", f"protocol={protocol}"]
    result = train(load_dataset(load_config(log_world.config, overrides)))
    valid: Scored = result.valid
    quality = [mean_ndcg(column, valid.frame, 5, 0) for column in valid.frame.scores.T]
    assert result.stack.meta.bases_used()[0] == valid.frame.bases[int(np.argmax(quality))]


def test_nothing_to_learn_from_is_a_data_error(log_world, monkeypatch):
    def unlikable(self, *splits):
        return np.zeros(len(self.interactions), dtype=bool)

    dataset = load_dataset(load_config(log_world.config))
    monkeypatch.setattr(type(dataset), "in_split", unlikable)
    with pytest.raises(DataError, match="has no label of at least 4"):
        train(dataset)


@pytest.mark.parametrize(
    ("threads", "gpus", "families", "device", "expected"),
    [
        (1, 0, {"lightgbm"}, "auto", (1, 1)),
        (2, 0, {"lightgbm", "linear"}, "auto", (2, 1)),
        (16, 0, {"lightgbm"}, "auto", (4, 4)),
        (16, 0, {"lightgbm", "transformer"}, "auto", (1, 16)),
        (16, 1, {"lightgbm"}, "auto", (1, 16)),
        (16, 1, {"lightgbm"}, "cpu", (4, 4)),
    ],
)
def test_bases_are_fitted_side_by_side_where_they_share_nothing(
    threads, gpus, families, device, expected, log_world, monkeypatch
):
    config = load_config(log_world.config, [f"threads={threads}", f"device={device}"])
    bases = BaseSet((), {}, frozenset(families))
    monkeypatch.setattr(training, "cuda_device_count", lambda: gpus)
    monkeypatch.setattr(training, "fit_side_by_side", lambda *_, at_once, threads, **__: (at_once, threads))
    assert training.fit_bases(bases, None, config, str) == expected
