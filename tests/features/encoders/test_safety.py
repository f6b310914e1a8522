"""Files that are broken, huge, not what they say or somewhere else: counted, never run, never fatal."""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from PIL import Image

from features.encoders import Source, make_encoder
from features.errors import DataError

IMAGE, SOUND = "image", "audio"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(path: Path, side: int = 30_000) -> None:
    """Write a PNG of a few kilobytes that says it has `side` x `side` pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000), 9)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def wav_of(path: Path, channels: int, rate: int) -> None:
    """Write a WAV header that promises more than there is."""
    format_ = struct.pack("<HHIIHH", 1, channels, rate, 2**31, 2 * channels % 2**16, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(format_)) + format_ + b"data" + struct.pack("<I", 2**31 - 200)
    path.write_bytes(b"RIFF" + struct.pack("<I", 2**31 - 100) + body + bytes(4000))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        soundfile.write(folder / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 3000), 16_000)
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    soundfile.write(tmp_path / "secret.wav", np.zeros(3000), 16_000)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    whole = (folder / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    png_bomb(folder / "bomb.png")
    (folder / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/bin/id) run\n")
    (folder / "text.png").write_text("not an image")
    wav_of(folder / "channels.wav", 1024, 8000)
    wav_of(folder / "rate.wav", 2, 2**31 - 1)
    (folder / "image.wav").write_bytes(whole)
    (folder / "cut.wav").write_bytes((folder / "0.wav").read_bytes()[:30])
    return folder


HOSTILE = [
    (IMAGE, "cut.png", "truncated"),
    (IMAGE, "bomb.png", "30000 x 30000 pixels|decompression bomb"),
    (IMAGE, "program.png", "cannot identify"),
    (IMAGE, "text.png", "cannot identify"),
    (IMAGE, "0.wav", "cannot identify"),
    (IMAGE, "link.png", "outside the data folder"),
    (IMAGE, "../secret.png", "outside the data folder"),
    (IMAGE, "loop.png", "[Ss]ymlink|no such file"),
    (IMAGE, "pipe.png", "no such file"),
    (IMAGE, "/dev/zero", "outside the data folder"),
    (IMAGE, "a\0b.png", "null"),
    (IMAGE, ".", "no such file"),
    (SOUND, "channels.wav", "channels|[Ff]ormat|supported|header"),
    (SOUND, "rate.wav", "channels|[Ff]ormat|supported|header"),
    (SOUND, "image.wav", "[Ff]ormat|recognised"),
    (SOUND, "cut.wav", "."),
    (SOUND, "link.wav", "outside the data folder"),
    (SOUND, "../secret.wav", "outside the data folder"),
]


@pytest.mark.parametrize(("kind", "name", "reason"), HOSTILE)
def test_hostile_file_is_missing_and_listed_with_the_reason(
    data: Path, kind: str, name: str, reason: str
) -> None:
    ending = ".png" if kind == IMAGE else ".wav"
    table = pl.DataFrame({"file": [*(f"{i}{ending}" for i in range(4)), name]})
    source = Source(data)
    encoder = make_encoder(kind, {"dim": 2}).fit(table, source)
    got = encoder.encode(table, source)
    assert got.present.tolist() == [True] * 4 + [False]
    [bad] = source.bad
    assert (bad.column, bad.path) == ("file", name)
    assert re.search(reason, bad.reason)


def test_absolute_path_inside_the_folder_is_read(data: Path) -> None:
    table = pl.DataFrame({"file": [str(data / "0.png"), "1.png"]})
    assert make_encoder(IMAGE).fit(table, data).encode(table, data).present.all()


def test_file_above_the_largest_size_is_not_opened(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.encoders.image.LARGEST_FILE", 100)
    source = Source(data)
    make_encoder(IMAGE).fit(pl.DataFrame({"file": ["0.png"]}), source)
    assert "at most 100 are read" in source.bad[0].reason


@pytest.mark.parametrize(("share", "fits"), [(0.0, False), (1 / 6, False), (0.2, True), (1.0, True)])
def test_more_bad_files_than_the_share_rounded_up_are_an_error(data: Path, share: float, fits: bool) -> None:
    table = pl.DataFrame({"file": [f"{i}.png" for i in range(4)] + [f"gone{i}.png" for i in range(2)]})
    source = Source(data, max_bad=share)
    if fits:
        assert make_encoder(IMAGE).fit(table, source).encode(table, source).present.sum() == 4
        assert len(source.bad) == 2
        return
    with pytest.raises(DataError, match=r"2 of 6 image files .*, at most [01] may be.*gone0") as caught:
        make_encoder(IMAGE).fit(table, source)
    assert caught.value.column == "file"
    assert "--max-bad-media" in caught.value.fix
