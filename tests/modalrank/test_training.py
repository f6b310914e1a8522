from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ensembles.meta import mean_ndcg
from features.errors import DataError
from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.evaluation import Scored
from modalrank.training import Stages, train

BASES = {"popularity", "item_knn", "taste_knn", "title_knn", "taste", "fused", "linear"}
LADDER = ["best_single", "rank_fusion", "linear_stack"]


def test_result_has_a_standing_for_every_base_and_rung(log_result):
    names = {standing.name: standing for standing in log_result.standings}
    assert set(names) == BASES | set(LADDER)
    assert names["taste"].role == "single: taste" and names["fused"].role == "fused"
    assert [name for name, standing in names.items() if standing.chosen] == [log_result.chosen]
    assert [step.name for step in log_result.steps] == LADDER[1:]


def test_standings_and_metrics_are_of_the_held_out_scores(log_result):
    k = log_result.dataset.config.ensemble.k
    for standing in log_result.standings:
        values = log_result.test.ndcg(log_result.test_scores[standing.name], k)
        assert standing.test.mean == pytest.approx(np.nanmean(values))
    (chosen,) = (standing for standing in log_result.standings if standing.chosen)
    assert log_result.metrics[f"ndcg@{k}"] == chosen.test


def test_taste_is_planted_and_popularity_is_not(log_result):
    by_name = {standing.name: standing.valid.mean for standing in log_result.standings}
    assert by_name["taste_knn"] > 2 * by_name["popularity"]


def test_words_are_planted_and_found_almost_perfectly(judged_result):
    by_name = {standing.name: standing.test.mean for standing in judged_result.standings}
    assert by_name["words"] > 0.85


def test_stack_scores_test_as_reported(log_result):
    np.testing.assert_array_equal(
        log_result.stack.meta.score(log_result.test.frame), log_result.test_scores[log_result.chosen]
    )


def test_every_stage_is_told_and_timed(log_result):
    assert list(log_result.seconds) == [
        "encode the modalities",
        "tune the retrievers",
        "make the training queries",
        "train the bases",
        "score validation",
        "climb the ladder",
        "refit with validation",
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
    assert "refit with validation" not in result.seconds
    train_rows = result.dataset.in_split("train").sum()
    assert len(result.model.history.users) == train_rows
    assert np.isfinite(result.test_scores[result.chosen]).all()


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


def test_best_single_is_chosen_on_validation_alone_in_a_log(log_result):
    valid: Scored = log_result.valid
    k = log_result.dataset.config.ensemble.k
    quality = [mean_ndcg(column, valid.frame, k, 0) for column in valid.frame.scores.T]
    assert log_result.stack.meta.bases_used()[0] == valid.frame.bases[int(np.argmax(quality))]


def test_nothing_to_learn_from_is_a_data_error(log_world, monkeypatch):
    def unlikable(self, *splits):
        return np.zeros(len(self.interactions), dtype=bool)

    dataset = load_dataset(load_config(log_world.config))
    monkeypatch.setattr(type(dataset), "in_split", unlikable)
    with pytest.raises(DataError, match="has no label of at least 4"):
        train(dataset)
