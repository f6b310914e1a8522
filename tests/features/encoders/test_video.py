from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest

from features.encoders import Source
from features.encoders.video import SOUND_WIDTH, VideoEncoder, describe_video, read_video
from tests.features.encoders.conftest import write_video

RED, BLUE = (210, 30, 30), (30, 30, 210)
RATE = 16_000


def frames_of(*colours: tuple[int, int, int], seed: int = 0, each: int = 8) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-20, 21, size=(len(colours) * each, 48, 64, 3))
    return (np.repeat(np.array(colours), each, axis=0)[:, None, None, :] + noise).astype(np.uint8)


def tone(frequency: float, seconds: float = 1.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)


def names(*values: str | None) -> pl.DataFrame:
    return pl.DataFrame({"clip": values}, schema={"clip": pl.String})


@pytest.fixture
def clips(tmp_path: Path) -> pl.DataFrame:
    for i in range(4):
        write_video(tmp_path / f"red{i}.mp4", frames_of(RED, seed=i), tone(300 + i))
        write_video(tmp_path / f"blue{i}.mkv", frames_of(BLUE, seed=i), tone(300 + i))
    return names(*(f"{what}{i}.{end}" for what, end in (("red", "mp4"), ("blue", "mkv")) for i in range(4)))


def test_encode_red_and_blue_videos_are_apart(clips: pl.DataFrame, tmp_path: Path) -> None:
    encoder = VideoEncoder(dim=4, frames=2).fit(clips, tmp_path)
    write_video(tmp_path / "a.avi", frames_of(RED, seed=90))
    write_video(tmp_path / "b.mp4", frames_of(RED, seed=91), tone(301))
    write_video(tmp_path / "c.mp4", frames_of(BLUE, seed=92), tone(301))
    got = encoder.encode(names("a.avi", "b.mp4", "c.mp4"), tmp_path)
    assert got.present.all()
    red, again, blue = got.vectors[:, : encoder.width - 2]  # the sounds, all but equal, are noise here
    assert np.linalg.norm(red - again) < 0.5 * np.linalg.norm(again - blue)


def test_encode_same_picture_with_other_sound_is_apart(tmp_path: Path) -> None:
    for i in range(8):
        write_video(tmp_path / f"{i}.mp4", frames_of(RED), tone(200 if i % 2 else 2000))
    table = names(*(f"{i}.mp4" for i in range(8)))
    vectors = VideoEncoder(frames=1).fit(table, tmp_path).encode(table, tmp_path).vectors
    assert np.linalg.norm(vectors[0] - vectors[1]) > 5 * np.linalg.norm(vectors[0] - vectors[2])


def test_read_video_takes_frames_from_equal_parts(tmp_path: Path) -> None:
    green = (30, 200, 30)
    write_video(tmp_path / "three.mp4", frames_of(RED, green, BLUE))
    clip = read_video(tmp_path / "three.mp4", 3, 30.0)
    assert clip.sound is None
    assert [int(np.asarray(frame).mean(axis=(0, 1)).argmax()) for frame in clip.frames] == [0, 1, 2]
    assert clip.frames[0].size == (64, 64)
    assert np.isnan(describe_video(clip)[-SOUND_WIDTH:]).all()


def test_read_video_sound_is_mono_at_16_khz_and_no_longer_than_asked(tmp_path: Path) -> None:
    write_video(tmp_path / "tone.mp4", frames_of(RED), tone(440))
    sound = read_video(tmp_path / "tone.mp4", 1, 0.5).sound
    assert sound is not None
    assert sound.shape == (RATE // 2,)
    spectrum = np.abs(np.fft.rfft(sound))
    assert abs(int(spectrum.argmax()) * 2 - 440) <= 2


def hostile(folder: Path, name: str) -> None:
    if name == "sound.mp4":
        with wave.open(str(folder / name), "wb") as sound:
            sound.setparams((1, 2, RATE, 0, "NONE", ""))
            sound.writeframes(bytes(3200))
    elif name == "cut.mp4":
        whole = (folder / "red0.mp4").read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 3])
    elif name == "list.m3u8.mp4":
        (folder / name).write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nred0.mp4\n#EXT-X-ENDLIST\n")
    elif name == "list.ffconcat.mp4":
        (folder / name).write_text("ffconcat version 1.0\nfile red0.mp4\n")
    elif name == "zeros.mp4":
        (folder / name).write_bytes(bytes(5000))
    elif name == "only_sound.mkv":
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sound.mp4", "container"),
        ("cut.mp4", ""),
        ("list.m3u8.mp4", "container"),
        ("list.ffconcat.mp4", "container"),
        ("zeros.mp4", "container"),
        ("only_sound.mkv", "no picture"),
        ("../red0.mp4", "outside"),
    ],
)
def test_hostile_video_is_missing_and_listed(
    clips: pl.DataFrame, tmp_path: Path, name: str, reason: str
) -> None:
    hostile(tmp_path, name)
    source = Source(tmp_path)
    encoder = VideoEncoder(dim=2, frames=1).fit(clips[:2], source)
    assert encoder.encode(names("red0.mp4", name, None), source).present.tolist() == [True, False, False]
    [bad] = source.bad
    assert bad.path == name
    assert reason in bad.reason


def test_read_video_frames_larger_than_allowed_are_not_decoded(
    clips: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.encoders.image.MOST_PIXELS", 100)
    with pytest.raises(ValueError, match="64 x 48 pixels"):
        read_video(tmp_path / "red0.mp4", 1, 1.0)
