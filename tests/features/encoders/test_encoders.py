"""The functions of the package itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from features.encoders import (
    ENCODERS,
    encoder_digest,
    encoder_parameters,
    load_encoder,
    make_encoder,
    save_encoder,
)
from features.encoders.numeric import NumericEncoder
from features.errors import ConfigError, DataError

MOODS = {"mood": ["dark", "light"]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "new" / "saved"
    save_encoder(NumericEncoder().fit(pl.DataFrame({"x": [1.0, 2.0, 4.0]}), tmp_path), folder)
    return folder


def test_make_encoder_every_kind_gives_its_class() -> None:
    plain = {"text", "tags", "category", "numeric", "vectors", "image", "audio", "video"}
    neural = {"neural_text", "neural_image", "neural_audio", "clip"}
    assert set(ENCODERS) == plain | neural | {"attributes"}
    for kind, encoder in ENCODERS.items():
        params = {} if kind in plain else {"model": "somewhere"}
        made = make_encoder(kind, params | {"attributes": MOODS} if kind == "attributes" else params)
        assert type(made) is encoder
        assert made.kind == kind


def test_make_encoder_unknown_kind_lists_the_kinds() -> None:
    with pytest.raises(ConfigError, match="'smell', expected one of text, tags, category"):
        make_encoder("smell", {})


def test_make_encoder_unknown_parameter_lists_the_parameters() -> None:
    with pytest.raises(ConfigError, match="text: got parameter 'width', expected some of columns, dim, max"):
        make_encoder("text", {"dim": 3, "width": 3})


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("text", "dim", 0),
        ("text", "dim", "64"),
        ("text", "dim", True),
        ("tags", "max_tags", 1.5),
        ("vectors", "dim", -1),
        ("image", "dim", 0),
        ("audio", "seconds", 0),
        ("audio", "log_mel", 1),
        ("video", "frames", 0),
        ("category", "most", 0),
        ("text", "characters", "some"),
        ("text", "hash_bits", 40),
        ("neural_text", "model", ""),
        ("neural_text", "model", 3),
        ("audio", "seconds", float("inf")),
        ("audio", "seconds", float("nan")),
        ("numeric", "columns", "price"),
        ("numeric", "columns", []),
        ("numeric", "columns", [1]),
    ],
)
def test_make_encoder_value_out_of_range_names_the_parameter(kind: str, name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{kind}: {name}: got"):
        make_encoder(kind, {name: value})


def test_encoder_parameters_lists_constructor_names() -> None:
    assert encoder_parameters("vectors") == ("columns", "standardize", "dim")


def test_save_encoder_folder_in_use_is_refused(saved: Path) -> None:
    with pytest.raises(FileExistsError):
        save_encoder(load_encoder(saved), saved)


def test_encoder_digest_any_changed_byte_or_name_changes_it(saved: Path) -> None:
    before = encoder_digest(saved)
    assert encoder_digest(saved) == before
    for path in list(saved.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert encoder_digest(saved) != before
        path.write_bytes(content)
    assert encoder_digest(saved) == before
    shutil.move(saved / "scale.npy", saved / "other.npy")
    assert encoder_digest(saved) != before


@pytest.mark.parametrize("change", [{"version": 99}, {"kind": "smell"}])
def test_load_encoder_other_kind_or_version_is_refused(saved: Path, change: dict[str, object]) -> None:
    path = saved / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=r"got an encoder .* expected one of text 1"):
        load_encoder(saved)


@pytest.mark.parametrize("name", ["encoder.json", "state.json", "scale.npy"])
def test_load_encoder_file_missing_or_broken_is_named(saved: Path, name: str) -> None:
    (saved / name).write_bytes(b"\x80")
    with pytest.raises(DataError, match=name):
        load_encoder(saved)
    (saved / name).unlink()
    with pytest.raises(DataError, match=name):
        load_encoder(saved)


def test_import_encoders_loads_no_heavy_library() -> None:
    code = "import sys, features.encoders; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {
        "sklearn",
        "skimage",
        "librosa",
        "PIL",
        "soundfile",
        "scipy",
        "av",
        "torch",
        "transformers",
    } & set(loaded.split())
