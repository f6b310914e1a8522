"""One small case an encoder for the contract suite, with files made once a session."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
import soundfile
from PIL import Image

from features.encoders import Source, VectorCache
from tests.features.encoders.tiny_models import write_models

N_ROWS = 24
MISSING = 5
"""Every MISSING-th row of a table, from the first, has no value."""


@dataclass(frozen=True)
class Case:
    kind: str
    table: Callable[[int], pl.DataFrame]
    params: Mapping[str, object] = field(default_factory=dict)
    cached: bool = False

    def __str__(self) -> str:
        return "-".join([self.kind, *(f"{k}={v}" for k, v in self.params.items()), *["cached"] * self.cached])


def with_gaps(values: Sequence[object]) -> list[object]:
    return [None if i % MISSING == 0 else value for i, value in enumerate(values)]


def sentences(seed: int) -> pl.DataFrame:
    return words(seed).select("plot")


def words(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    texts = [" ".join(f"word{w}" for w in rng.integers(0, 40, size=12)) for _ in range(N_ROWS)]
    return pl.DataFrame({"title": with_gaps(texts), "plot": with_gaps(texts[::-1])}, schema=["title", "plot"])


def tags(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [[f"tag{t}" for t in rng.integers(0, 12, size=3)] for _ in range(N_ROWS)]
    return pl.DataFrame({"tags": with_gaps(rows)}, schema={"tags": pl.List(pl.String)})


def numbers(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "price": with_gaps(rng.lognormal(size=N_ROWS).tolist()),
            "sold": with_gaps((rng.random(N_ROWS) < 0.5).tolist()),
        },
        schema={"price": pl.Float64, "sold": pl.Boolean},
    )


def vectors(seed: int) -> pl.DataFrame:
    rows = np.random.default_rng(seed).normal(size=(N_ROWS, 50)).tolist()
    return pl.DataFrame({"vector": with_gaps(rows)}, schema={"vector": pl.List(pl.Float32)})


def image_names(seed: int) -> pl.DataFrame:
    names = [f"{seed}/{i}.png" for i in range(N_ROWS)]
    return pl.DataFrame({"poster": with_gaps(names)}, schema={"poster": pl.String})


def sound_names(seed: int) -> pl.DataFrame:
    names = [f"{seed}/{i}.wav" for i in range(N_ROWS)]
    return pl.DataFrame({"sound": with_gaps(names)}, schema={"sound": pl.String})


def categories(seed: int) -> pl.DataFrame:
    values = [f"country{c}" for c in np.random.default_rng(seed).permutation(N_ROWS)]
    return pl.DataFrame({"country": with_gaps(values)}, schema={"country": pl.String})


def video_names(seed: int) -> pl.DataFrame:
    names = [f"{seed}/{i}.mp4" for i in range(N_ROWS)]
    return pl.DataFrame({"clip": with_gaps(names)}, schema={"clip": pl.String})


def write_video(path: Path, frames: np.ndarray, samples: np.ndarray | None = None) -> None:
    """Write (n, height, width, 3) frames, ten a second, and mono sound at 16 kHz."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10, options={"threads": "1"})
        picture.height, picture.width = frames.shape[1:3]
        picture.pix_fmt = "yuv420p"
        sound = None if samples is None else container.add_stream("aac", rate=16_000, layout="mono")
        for pixels in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(picture.encode(None))
        if sound is not None and samples is not None:
            whole = samples[None].astype(np.float32)
            for start in range(0, whole.shape[1], 1024):
                part = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(whole[:, start : start + 1024]), format="fltp", layout="mono"
                )
                part.sample_rate, part.pts = 16_000, start
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))


CASES = [
    Case("text", words, {"dim": 8}),
    Case("text", words, {"dim": 5000}),
    Case("text", words, {"dim": 8, "characters": "all", "hash_bits": 12}),
    Case("tags", tags),
    Case("category", categories, {"most": 16}),
    Case("tags", tags, {"dim": 4}),
    Case("numeric", numbers),
    Case("vectors", vectors),
    Case("vectors", vectors, {"dim": 7}),
    Case("vectors", vectors, {"dim": 7, "standardize": False}),
    Case("image", image_names, {"dim": 6}),
    Case("audio", sound_names),
    Case("audio", sound_names, {"dim": 5, "seconds": 0.2}),
    Case("audio", sound_names, cached=True),
    Case("video", video_names, {"dim": 6, "frames": 2}, cached=True),
]

HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "transformers", "sentence_transformers"))
NEURAL = [
    Case("neural_text", sentences, {"model": "bert", "dim": 8}),
    Case("neural_text", sentences, {"model": "gpt2", "dim": 8, "pooling": "last"}),
    Case("neural_image", image_names, {"model": "vit", "dim": 6}),
    Case("neural_audio", sound_names, {"model": "ast", "dim": 6}, cached=True),
    Case("clip", image_names, {"model": "clip", "dim": 5}, cached=True),
]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of tiny random models, found by their names."""
    folder = tmp_path_factory.mktemp("models")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        write_models(folder)
        patch.setenv("MODALRANK_MODELS", str(folder))
        yield folder


@pytest.fixture(params=CASES + NEURAL * HAS_TORCH, ids=str, scope="session")
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    if "model" in request.param.params:
        request.getfixturevalue("models")
    return request.param


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of noise images, sounds and videos for the seeds 0 to 2; every third video is silent."""
    folder = tmp_path_factory.mktemp("files")
    for seed in range(3):
        rng = np.random.default_rng(seed)
        (folder / str(seed)).mkdir()
        for i in range(N_ROWS):
            pixels = rng.integers(0, 256, size=(24, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / str(seed) / f"{i}.png")
            samples = rng.normal(scale=0.1, size=4000) * rng.random()
            soundfile.write(folder / str(seed) / f"{i}.wav", samples, 16_000)
            frames = rng.integers(0, 256, size=(6, 32, 32, 3), dtype=np.uint8)
            write_video(folder / str(seed) / f"{i}.mp4", frames, None if i % 3 == 0 else samples)
    return folder


@pytest.fixture(scope="session")
def source(case: Case, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path | Source:
    """What the encoder of the case reads from: the folder, or the folder and a cache."""
    return Source(files, VectorCache(tmp_path_factory.mktemp("cache"))) if case.cached else files
