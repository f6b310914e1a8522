"""Curves of rankers whose losses are known, the words about them, and what is kept in the run."""

from __future__ import annotations

import json
from dataclasses import replace

import mlflow
import numpy as np
import polars as pl
import pytest

from ensembles import make_meta
from features.errors import DataError
from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.forms import make_form
from modalrank.robustness import Plan, References, make_bench, measure, references_of, verdicts, worst_slices
from modalrank.robustness.contestants import BEHAVIOUR_ONLY, BEST, FUSION, Contestants
from modalrank.robustness.curves import TOGETHER, Curve, Robustness
from modalrank.robustness.draws import Draws
from modalrank.robustness.plots import figures
from modalrank.store import URI_VARIABLE
from modalrank.training import train

PLAN = Plan(k=5, seeds=2, rates=(0.0, 0.5, 1.0), n_draws=300)


def alone(base: str):
    meta = make_meta("best_single", k=5)
    meta.bases_ = (base,)
    return meta


@pytest.fixture(scope="module")
def bench(log_result):
    form = make_form(log_result.dataset, log_result.encodings, print)
    return make_bench(form, log_result.model, log_result.encodings, "test", None)


@pytest.fixture(scope="module")
def found(log_result, bench) -> Robustness:
    """Behaviour, and a ranker that believes in taste alone."""
    roles = {BEHAVIOUR_ONLY: "item_knn", "popular": "popularity"}
    contest = Contestants(log_result.stack, {"believer": alone("taste_neighbours")}, roles)
    return measure(bench, contest, PLAN, lambda _: None)


def curve(found: Robustness, removed: str, name: str, mode: str = "random") -> list[float]:
    rows = found.curves.filter(removed=removed, name=name, mode=mode).sort("rate")
    assert rows["rate"].to_list() == list(PLAN.rates)
    return rows["ndcg"].to_list()


def test_there_is_a_row_for_everything_removed_and_everybody(found):
    removed = ["taste", "title", TOGETHER]
    assert found.curves["removed"].unique(maintain_order=True).to_list() == removed
    assert len(found.curves) == 3 * 2 * 3 * 3
    assert len(found.areas) == 3 * 2 * 3 and len(found.differences) == 3 * 2 * 3
    assert found.curves["ndcg"].is_between(found.curves["ndcg_low"], found.curves["ndcg_high"]).all()


def test_behaviour_loses_nothing_and_neither_does_who_reads_another_modality(found, log_result):
    k = 5
    expected = np.nanmean(log_result.test.ndcg(log_result.test_scores["item_knn"], k))
    for removed in ("taste", "title", TOGETHER):
        assert curve(found, removed, BEHAVIOUR_ONLY) == pytest.approx([expected] * 3, abs=1e-12)
    believer = curve(found, "title", "believer")
    # The mean over two seeds of the same values is rounded otherwise than that of one.
    assert believer == pytest.approx([believer[0]] * 3, abs=1e-12)


def test_who_believes_in_one_modality_falls_to_chance_without_it(found, log_result):
    values = curve(found, "taste", "believer")
    nothing = np.full_like(log_result.test_scores["item_knn"], np.nan)
    chance = np.nanmean(log_result.test.ndcg(nothing, 5))
    assert values[2] == pytest.approx(chance, abs=1e-12)
    assert values[0] > values[1] > values[2]
    assert curve(found, TOGETHER, "believer")[2] == pytest.approx(chance, abs=1e-12)
    assert curve(found, "taste", "believer", "unpopular")[2] == pytest.approx(chance, abs=1e-12)


def test_area_is_the_mean_height_by_the_trapezoidal_rule(found):
    for row in found.areas.to_dicts():
        start, middle, end = curve(found, row["removed"], row["name"], row["mode"])
        assert row["ndcg"] == pytest.approx((start + 2 * middle + end) / 4, abs=1e-9)
        assert row["ndcg_low"] <= row["ndcg"] <= row["ndcg_high"]


def test_differences_are_paired_to_behaviour_only(found):
    own = found.differences.filter(removed="taste", mode="random").sort("rate")
    gaps = np.subtract(curve(found, "taste", "believer"), curve(found, "taste", BEHAVIOUR_ONLY))
    assert own["ndcg"].to_list() == pytest.approx(gaps.tolist(), abs=1e-9)


