from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from features.encoders.image import describe_image
from features.errors import DataError
from modalrank.config import load_config
from modalrank.dataset import load_dataset
from modalrank.encoding import fit_encoders
from modalrank.media import MediaConfig, cache_folder, media_source


@pytest.fixture
def pictures(own_log, tmp_path):
    """The log with a picture an item, of which four of the forty are not there."""
    items = own_log.table("items.parquet")
    names = [f"{number}.png" for number in range(len(items))]
    for number, name in enumerate(names[4:]):
        Image.new("RGB", (16, 16), (6 * number, 0, 200)).save(own_log.folder / name)
    own_log.rewrite("items.parquet", items.with_columns(pl.Series("photo", names)))
    photo = {"columns": ["photo"], "encoder": "image", "params": {"dim": 3}}
    own_log.configure(modalities={"photo": photo}, media={"cache": str(tmp_path / "cache"), "max_bad": 0.1})
    return own_log


def test_bad_files_are_listed_and_the_second_run_describes_nothing(pictures, monkeypatch):
    described = []
    monkeypatch.setattr(
        "features.encoders.image.describe_image", lambda image: described.append(1) or describe_image(image)
    )
    dataset = load_dataset(load_config(pictures.config))
    first = fit_encoders(dataset, str)
    assert [bad.path for bad in first.bad] == ["0.png", "1.png", "2.png", "3.png"]
    assert len(described) == 36
    second = fit_encoders(dataset, str)
    assert len(described) == 36
    assert second.items["photo"].vectors.tobytes() == first.items["photo"].vectors.tobytes()


def test_too_many_bad_files_name_table_column_and_option(pictures):
    dataset = load_dataset(load_config(pictures.config, ["media.max_bad=0.07"]))
    with pytest.raises(DataError, match="4 of 40 image files cannot be read, at most 3") as caught:
        fit_encoders(dataset, str)
    assert caught.value.file == str(pictures.folder / "items.parquet")
    assert caught.value.column == "photo"


def test_validate_warns_of_bad_files_and_fails_above_the_share(pictures, cli):
    code, out, _ = cli("validate", pictures.config)
    assert code == 0
    assert "WARN  encoding of photo  4 rows of 40 files" in out
    code, out, _ = cli("validate", pictures.config, "--max-bad-media", "0.05")
    assert code == 3
    assert "FAIL  encoding of photo  4 rows" in out


def test_train_with_too_many_bad_files_ends_with_3_and_writes_nothing(pictures, cli):
    code, _, err = cli("train", pictures.config, "--max-bad-media", "0")
    assert code == 3
    assert "--max-bad-media" in err
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("cache", "variable", "expected"),
    [
        ("off", "/v", None),
        ("here", "/v", Path("here")),
        ("auto", "/v", Path("/v")),
        ("auto", "off", None),
        ("auto", None, Path("/xdg/modalrank")),
    ],
)
def test_cache_folder_config_goes_before_the_environment(monkeypatch, cache, variable, expected):
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.delenv("MODALRANK_CACHE")
    if variable:
        monkeypatch.setenv("MODALRANK_CACHE", variable)
    assert cache_folder(MediaConfig(cache=cache)) == expected


def test_progress_is_a_bar_that_is_not_told_more_often_than_every_two_seconds(monkeypatch, tmp_path):
    now = [0.0]
    monkeypatch.setattr("modalrank.media.time.monotonic", lambda: now[0])
    said: list[str] = []
    source = media_source(MediaConfig(), tmp_path, "photo", said.append)
    source.say("image", 0, 4000)
    now[0] = 2.5
    source.say("image", 1000, 4000)
    source.say("image", 1256, 4000)
    assert said == ["encode photo █████░░░░░░░░░░░░░░░ 1,000 of 4,000 new image contents"]
