from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.encoders import Source, VectorCache, load_encoder, make_encoder, save_encoder
from features.errors import ConfigError
from tests.features.encoders.conftest import HAS_TORCH
from tests.features.language.server import Served, said, serve

SCHEMA = {"mood": ["dark", "light"], "pace": ["slow", "fast"]}
TABLE = pl.DataFrame(
    {"title": ["Night murder", "Sunny race", "Grave", None], "plot": ["x", None, "slow", None]}
)


def reader(body):
    item = body["messages"][0]["content"].partition("Item:")[2].lower()
    if "grave" in item:
        return said('{"mood": "grey"}')
    dark = "murder" in item
    return said(
        json.dumps({"mood": "dark" if dark else "light", "pace": "fast" if "race" in item else "slow"})
    )


@pytest.fixture
def server():
    with serve(reader) as served:
        yield served


def encoder_of(server: Served, **params):
    given = {"attributes": SCHEMA, "model": "tiny", "endpoint": server.url, "retries": 0}
    return make_encoder("attributes", given | params)


def test_encode_words_are_tags_and_an_invalid_answer_is_missing(server, tmp_path):
    source = Source(tmp_path, VectorCache(tmp_path / "cache"))
    encoder = encoder_of(server).fit(TABLE, source)
    assert encoder.terms_.terms == ("mood=dark", "mood=light", "pace=fast", "pace=slow")
    got = encoder.encode(TABLE, source)
    assert got.present.tolist() == [True, True, False, False]
    np.testing.assert_allclose(got.vectors[0] @ got.vectors[1], 0, atol=1e-6)
    assert {bad.reason for bad in source.bad} == {"the model gave no valid answer"}


def test_second_run_asks_only_what_had_no_valid_answer(server, tmp_path):
    source = Source(tmp_path, VectorCache(tmp_path / "cache"))
    first = encoder_of(server).fit(TABLE, source).encode(TABLE, source)
    n_calls = len(server.calls)
    second = encoder_of(server).fit(TABLE[:2], source).encode(TABLE[:2], source)
    assert len(server.calls) == n_calls
    assert second.present.all() and first.present[:2].all()


def test_budget_leaves_the_rest_missing(server, tmp_path):
    source = Source(tmp_path, VectorCache(tmp_path / "cache"))
    encoder_of(server, calls=1).fit(TABLE, source)
    assert len(server.calls) == 1
    assert sum("1 calls" in bad.reason for bad in source.bad) == 2


def test_loaded_encoder_encodes_the_same_bits(server, tmp_path):
    source = Source(tmp_path, VectorCache(tmp_path / "cache"))
    encoder = encoder_of(server).fit(TABLE, source)
    save_encoder(encoder, tmp_path / "saved")
    got = load_encoder(tmp_path / "saved").encode(TABLE, source)
    assert got.vectors.tobytes() == encoder.encode(TABLE, source).vectors.tobytes()


def test_without_an_endpoint_nothing_goes_over_the_network(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("features.encoders.pretrained.require_libraries", lambda kind: None)
    with pytest.raises(ConfigError, match="there is no folder"):
        make_encoder("attributes", {"attributes": SCHEMA, "model": "nowhere"}).fit(TABLE, tmp_path)


@pytest.mark.parametrize("attributes", [{}, {"mood": []}, {"mood": ["dark"]}, {"mood": "dark"}, ["mood"]])
def test_init_attributes_that_leave_no_choice_are_refused(attributes):
    with pytest.raises(ConfigError, match="attributes: got"):
        make_encoder("attributes", {"attributes": attributes, "model": "m"})


@pytest.mark.skipif(not HAS_TORCH, reason="needs torch: pip install 'modalrank[neural]'")
def test_local_model_keeps_to_the_words_and_judges(models: Path, tmp_path: Path):
    from features.language import LocalModel

    schema = {"colour": ["red", "blue"]}
    encoder = make_encoder("attributes", {"attributes": schema, "model": "gpt2"}).fit(TABLE[:3], tmp_path)
    assert encoder.encode(TABLE, tmp_path).present.tolist() == [True, True, True, False]
    assert set(encoder.terms_.terms) <= {"colour=red", "colour=blue"}
    model = LocalModel("gpt2")
    share = model.yes("word1 of a picture")
    assert 0 < share < 1
    assert model.yes("word1 of a picture") == share
    assert model.yes("word1 of a picture " * 20) != share
    assert model.choose("word1", schema)["colour"] in schema["colour"]