def test_slices_have_n_intervals_and_the_loss_since_nothing_was_removed(found):
    keys = ("removed", "mode", "name", "slice")
    assert found.slices["n"].min() >= 30
    for _, own in found.slices.group_by(*keys):
        rows = own.sort("rate").to_dicts()
        for row in rows:
            assert row["loss"] == pytest.approx(rows[0]["ndcg"] - row["ndcg"], abs=1e-9)
        assert (rows[0]["loss"], rows[0]["loss_low"], rows[0]["loss_high"]) == (0.0, 0.0, 0.0)
        loss = found.half[Curve(rows[0]["removed"], rows[0]["mode"]), rows[0]["name"], rows[0]["slice"]]
        assert np.nanmean(loss) == pytest.approx(rows[1]["loss"], abs=1e-9)
    for _, own in found.slices.group_by("removed", "mode", "name", "rate"):
        assert own.filter(pl.col("worst"))["ndcg"].unique().to_list() == [own["ndcg"].min()]
    assert worst_slices(found).filter(name="believer")["ndcg"].item() == (
        found.slices.filter(name="believer")["ndcg"].min()
    )


def test_same_plan_same_result_and_what_seeds_share_is_measured_once(log_result, bench):
    contest = Contestants(log_result.stack, {"believer": alone("taste_neighbours")}, {})
    lists = []

    def counted(gone):
        lists.append(gone)
        yield from bench.frames(gone)

    counting = replace(bench, frames=counted)
    one = measure(counting, contest, PLAN, lambda _: None)
    assert len(lists) == 1 + 3 * 2 * (2 + 1), "at 100% both seeds remove the same"
    two = measure(bench, contest, PLAN, lambda _: None)
    assert one.curves.equals(two.curves) and one.areas.equals(two.areas) and one.slices.equals(two.slices)
    assert one.differences.is_empty()


def rows_of(*gaps: tuple[str, float, float, float, float]) -> pl.DataFrame:
    fields = ("removed", "rate", "ndcg", "ndcg_low", "ndcg_high")
    recall = {"recall": -0.02, "recall_low": -0.03, "recall_high": -0.01}
    return pl.DataFrame(
        [dict(zip(fields, gap, strict=True)) | recall | {"mode": "random", "name": "e"} for gap in gaps]
    )


def result_with(differences: pl.DataFrame, roles) -> Robustness:
    empty = pl.DataFrame()
    return Robustness(PLAN, roles, ("e",), empty, differences, empty, empty, {}, Draws(2, 1, 10, 0), 2, 0.0)


def test_verdict_names_where_the_ensemble_is_below():
    gaps = rows_of(("a", 0.1, -0.01, -0.03, 0.01), ("a", 0.2, -0.05, -0.07, -0.03), ("b", 0.9, 0.1, 0.0, 0.2))
    found, of_recall = verdicts(result_with(gaps, {BEHAVIOUR_ONLY: "als"}))
    assert found.line == (
        f"e: below behaviour only (als) in NDCG@{PLAN.k} at 1 of 3: "
        "most at a random 20% (-0.0500 [-0.0700, -0.0300])"
    )
    assert (found.metric, of_recall.metric) == ("ndcg", "recall")
    place = "(-0.0200 [-0.0300, -0.0100])"
    assert of_recall.line == (
        f"e: below behaviour only (als) in recall@{PLAN.k} at 3 of 3: "
        f"most at a random 10% {place}, a random 20% {place}, b random 90% {place}"
    )
    fine, _ = verdicts(result_with(gaps.filter(pl.col("ndcg_high") > 0), {BEHAVIOUR_ONLY: "als"}))
    assert fine.line == f"e: never significantly below behaviour only (als) in NDCG@{PLAN.k}"
    for nobody in verdicts(result_with(gaps, {})):
        assert "no base reads behaviour only" in nobody.line


def test_believer_without_its_modality_is_called_below(found):
    for verdict in verdicts(found):
        assert set(verdict.below["removed"]) <= {"taste", TOGETHER}
        assert 1.0 in verdict.below["rate"].to_list()


def test_references_play_their_parts(log_result, judged_result):
    parts = references_of(log_result)
    best = next(s.name for s in log_result.standings if s.role != "meta")
    assert parts.roles[BEST] == best and parts.roles[FUSION] == "fused"
    ndcg = {s.name: s.valid.mean for s in log_result.standings}
    assert parts.roles[BEHAVIOUR_ONLY] == max(("item_knn", "popularity"), key=ndcg.__getitem__)
    judged = references_of(judged_result)
    assert set(judged.roles) == {BEST}, "no early fusion, and no behaviour in judged lists"


