from __future__ import annotations

import numpy as np
import pytest

from ensembles.oof import fit_base
from modalrank.bases import FUSED, base_set, learned_bases
from modalrank.config import BaseConfig, load_config
from modalrank.dataset import load_dataset
from modalrank.encoding import fit_encoders
from modalrank.forms import make_form

AUTO = ["bases=auto"]


def started(world):
    config = load_config(world.config, AUTO)
    dataset = load_dataset(config)
    form = make_form(dataset, fit_encoders(dataset, str), str)
    return config, form.model_before("valid"), form.training().frame


@pytest.fixture(scope="module")
def log(log_world):
    return started(log_world)


@pytest.fixture(scope="module")
def judged(judged_world):
    return started(judged_world)


def test_auto_bases_of_a_log_are_one_a_modality_of_items_and_the_fused_ones(log):
    config, _, frame = log
    names = [base.name for base in learned_bases(config, frame)]
    assert set(names) == {"behaviour", "taste", "title", "content", *FUSED}
    assert "profile" in frame.blocks, "the user modality is a block, though no base is made of it alone"


def test_auto_bases_of_judged_lists_are_one_a_row_modality_and_the_fused_ones(judged):
    config, _, frame = judged
    assert {base.name for base in learned_bases(config, frame)} == {"words", "clicks", *FUSED}


def test_auto_single_bases_read_their_modality_and_fused_ones_everything(log):
    config, model, frame = log
    bases = base_set(config, model, frame)
    assert bases.blocks["taste"] == ("taste",)
    assert bases.blocks["behaviour"] == ("behaviour", "context")
    assert bases.blocks["fused_lightgbm"] == tuple(frame.blocks)


def test_retrievers_come_first_as_they_are(log):
    config, model, frame = log
    bases = base_set(config, model, frame)
    assert [base.name for base in bases.bases[:7]] == [
        "popularity",
        "item_knn",
        "taste_neighbours",
        "title_neighbours",
        "content_knn",
        "content_regression",
        "item_knn_content",
    ]
    knn = fit_base(bases.bases[2], frame, 0)
    column = frame.features[:, frame.feature_names.index("taste_neighbours.score")]
    np.testing.assert_array_equal(knn.score(frame), column.astype(np.float64))


def test_single_bases_need_their_modality_and_the_others_none(log):
    bases = base_set(*log)
    assert bases.modality == {
        "item_knn": "behaviour",
        "taste_neighbours": "taste",
        "title_neighbours": "title",
        "behaviour": "behaviour",
        "taste": "taste",
        "title": "title",
    }


def test_base_without_its_modality_has_no_opinion(log):
    _, _, frame = log
    (taste,) = (base for base in base_set(*log).bases if base.name == "taste")
    scores = fit_base(taste, frame, 0).score(frame)
    present = frame.present[:, frame.modalities.index("taste")]
    assert not present.all()
    np.testing.assert_array_equal(np.isnan(scores), ~present)


def test_bases_of_the_config_are_taken_in_their_order(log, log_world):
    _, model, frame = log
    config = load_config(log_world.config)
    names = [base.name for base in base_set(config, model, frame).bases]
    assert names[7:] == ["taste", "fused", "linear"]
    assert learned_bases(config, frame) == config.bases


def test_base_on_several_blocks_needs_none_of_them(log):
    config, model, frame = log
    several = BaseConfig(name="several", family="linear", blocks=["taste", "title"])
    one = BaseConfig(name="one", family="linear", blocks=["title", "context"])
    config = config.model_copy(update={"bases": [several, one]})
    modality = base_set(config, model, frame).modality
    assert modality["one"] == "title" and "several" not in modality


def test_ranker_of_a_base_has_the_settings_of_the_config(judged_world):
    overrides = ["seed=3", "bases=[{name: b, family: lightgbm, objective: rank_xendcg, params: {rounds: 4}}]"]
    config = load_config(judged_world.config, overrides)
    dataset = load_dataset(config)
    form = make_form(dataset, fit_encoders(dataset, str), str)
    (base,) = base_set(config, form.model_before("valid"), form.training().frame).bases
    ranker = base.make().ranker
    assert (ranker.seed, ranker.threads, ranker.objective, ranker.rounds) == (3, 1, "rank_xendcg", 4)
