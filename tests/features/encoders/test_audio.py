from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from features.encoders import load_encoder, save_encoder
from features.encoders.audio import RATE, AudioEncoder, describe_sound, read_sound


def tone(frequency: float, seconds: float = 0.5, rate: int = RATE) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def noise(seed: int, seconds: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.2, size=round(seconds * RATE))


def names(*values: str | None) -> pl.DataFrame:
    return pl.DataFrame({"sound": values}, schema={"sound": pl.String})


@pytest.fixture
def sounds(tmp_path: Path) -> pl.DataFrame:
    for i in range(4):
        soundfile.write(tmp_path / f"tone{i}.wav", tone(220 + i), RATE)
        soundfile.write(tmp_path / f"noise{i}.wav", noise(i), RATE)
    return names(*(f"{what}{i}.wav" for what in ("tone", "noise") for i in range(4)))


def test_encode_tone_and_noise_are_apart(sounds: pl.DataFrame, tmp_path: Path) -> None:
    encoder = AudioEncoder(dim=3).fit(sounds, tmp_path)
    soundfile.write(tmp_path / "a.flac", tone(221.5), RATE)
    soundfile.write(tmp_path / "b.wav", tone(222.5), RATE)
    soundfile.write(tmp_path / "c.wav", noise(50), RATE)
    first, second, other = encoder.encode(names("a.flac", "b.wav", "c.wav"), tmp_path).vectors
    assert np.linalg.norm(first - second) < 0.5 * np.linalg.norm(first - other)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_read_sound_any_format_becomes_mono_at_16_khz(tmp_path: Path, name: str) -> None:
    left = tone(440, rate=44_100)
    soundfile.write(tmp_path / name, np.column_stack([left, left]), 44_100)
    samples = read_sound(tmp_path / name, seconds=30)
    assert samples.dtype == np.float32
    assert samples.shape == (RATE // 2,)
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * 2 == 440


def test_read_sound_only_the_first_seconds(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.concatenate([tone(440), noise(0)]), RATE)
    np.testing.assert_allclose(read_sound(tmp_path / "long.wav", seconds=0.5), tone(440), atol=1e-4)


def test_describe_sound_chroma_finds_the_note() -> None:
    chroma = describe_sound(tone(440).astype(np.float32))[20:32]
    assert chroma.argmax() == 9


@pytest.mark.parametrize("n", [1, 100, 1023, 1024, 1025])
@pytest.mark.parametrize("level", [0.0, 0.5], ids=["silent", "loud"])
def test_describe_sound_very_short_is_finite(n: int, level: float) -> None:
    descriptor = describe_sound(np.full(n, level, dtype=np.float32))
    assert descriptor.shape == (86,)
    assert np.isfinite(descriptor).all()


def test_encode_unreadable_files_are_absent_with_one_warning(
    sounds: pl.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = AudioEncoder().fit(sounds, tmp_path)
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.full(2000, np.nan), RATE, subtype="FLOAT")
    table = names("tone0.wav", None, "broken.wav", "empty.wav", "gone.wav", "nan.wav")
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        got = encoder.encode(table, tmp_path)
    assert got.present.tolist() == [True] + [False] * 5
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "4 of 5 audio files" in caplog.text
    assert "broken.wav" in caplog.text


def test_unreadable_lists_rows_paths_and_reasons(sounds: pl.DataFrame, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    found = AudioEncoder().unreadable(names("tone0.wav", None, "empty.wav", "gone.wav"), tmp_path)
    assert found == [(3, "empty.wav", "the file holds no samples"), (4, "gone.wav", "no such file")]


def test_load_encoder_of_before_log_mel_encodes_as_it_did(sounds: pl.DataFrame, tmp_path: Path) -> None:
    old = AudioEncoder(log_mel=False).fit(sounds, tmp_path)
    save_encoder(old, tmp_path / "saved")
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    del state["parameters"]["log_mel"]
    (tmp_path / "saved" / "state.json").write_text(json.dumps(state))
    loaded = load_encoder(tmp_path / "saved")
    assert loaded.width == 86
    got, expected = loaded.encode(sounds, tmp_path), old.encode(sounds, tmp_path)
    assert got.vectors.tobytes() == expected.vectors.tobytes()


def test_describe_sound_log_mel_finds_the_band_of_a_tone() -> None:
    low, high = (describe_sound(tone(f).astype(np.float32), log_mel=True)[86:126] for f in (300, 3000))
    assert low.shape == (40,)
    assert low.argmax() < 8 < 20 < high.argmax()