def test_references_saved_score_the_same_bits(log_result, bench, tmp_path):
    parts = references_of(log_result)
    parts.save(tmp_path)
    loaded = References.load(tmp_path)
    (frame, *_) = bench.frames({})
    one, two = (each.beside(log_result.stack).scores(frame) for each in (parts, loaded))
    assert one.keys() == two.keys() == {"ensemble", *parts.roles}
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    np.testing.assert_array_equal(one["ensemble"], log_result.stack.score(frame))


def test_version_without_references_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"without bases to compare it with.*train it again"):
        References.load(tmp_path / "references")


def test_missing_early_fusion_is_fitted_as_the_run_would_have(own_log, log_result, bench):
    """The fused base of the run is the very ranker that is fitted where a config has none."""
    own_log.configure(bases=[{"name": "linear", "family": "linear"}, {"name": "fused", "family": "lightgbm"}])
    config = load_config(own_log.config)
    whole = train(load_dataset(config))
    form = make_form(whole.dataset, whole.encodings, print)
    parts = References({}, {}, {BEST: "x"}).with_fusion(config, form.training().frame)
    assert list(parts.roles) == [FUSION, BEST]
    (frame, *_) = bench.frames({})
    fitted = parts.bases[parts.roles[FUSION]].score(frame)
    np.testing.assert_array_equal(fitted, whole.stack.bases["fused"].score(frame))


def test_figures_are_one_a_modality_and_one_for_all(found):
    made = figures(found)
    assert list(made) == ["robustness_taste", "robustness_title", "robustness_all_content"]
    grid = made["robustness_taste"].axes
    assert len(grid) == 4
    for axes, metric, mode in zip(
        grid, ["ndcg"] * 2 + ["recall"] * 2, ["random", "unpopular"] * 2, strict=True
    ):
        drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
        for name in ("believer", BEHAVIOUR_ONLY, "popular"):
            rows = found.curves.filter(removed="taste", mode=mode, name=name).sort("rate")
            np.testing.assert_allclose(drawn[name], rows[metric].to_numpy())


def test_command_shows_the_curves_and_keeps_them_in_the_run(cli, registered, monkeypatch):
    monkeypatch.setenv(URI_VARIABLE, registered.uri)
    folder = registered.config.data.root
    config = f"{folder}/config.yaml"
    code, out, _ = cli("evaluate", config, "--robustness", "--seeds", "1", "--queries", "20", "--json")
    assert code == 0
    shown = json.loads(out)
    run = registered.record.run_id
    assert shown["run"] == run and shown["queries"] == 20
    assert {row["rate"] for row in shown["curves"]} == {round(n / 10, 1) for n in range(10)}
    assert {row["name"] for row in shown["curves"]} == {"ensemble", FUSION, BEST, BEHAVIOUR_ONLY}
    client = mlflow.MlflowClient(registered.uri, registered.uri)
    kept = {file.path.rpartition("/")[2] for file in client.list_artifacts(run, "robustness/test")}
    tables = {f"{name}.csv" for name in ("curves", "differences", "areas", "slices")}
    plots = {f"robustness_{name}.png" for name in ("taste", "title", "all_content")}
    assert kept == tables | plots | {"robustness.json"}
    metrics = client.get_run(run).data.metrics
    area = next(row for row in shown["areas"] if row["removed"] == "taste" and row["name"] == "ensemble")
    key = f"robustness.test.taste.{area['mode']}.ensemble.area_ndcg_at_5"
    assert metrics[key] == pytest.approx(area["ndcg"])
    places = "robustness.test.ensemble.places_below_behaviour_only"
    for verdict in shown["verdicts"]:
        assert metrics[f"{places}_{verdict['metric']}_at_5"] == len(verdict["below"])


def test_command_of_judged_lists_removes_at_random_only(cli, registered_judged, monkeypatch):
    monkeypatch.setenv(URI_VARIABLE, registered_judged.uri)
    config = f"{registered_judged.config.data.root}/config.yaml"
    code, out, _ = cli("evaluate", config, "--robustness", "--seeds", "2")
    assert code == 0
    assert "at random" in out and "unpopular" not in out
    assert "early fusion is early_fusion" in out
    assert "there is nothing to fall below" in out
