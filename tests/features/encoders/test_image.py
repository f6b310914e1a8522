from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from features.encoders.image import ImageEncoder, describe_image, read_image
from features.errors import DataError

RED, BLUE = (210, 30, 30), (30, 30, 210)


def paint(path: Path, colour: tuple[int, int, int], seed: int, size: tuple[int, int] = (40, 60)) -> str:
    noise = np.random.default_rng(seed).integers(-25, 26, size=(size[1], size[0], 3))
    Image.fromarray((np.array(colour) + noise).astype(np.uint8)).save(path)
    return path.name


def names(*values: str | None) -> pl.DataFrame:
    return pl.DataFrame({"poster": values}, schema={"poster": pl.String})


@pytest.fixture
def colours(tmp_path: Path) -> pl.DataFrame:
    red = [paint(tmp_path / f"red{i}.png", RED, i) for i in range(6)]
    return names(*red, *(paint(tmp_path / f"blue{i}.png", BLUE, i) for i in range(6)))


def test_encode_red_and_blue_images_are_apart(colours: pl.DataFrame, tmp_path: Path) -> None:
    encoder = ImageEncoder(dim=4).fit(colours, tmp_path)
    unseen = names(*(paint(tmp_path / f"{i}.jpg", c, 90 + i) for i, c in enumerate([RED, RED, BLUE])))
    red, again, blue = encoder.encode(unseen, tmp_path).vectors
    assert np.linalg.norm(red - again) < 0.5 * np.linalg.norm(red - blue)


def test_describe_image_stripes_of_two_directions_are_apart() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[::8], stripes[1::8], stripes[2::8] = 255, 255, 255
    level = describe_image(Image.fromarray(stripes))
    upright = describe_image(Image.fromarray(np.ascontiguousarray(stripes.swapaxes(0, 1))))
    assert level.shape == (456,)
    assert np.linalg.norm(level[:288] - upright[:288]) > 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_read_image_any_mode_becomes_small_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.tiff"
    Image.new("RGB", (300, 5), "red").convert(mode).save(path)
    image = read_image(path)
    assert image.mode == "RGB"
    assert image.size == (64, 64)


def test_read_image_transparent_parts_are_white(tmp_path: Path) -> None:
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert np.asarray(read_image(tmp_path / "clear.png")).min() == 255


def test_encode_unreadable_files_are_absent_with_one_warning(
    colours: pl.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = ImageEncoder(dim=4).fit(colours, tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    whole = (tmp_path / "red0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    table = names("red0.png", None, "gone.jpg", "broken.jpg", "cut.png", "gone.jpg", "", "x" * 400)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        got = encoder.encode(table, tmp_path)
    assert got.present.tolist() == [True] + [False] * 7
    assert not got.vectors[1:].any()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "4 of 5 image files" in caplog.text
    assert "gone.jpg (no such file)" in caplog.text


def test_unreadable_lists_rows_paths_and_reasons(colours: pl.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    table = names("red0.png", None, "gone.jpg", "broken.jpg", "gone.jpg")
    found = ImageEncoder().unreadable(table, tmp_path)
    assert [(row, path) for row, path, _ in found] == [(3, "gone.jpg"), (4, "broken.jpg"), (5, "gone.jpg")]
    assert found[0].reason == "no such file"
    assert "cannot identify" in found[1].reason
    assert ImageEncoder().unreadable(colours, tmp_path) == []


def test_encode_repeated_file_gives_equal_rows(colours: pl.DataFrame, tmp_path: Path) -> None:
    encoder = ImageEncoder(dim=4).fit(colours, tmp_path)
    got = encoder.encode(names("blue1.png", "red1.png", "blue1.png"), tmp_path).vectors
    np.testing.assert_array_equal(got[0], got[2])
    assert not np.array_equal(got[0], got[1])


def test_fit_few_images_give_fewer_components(colours: pl.DataFrame, tmp_path: Path) -> None:
    assert ImageEncoder().fit(colours[4:8], tmp_path).width == 3
    assert ImageEncoder(dim=None).fit(colours[4:8], tmp_path).width == 456


def test_fit_two_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got 2 columns .* expected one of image file names"):
        ImageEncoder().fit(pl.DataFrame({"a": ["x"], "b": ["y"]}), tmp_path)


def test_fit_numbers_name_the_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'a': got type Int64, expected file names"):
        ImageEncoder().fit(pl.DataFrame({"a": [1]}), tmp_path)
