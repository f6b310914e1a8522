"""Guessed vectors in the whole line: chosen by the gate, honest about presence, and the same after saving."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from features.filling import METHODS, filled
from features.history import History
from features.retrievers import content_retrievers
from features.space import with_graph
from modalrank import filling_choice
from modalrank.bundle import Bundle
from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.encoding import fit_encoders
from modalrank.filling_choice import with_filling
from modalrank.forms import make_form
from modalrank.scoring import Fresh, refreshed, score_candidates
from modalrank.tracking import bundle_of
from modalrank.training import train
from tests.features.test_filling import EVERYTHING, NOBODY, N, mapped
from tests.modalrank.worlds import item_ids

QUICK = ("ensemble.bootstrap_draws=200", "labels.folds=2", "ensemble.ladder=[best_single, greedy]")


def form_of(world, *overrides):
    dataset = load_dataset(load_config(world.config, [*QUICK, *overrides]))
    return make_form(dataset, fit_encoders(dataset, str), str)


@pytest.mark.parametrize("protocol", ["strict", "full"])
def test_auto_keeps_none_where_nearly_nothing_is_missing(log_world, protocol) -> None:
    form = with_filling(form_of(log_world, "filling=auto", f"protocol={protocol}"))
    assert form.config.filling == "none"
    told = [trial for trial in form.trials if trial.kind == "filling"]
    assert tuple(trial.params["method"] for trial in told) == METHODS
    assert all(0 <= trial.ndcg <= 1 for trial in told)


@pytest.mark.parametrize(("gain", "chosen"), [(0.2, "ridge"), (0.0, "none"), (-0.2, "none")])
def test_gate_takes_a_filling_only_with_a_sure_gain(log_world, monkeypatch, gain, chosen) -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.1, 60)
    values = {"none": 0.5 + noise, "ridge": 0.5 + noise + gain + 0.1 * noise[::-1]}
    monkeypatch.setattr(filling_choice, "_judged", lambda form: values[form.config.filling])
    form = with_filling(form_of(log_world, "filling=[none,ridge]"))
    assert form.config.filling == chosen
    assert form.model_before("valid").settings.filling == chosen


def test_judged_lists_are_judged_too(judged_world) -> None:
    form = with_filling(form_of(judged_world, "filling=[none,ridge]"))
    assert form.config.filling == "none" and len(form.trials) == 2


@pytest.fixture(scope="module")
def guessing(log_world) -> Bundle:
    """A model whose items without a vector have the mean of their neighbours'."""
    config = load_config(log_world.config, [*QUICK, "filling=neighbour_mean"])
    return bundle_of(config, train(load_dataset(config), str))


def test_guess_is_used_and_is_not_presence(guessing) -> None:
    taste = guessing.model.items["taste"]
    assert taste.filled.sum() == 2, "two items have no vector"
    without = guessing.items.codes(["i05", "i15"])
    assert taste.filled[without].all() and not taste.own[without].any()
    rows = pl.DataFrame({"query": ["u01"] * 3, "item": ["i05", "i15", "i06"]})
    scored = pl.concat(list(score_candidates(guessing, rows)))
    used = dict(scored.select("item", "modalities_used").iter_rows())
    assert "taste" in used["i06"] and "taste" not in used["i05"]


def test_saved_model_guesses_for_new_items_as_the_one_in_memory(guessing, log_world, tmp_path) -> None:
    (tmp_path / "bundle").mkdir()
    guessing.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    for name, modality in guessing.model.items.items():
        np.testing.assert_array_equal(loaded.model.items[name].filled, modality.filled)
    new = (
        log_world.table("items.parquet")
        .head(2)
        .with_columns(
            item_id=pl.Series(["new-seen", "new-told"]),
            vector=pl.lit(None, pl.List(pl.Float32)),
            title=pl.Series(["", log_world.table("items.parquet")["title"].drop_nulls()[0]]),
        )
    )
    new.write_parquet(tmp_path / "items.parquet")
    scores = []
    for bundle in (guessing, loaded):
        fresh = Fresh(items=tmp_path / "items.parquet")
        grown = refreshed(bundle, fresh, ["u01"], ["new-told", item_ids()[0]])
        taste = grown.model.items["taste"]
        told = grown.items.codes(["new-told"])
        assert taste.filled[told].all() and not taste.own[told].any()
        rows = pl.DataFrame({"query": ["u01"] * 2, "item": ["new-told", item_ids()[0]]})
        scores.append(pl.concat(list(score_candidates(grown, rows))))
    assert scores[0].equals(scores[1]) and scores[0]["score"].is_finite().all()


def test_items_without_a_vector_are_ranked_by_the_guess() -> None:
    items, image = mapped()
    rng = np.random.default_rng(1)
    taste = rng.normal(size=(60, 4))
    liked = (taste @ image.T) > np.quantile(taste @ image.T, 0.85, axis=1)[:, None]
    shown = liked & items["image"].present & (rng.random(liked.shape) < 0.5)
    users, codes = np.nonzero(shown)
    past = History(users, codes, np.ones(len(users), np.float32), None, 60, N, 0.5)
    lacking = ~items["image"].present
    aucs = []
    for space in (items, filled(items, NOBODY, "ridge", sources=EVERYTHING)):
        image = with_graph(space["image"], past.popularity > 0, neighbours=50)
        near = content_retrievers({"image": image}, [], past)[0]
        scores = near.scores(past, np.arange(60))[:, lacking]
        truth = liked[:, lacking]
        aucs.append(np.nan if np.isnan(scores).all() else _auc(scores, truth))
    assert np.isnan(aucs[0]) and aucs[1] > 0.8


def _auc(scores: np.ndarray, truth: np.ndarray) -> float:
    better = [(s[t][:, None] > s[~t][None, :]).mean() for s, t in zip(scores, truth, strict=True) if t.any()]
    return float(np.mean(better))
