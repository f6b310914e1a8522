"""Queries that nobody knows take turns on a few codes, which nobody can tell from codes of their own."""

from __future__ import annotations

from functools import partial

import polars as pl
import pytest

from modalrank.scoring import Fresh, refreshed, score_candidates, score_users
from modalrank.scoring import job as module
from tests.modalrank.scoring.conftest import content, scores_in
from tests.modalrank.worlds import item_ids

# Between the known users u00 to u39 in the order of the names, and around them.
STRANGERS = ["a", "u05x", "u05y", "u20x", "u30x", "v1", "v2", "v3"]
USERS = ["u05", "u20", "u31", *STRANGERS]


@pytest.fixture
def few_seats(monkeypatch):
    monkeypatch.setattr("modalrank.scoring.strangers.SEATS", module.SEATS[:3])
    monkeypatch.setattr(module, "SEATS", module.SEATS[:3])


@pytest.fixture
def sizes(monkeypatch):
    """The number of queries that each bundle that scores knows."""
    found = set()

    def noted(real, bundle, *given, **options):
        found.add(len(bundle.queries))
        return real(bundle, *given, **options)

    for name in ("score_chunk", "score_lists_of"):
        monkeypatch.setattr(module, name, partial(noted, getattr(module, name)))
    return found


@pytest.mark.parametrize("chunk_rows", [None, 1])
def test_strangers_on_few_seats_get_the_bits_of_codes_of_their_own(
    chunk_rows, job, log_model, log_bundle, few_seats, sizes
):
    pairs = pl.DataFrame({"user_id": USERS}).join(pl.DataFrame({"item_id": item_ids()[:9]}), how="cross")
    found = scores_in(job(pairs, model=log_model, chunk_rows=chunk_rows).out).drop("model_version")
    own = refreshed(log_bundle, Fresh(), USERS, [])
    direct = score_candidates(own, pairs.rename({"user_id": "query", "item_id": "item"}))
    assert found.equals(pl.concat(list(direct)))
    assert found["query"].unique(maintain_order=True).to_list() == sorted(USERS)
    assert sizes == {len(log_bundle.queries) + 3}
    assert set(found.filter(pl.col("query").is_in(STRANGERS))["fallback"]) & {"none"} == set()


def test_lists_of_strangers_are_those_of_codes_of_their_own_in_any_chunks(
    job, log_model, log_bundle, few_seats, sizes
):
    users = pl.DataFrame({"user_id": USERS[::-1]})
    expected = pl.concat(list(score_users(refreshed(log_bundle, Fresh(), USERS, []), USERS, 6)))
    outputs = []
    for name, chunk_rows in (("whole", None), ("chunked", 2)):
        result = job(users, name, log_model, "users", top_k=6, chunk_rows=chunk_rows)
        assert scores_in(result.out).drop("model_version").equals(expected.sort("query", "rank"))
        outputs.append(content(result.out))
    assert outputs[0] == outputs[1]
    assert sizes == {len(log_bundle.queries) + 3}
