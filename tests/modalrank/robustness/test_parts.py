"""Slices of positives, found and missed."""

from __future__ import annotations

from dataclasses import replace
from math import log2

import numpy as np
import pytest

from ensembles import slices
from ensembles.slices import RankedPositives
from modalrank.forms import make_form
from modalrank.robustness.bench import make_bench
from modalrank.robustness.parts import AMONG_THEMSELVES, Part, parts_ndcg, parts_of

K = 5


@pytest.fixture(scope="module")
def form(log_result):
    return make_form(log_result.dataset, log_result.encodings, print)


@pytest.fixture(scope="module")
def parts(log_result, form):
    return parts_of(form, log_result.model, log_result.test, "test")


def by_hand(result, form, name) -> dict[int, tuple[int, float]]:
    """Return query to its positives in a slice and their NDCG, counted pair by pair."""
    test, model = result.test, result.model
    scores = result.test_scores["item_knn"]
    found = {}
    positives = form.positives("test")
    in_slice = {
        "items met": lambda user, item: model.history.met_by[item] > 0,
        "pattern behaviour+taste+title+profile": lambda user, item: (
            model.history.met_by[item] > 0
            and model.items["taste"].present[item]
            and model.items["title"].present[item]
            and model.users["profile"].present[user]
        ),
    }[name]
    ranked = RankedPositives.of(test.frame, scores)
    place = dict(zip(ranked.rows.tolist(), ranked.place.tolist(), strict=True))
    for number, user in enumerate(test.every_query.tolist()):
        liked = positives.items[positives.queries == user]
        mine = {int(item) for item in liked if in_slice(user, item)}
        if not mine:
            continue
        places = []
        if number < test.frame.n_queries:
            start, stop = test.frame.offsets[number : number + 2]
            hits = [(place[row], int(test.items[row])) for row in range(start, stop) if row in place]
            others = 0
            for spot, item in sorted(hits):
                if item in mine:
                    places.append(spot - others)
                else:
                    others += 1
        gained = sum(1 / log2(spot + 2) for spot in places if spot < K)
        found[user] = (len(mine), gained / sum(1 / log2(n + 2) for n in range(min(K, len(mine)))))
    return found


@pytest.fixture(scope="module")
def thinned(log_result):
    """The result with every third candidate missed."""
    test, rows = log_result.test, np.arange(len(log_result.test.items)) % 3 > 0
    cut = test.frame.take_rows(rows)
    fewer = type(test)(
        cut, test.queries, test.items[rows], test.total_relevant, test.every_query[len(test.queries) :]
    )
    scores = {"item_knn": log_result.test_scores["item_knn"][rows]}
    return replace(log_result, test=fewer, test_scores=scores)


@pytest.mark.parametrize("name", ["items met", "pattern behaviour+taste+title+profile"])
def test_ndcg_of_a_slice_is_that_counted_by_hand(name, thinned, form):
    expected = by_hand(thinned, form, name)
    part, test = parts_of(form, thinned.model, thinned.test, "test")[name], thinned.test
    [values] = parts_ndcg(test.frame, thinned.test_scores["item_knn"], [part], K)
    assert part.total.tolist() == [expected.get(q, (0, 0.0))[0] for q in test.every_query.tolist()]
    assert values.tolist() == pytest.approx(
        [expected.get(q, (0, np.nan))[1] for q in test.every_query.tolist()], nan_ok=True
    )
    query = np.repeat(np.arange(test.frame.n_queries), test.frame.group_sizes)
    found = np.bincount(query[part.rows], minlength=len(part.total))
    assert (part.total > found).any(), "some positive is missed, or the test shows little"


def test_slice_of_every_positive_is_the_whole_metric(log_result, form):
    test, scores = log_result.test, log_result.test_scores["item_knn"]
    positives = form.positives("test")
    total = np.array([(positives.queries == query).sum() for query in test.every_query])
    everything = Part(test.frame.labels > 0, total)
    [values] = parts_ndcg(test.frame, scores, [everything], K)
    np.testing.assert_allclose(values, test.ndcg(scores, K), atol=1e-12)


def test_query_that_no_source_reaches_counts_zero(log_result, form, parts):
    """The same slices of fewer lists: who has no candidates has positives, and finds none."""
    test = log_result.test
    cut = test.frame.take_queries(np.arange(1, test.frame.n_queries))
    fewer = type(test)(
        cut, test.queries[1:], test.items[test.frame.offsets[1] :], test.total_relevant[1:], test.queries[:1]
    )
    found = parts_of(form, log_result.model, fewer, "test")
    for name, part in found.items():
        assert part.total.sum() == parts[name].total.sum() and part.total[-1] == parts[name].total[0]
        scores = log_result.test_scores["item_knn"][test.frame.offsets[1] :]
        last = parts_ndcg(cut, scores, [part], K)[0][-1]
        assert last == 0.0 if part.total[-1] else np.isnan(last)


def test_judged_slices_are_those_of_their_rows(judged_result, monkeypatch):
    monkeypatch.setattr(slices, "FEWEST", 1)
    form = make_form(judged_result.dataset, judged_result.encodings, print)
    bench = make_bench(form, judged_result.model, judged_result.encodings, "test", None)
    assert set(bench.parts) == {"pattern words", "pattern words+clicks"}
    for part in bench.parts.values():
        scores = judged_result.test_scores["linear"]
        ranked = RankedPositives.of(bench.truth.frame, scores)
        plain = ranked.ndcg(part.rows, K)
        np.testing.assert_allclose(parts_ndcg(bench.truth.frame, scores, [part], K)[0], plain)


def test_new_items_among_themselves_are_ranked_as_if_there_were_no_others(log_result, form, monkeypatch):
    monkeypatch.setattr(slices, "FEWEST", 1)
    test, scores = log_result.test, log_result.test_scores["content_knn"]
    new = (test.items % 3 == 0) | (log_result.model.history.met_by[test.items] == 0)
    present = test.frame.present.copy()
    present[new, test.frame.modalities.index("behaviour")] = False
    test = replace(test, frame=replace(test.frame, present=present))
    parts = parts_of(form, log_result.model, test, "test")
    among_all, among_new = (parts[name] for name in (slices.NEVER_MET, AMONG_THEMSELVES))
    assert among_new.among.tolist() == new.tolist()
    values, own = parts_ndcg(test.frame, scores, [among_all, among_new], K)
    alone = test.frame.take_rows(new)
    cut = Part(among_new.rows[new], among_new.total)
    np.testing.assert_allclose(own, parts_ndcg(alone, scores[new], [cut], K)[0])
    known = among_new.total > 0
    assert known.any() and (own[known] >= values[known]).all() and (own[known] > values[known]).any()
