"""What a config asks of features and candidates."""

from __future__ import annotations

import numpy as np
import pytest

from modalrank.bundle import Bundle
from modalrank.config import load_config, parse_config
from modalrank.dataset import load_dataset
from modalrank.feature_settings import feature_settings
from modalrank.tracking import bundle_of
from modalrank.training import train
from tests.modalrank.form_parts import form_of

NAMED = "candidates.retrievers=[{kind: popularity}, {kind: item_knn, depth: 1}]"
ALONE = ["candidates.content=false", "candidates.per_source=3"]


def test_retriever_adds_as_many_candidates_as_its_own_depth(log_world):
    model = form_of(log_world, NAMED, *ALONE).model_before("valid")
    assert model.depths == [3, 1]
    (whole,) = model.generated(np.arange(5))
    assert 1 <= np.diff(whole.offsets).min() and np.diff(whole.offsets).max() <= 4


def test_depths_travel_with_the_model(log_world, tmp_path):
    base = "bases=[{name: b, family: linear, blocks: [taste]}]"
    config = load_config(log_world.config, [NAMED, *ALONE, base, "ensemble.ladder=[best_single]"])
    bundle_of(config, train(load_dataset(config))).save(tmp_path)
    assert Bundle.load(tmp_path).model.depths == [3, 1]


@pytest.mark.parametrize(("protocol", "depths"), [("full", {"recent_popularity": 100}), ("strict", {})])
def test_newest_split_is_told_by_many_of_its_popular_items(protocol, depths):
    assert feature_settings(parse_config({"protocol": protocol}, "here.yaml")).depths == depths


def test_data_with_times_has_one_depth_for_every_source():
    config = parse_config({"data": {"columns": {"time": "t"}}}, "here.yaml")
    assert feature_settings(config).depths == {}
