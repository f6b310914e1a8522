from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.candidates import Candidates
from modalrank.config import LabelConfig, load_config
from modalrank.lists import whole
from modalrank.negatives import Negatives, choices, hardness_of, pick_negatives
from tests.modalrank.form_parts import form_of
from tests.rankers.planted import planted_frame, with_labels


@given(st.data())
def test_keep_every_positive_as_many_negatives_as_asked_and_the_hardest_first(data):
    labels, offsets = [], [0]
    for _ in range(data.draw(st.integers(1, 5))):
        query = data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=8))
        labels += query
        offsets.append(len(labels))
    relevance = np.array(labels, dtype=np.float32)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    hardness = rng.permutation(len(labels)).astype(np.float32)
    asked = Negatives(data.draw(st.integers(1, 5)), data.draw(st.sampled_from([0.0, 0.4, 1.0])))
    keep = asked.keep(np.array(offsets), relevance, hardness, rng)
    for start, stop in pairwise(offsets):
        here, kept = relevance[start:stop] > 0, keep[start:stop]
        if not here.any():
            assert not kept.any()
            continue
        assert kept[here].all()
        assert kept[~here].sum() == min(asked.number, (~here).sum())
        hardest = np.argsort(-hardness[start:stop][~here])[: round(asked.hard_share * asked.number)]
        assert kept[~here][hardest].all()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_keep_the_rest_is_drawn_from_all_over_the_list(share):
    offsets, labels = np.array([0, 101]), np.zeros(101, dtype=np.float32)
    labels[50] = 1
    hardness = np.arange(101, dtype=np.float32)
    asked = Negatives(10, share)
    drawn = np.sum(
        [asked.keep(offsets, labels, hardness, np.random.default_rng(s)) for s in range(60)], axis=0
    )
    assert np.count_nonzero(drawn) > 80
    n_hard = int(share * 10)
    assert (drawn[101 - n_hard :] == 60).all()
    assert drawn[: 101 - n_hard].max() == 60, "the positive"
    assert np.sort(drawn[: 101 - n_hard])[-2] < 30


def test_keep_equally_hard_ones_are_drawn():
    offsets, labels = np.array([0, 30]), np.append(np.ones(1), np.zeros(29)).astype(np.float32)
    alike = np.ones(30, dtype=np.float32)
    drawn = [Negatives(5, 1.0).keep(offsets, labels, alike, np.random.default_rng(s)) for s in range(40)]
    assert np.count_nonzero(np.sum(drawn, axis=0)) > 25


def test_hardness_is_the_mean_rank_over_the_sources():
    scores = np.array([[3, np.nan], [2, 9], [1, np.nan], [5, 5]], dtype=np.float32)
    hardness = hardness_of(Candidates(np.array([0, 0, 0, 1]), np.arange(4), scores))
    np.testing.assert_allclose(hardness, [1 / 2, (2 / 3 + 1) / 2, 1 / 6, 1])


def test_choices_are_all_combinations():
    assert choices(LabelConfig()) == [Negatives(40, 0.0)]
    found = choices(LabelConfig(negatives=[10, 20], hard_negatives=[0, 0.5]))
    assert found == [Negatives(10, 0), Negatives(10, 0.5), Negatives(20, 0), Negatives(20, 0.5)]


def test_pick_takes_the_training_queries_from_which_the_truth_is_learned(log_world):
    config = load_config(log_world.config)
    good = planted_frame(60, 20, seed=1)
    # Labels that follow the signal the wrong way round teach the opposite of the truth.
    bad = with_labels(good, 3 - good.labels)
    given_ = [Negatives(5), Negatives(5, 1.0)]
    judge = whole(planted_frame(30, 20, seed=2))
    picked, trials = pick_negatives(given_, [bad, good], judge, config)
    assert picked == Negatives(5, 1.0)
    assert [trial.params["hard_negatives"] for trial in trials] == [0.0, 1.0]
    assert trials[1].ndcg > trials[0].ndcg + 0.3


@pytest.mark.parametrize("protocol", ["strict", "full"])
def test_training_with_a_grid_keeps_the_picked_negatives_and_tells_the_trials(protocol, log_world):
    grid = ["labels.negatives=[3, 6]", "labels.hard_negatives=[0, 1]"]
    form = form_of(log_world, f"protocol={protocol}", *grid)
    frame = form.training().frame
    trials = [trial for trial in form.trials if trial.kind == "negatives"]
    assert len(trials) == 4
    best = max(trials, key=lambda trial: trial.ndcg)
    positives = np.add.reduceat(frame.labels > 0, frame.offsets[:-1])
    assert (frame.group_sizes - positives).max() == best.params["negatives"]


def test_training_all_hard_negatives_are_those_that_retrievers_rank_best(log_world):
    form = form_of(log_world, "protocol=strict", "labels.negatives=4", "labels.hard_negatives=1")
    training = form.training()
    ranks = [n for n, name in enumerate(training.frame.feature_names) if name.endswith(".rank")]
    drawn = form_of(log_world, "protocol=strict", "labels.negatives=4").training().frame
    mean = [np.nan_to_num(f.features[f.labels == 0][:, ranks]).mean() for f in (training.frame, drawn)]
    assert mean[0] > mean[1] + 0.1


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"negatives": 0}, "labels.negatives"),
        ({"negatives": []}, "is empty"),
        ({"hard_negatives": [0.5, 1.5]}, "labels.hard_negatives"),
    ],
)
def test_config_bad_negatives_are_refused(setting, problem, own_log, cli):
    own_log.configure(labels=setting)
    code, _, err = cli("train", own_log.config)
    assert code == 3
    assert problem in err


def test_sequences_do_not_change_with_the_negatives(log_world):
    form = form_of(log_world, "protocol=strict")
    settings = replace(form.feature_model(form.train, form.items).settings, sequence=4)
    model = replace(form.feature_model(form.train, form.items), settings=settings)
    (candidates,) = model.generated(np.arange(10))
    frame = model.frame(candidates)
    kept = frame.take_rows(frame.items % 2 == 0)
    users = kept.queries[kept.offsets[:-1]]
    np.testing.assert_array_equal(kept.sequences.recent, form.train.newest(4)[users])
