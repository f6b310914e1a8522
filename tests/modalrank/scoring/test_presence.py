"""Presence is a contract: from the encoder to the scored file no modality is ever a silent zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ensembles import make_meta, normalised_features
from features.errors import DataError
from features.retrievers import BEHAVIOUR
from modalrank.encoding import encode_rows
from modalrank.scoring import Fresh
from tests.modalrank.scoring.conftest import saved, scores_in
from tests.modalrank.worlds import item_ids, user_ids

NOTHING = "nothing known"


@pytest.fixture(scope="module")
def bundle(log_result, log_bundle):
    """All bases of the run under rank fusion, which reads every one of them."""
    meta = make_meta("rank_fusion", k=5).fit(log_result.test.frame)
    stack = replace(log_result.stack, meta=meta)
    return replace(log_bundle, stack=stack, blocks=dict(log_result.blocks))


@pytest.fixture(scope="module")
def model(bundle, tmp_path_factory):
    return saved(bundle, tmp_path_factory.mktemp("presence") / "bundle", "presence")


@pytest.fixture(scope="module")
def frame(bundle):
    users, items = len(bundle.queries), len(bundle.items)
    pairs = np.repeat(np.arange(users), items), np.tile(np.arange(items), users)
    return next(bundle.model.frame(candidates) for candidates in bundle.model.given(*pairs))


@pytest.fixture(scope="module")
def has(log_world, bundle) -> dict[str, set[str]]:
    """Modality to the items, or users, that have it, read from the raw tables."""
    items, users = log_world.table("items.parquet"), log_world.table("users.parquet")
    met = bundle.items.ids[bundle.model.history.met_by > 0]
    return {
        "behaviour": set(met.tolist()),
        "taste": set(items.filter(pl.col("vector").is_not_null())["item_id"]),
        "title": set(items.filter(pl.col("title").is_not_null())["item_id"]),
        "profile": set(users.filter(pl.col("age").is_not_null())["user_id"]),
    }


def test_bits_are_the_same_at_every_station(bundle, frame, has, log_world):
    rows = log_world.table("items.parquet").sort("item_id").rename({"item_id": "id"})
    rows = rows.with_row_index("row", 1)
    encoded = encode_rows(bundle.config, bundle.encoders, "items", rows, log_world.folder / "items.parquet")
    scored = bundle.stack.base_scores(frame)
    features = dict(zip(frame.feature_names, frame.features.T, strict=True))
    for column, name in enumerate(frame.modalities):
        index, codes = (bundle.queries, frame.queries) if name == "profile" else (bundle.items, frame.items)
        expected = np.isin(index.ids[codes], sorted(has[name]))
        assert 0 < expected.mean() < 1
        np.testing.assert_array_equal(frame.present[:, column], expected)
        np.testing.assert_array_equal(scored.present[:, column], expected)
        values, names = normalised_features(scored)
        np.testing.assert_array_equal(values[:, names.index(f"present:{name}")], expected)
        if name in encoded:
            np.testing.assert_array_equal(encoded[name].present[frame.items], expected)
            np.testing.assert_array_equal(features[f"{name}.present"], expected)
            assert np.isnan(features[f"{name}.component_0"][~expected]).all()
            assert np.isfinite(features[f"{name}.component_0"][expected]).all()


def test_base_of_a_modality_has_no_opinion_where_it_is_absent_and_views_pass_it_over(bundle, frame):
    scored = bundle.stack.base_scores(frame)
    needed = {base: name for base, name in scored.base_modality.items() if base in scored.bases}
    assert {BEHAVIOUR, "taste", "title"} <= set(needed.values())
    for base, name in needed.items():
        column = scored.bases.index(base)
        absent = ~frame.present[:, frame.modalities.index(name)]
        assert absent.any() and np.isnan(scored.scores[absent, column]).all(), base
        assert np.isfinite(scored.scores[~absent, column]).any(), base
        for view in (scored.views.z, scored.views.unit, scored.views.rank):
            assert np.isnan(view[absent, column]).all(), base
        fewer = scored.take_rows(~np.isnan(scored.scores[:, column]))
        opinion = ~np.isnan(scored.scores[:, column])
        np.testing.assert_array_equal(fewer.views.rank[:, column], scored.views.rank[opinion, column])
        np.testing.assert_allclose(fewer.views.z[:, column], scored.views.z[opinion, column], atol=1e-12)


def test_file_tells_what_was_used_and_the_fallback_down_to_nothing(job, model, has, tmp_path):
    items = tmp_path / "new.parquet"
    columns = {"item_id": [NOTHING], "vector": [None], "title": [None]}
    schema = {"vector": pl.List(pl.Float32), "title": pl.String}
    pl.DataFrame(columns, schema_overrides=schema).write_parquet(items)
    users = [user_ids()[3], user_ids()[-1], "stranger"]
    rows = [(user, item) for user in users for item in (*item_ids(), NOTHING)]
    pairs = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    table = scores_in(job(pairs, model=model, fresh=Fresh(items=items)).out)
    assert len(table) == len(pairs) and table["score"].is_finite().all()
    order = ("behaviour", "taste", "title", "profile")
    for user, item, used, fallback in table.select("query", "item", "modalities_used", "fallback").rows():
        there = {name for name in order if (user if name == "profile" else item) in has[name]}
        assert used == ("+".join(name for name in order if name in there) or "none")
        lacking = ["new_user"] if user == "stranger" else []
        lacking += ["new_item" if n == "behaviour" else f"no_{n}" for n in order if n not in there]
        assert fallback == ("+".join(lacking) or "none")
    bare = table.filter((pl.col("query") == "stranger") & (pl.col("item") == NOTHING))
    assert bare["modalities_used"].item() == "none"
    assert bare["fallback"].item() == "new_user+new_item+no_taste+no_title+no_profile"


@pytest.mark.parametrize(
    ("vector", "refused"),
    [(None, None), ([], None), ([1.0, 2.0], "got vectors of length 2"), ([1.0] * 5, "length 5")],
)
def test_vector_of_another_width_is_refused_and_a_missing_one_is_not(vector, refused, job, model, tmp_path):
    items = tmp_path / "new.parquet"
    columns = {"item_id": [NOTHING], "vector": [vector], "title": ["harbour tide"]}
    pl.DataFrame(columns, schema_overrides={"vector": pl.List(pl.Float32)}).write_parquet(items)
    pairs = pl.DataFrame({"user_id": ["u03", "u03"], "item_id": [NOTHING, "i01"]})
    if refused is None:
        table = scores_in(job(pairs, model=model, fresh=Fresh(items=items)).out)
        assert "no_taste" in table.filter(pl.col("item") == NOTHING)["fallback"].item()
        return
    with pytest.raises(DataError, match=refused) as told:
        job(pairs, model=model, fresh=Fresh(items=items))
    assert (told.value.exit_code, told.value.column, told.value.row) == (3, "vector", 1)
    assert not (tmp_path / "out").exists()
