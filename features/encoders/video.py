"""Videos as descriptors of sampled frames and of the sound track."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.encoders import audio, image
from features.encoders.base import Encoded
from features.encoders.columns import check_number, pick_single
from features.encoders.describe import Describer
from features.encoders.described import DescribedEncoder
from features.encoders.projection import Projection, absent, encode_present, fit_projection
from features.encoders.source import Place, source_of

if TYPE_CHECKING:
    from PIL import Image

FRAME_WIDTH = 2 * sum(image.BLOCKS)
SOUND_WIDTH = audio.WIDTH + audio.LOG_MEL_WIDTH
BLOCKS = (*image.BLOCKS, *image.BLOCKS)
MOST_DECODED = 300
"""Frames decoded on the way to a sampled one: a stream with fewer key frames is cut short there."""
LARGEST_FILE = 4 << 30
PLAIN_FILE = {"protocol_whitelist": "file"}
MAGIC = (
    (4, b"ftyp", "mov,mp4,m4a,3gp,3g2,mj2"),
    (0, b"\x1a\x45\xdf\xa3", "matroska,webm"),
    (8, b"AVI ", "avi"),
    (0, b"OggS", "ogg"),
    (0, b"FLV\x01", "flv"),
    (0, b"\x47", "mpegts"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
)
"""Offset and bytes that tell a container, and its demuxer: playlists, which open other files, have none."""


class Clip(NamedTuple):
    """What is described of a video: small frames, and mono samples at 16 kHz or None without sound."""

    frames: list[Image.Image]
    sound: NDArray[np.float32] | None


@dataclass(eq=False)
class VideoEncoder(DescribedEncoder):
    """Describes MP4, MOV, MKV, WebM, AVI, OGG, FLV and MPEG files by sampled frames and their sound.

    `frames` frames from the middles of equal parts are described as images are; their mean and standard
    deviation are scaled and reduced to `dim` components. The beginning of the sound track is described as
    sounds are, reduced to half as many, and weighs as much as one of the two; a video without sound has
    zeros there, the mean of those with sound. A file that is not there, has no picture or cannot be decoded
    is missing; a warning counts the latter.

    Parameters
    ----------
    columns
        Name of the column; None takes the only one of the fitted table.
    dim
        Number of principal components of the frames; None keeps all inputs.
    frames
        Number of frames to look at.
    seconds
        Length of the beginning of the sound track that is described.
    """

    kind: ClassVar[str] = "video"
    expected: ClassVar[str] = "video file names"

    dim: int | None = 64
    frames: int = 8
    seconds: float = 30.0
    sound_: Projection | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.kind, "frames", self.frames, 1)
        check_number(self.kind, "seconds", self.seconds, 0.1)

    def describer(self) -> Describer[Clip]:
        """Return what describes a video file."""
        import av  # noqa: F401
        import librosa.feature  # noqa: F401
        import skimage.feature  # noqa: F401

        return Describer(
            noun="video",
            width=FRAME_WIDTH + SOUND_WIDTH,
            load=partial(read_video, n_frames=self.frames, seconds=self.seconds),
            each=describe_video,
            identity={"name": "frames-sound", "version": 1, "frames": self.frames, "seconds": self.seconds},
            libraries=("av", "librosa", "numpy", "pillow", "scikit-image"),
            largest=LARGEST_FILE,
        )

    @property
    def width(self) -> int:
        """Number of components of a vector: of the frames, then of the sound."""
        if self.projection_ is None:
            return 1
        return self.projection_.width + (self.sound_.width if self.sound_ else 0)

    def fit(self, table: pl.DataFrame, source: Place) -> Self:
        """Learn scales and components from the readable files; raises DataError for columns not of text."""
        column = pick_single(table, self.columns, self.expected)
        self.columns_ = (column.name,)
        rows, _ = self.describer().rows(column, source_of(source))
        seen, heard = rows[:, :FRAME_WIDTH], rows[:, FRAME_WIDTH:]
        half = None if self.dim is None else max(1, self.dim // 2)
        self.projection_ = fit_projection(seen, standardize=True, dim=self.dim, blocks=BLOCKS)
        self.sound_ = fit_projection(heard[_has_sound(heard)], standardize=True, dim=half)
        return self

    def encode(self, table: pl.DataFrame, source: Place) -> Encoded:
        """Encode each distinct file once."""
        column = pick_single(table, self.columns_, self.expected)
        rows, present = self.describer().rows(column, source_of(source))
        if self.projection_ is None:
            return absent(len(present))
        seen = encode_present(self.projection_, rows[:, :FRAME_WIDTH], present)
        if self.sound_ is None:
            return seen
        heard = rows[:, FRAME_WIDTH:]
        audible = present.copy()
        audible[present] = _has_sound(heard)
        sound = encode_present(self.sound_, heard[_has_sound(heard)], audible).vectors
        # Each of the inputs of the sound has variance 1, each of the blocks of the frames as a whole.
        balance = np.float32(np.sqrt(len(image.BLOCKS) / SOUND_WIDTH))
        return Encoded(np.concatenate([seen.vectors, sound * balance], axis=1), present)

    def save(self, folder: Path) -> None:
        """Write parameters and arrays."""
        super().save(folder)
        if self.sound_:
            self.sound_.save(folder, "sound_")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        encoder = super().load(folder)
        has_sound = (folder / "sound_center.npy").exists()
        encoder.sound_ = Projection.load(folder, "sound_") if has_sound else None
        return encoder


def read_video(path: Path, n_frames: int, seconds: float) -> Clip:
    """Read frames from the middles of `n_frames` equal parts, 64 x 64 RGB, and the beginning of the sound.

    Raises
    ------
    ValueError
        If the file is of no known container, has no picture, or larger frames than MOST_PIXELS; a broken
        file raises what its decoder raises.
    """
    demuxer = _demuxer(path)
    with _opened(path, demuxer) as container:
        if not container.streams.video:
            raise ValueError("the file holds no picture")
        frames = list(_sampled(container, container.streams.video[0], n_frames))
    if not frames:
        raise ValueError("the file holds no picture")
    with _opened(path, demuxer) as container:
        return Clip(frames, _sound(container, seconds) if container.streams.audio else None)


def describe_video(clip: Clip) -> NDArray[np.float32]:
    """Return the mean and deviation of the frames' descriptors and the sound's, NaN without sound."""
    frames = np.stack([image.describe_image(frame) for frame in clip.frames])
    silent = np.full(SOUND_WIDTH, np.nan, dtype=np.float32)
    sound = silent if clip.sound is None else audio.describe_sound(clip.sound, log_mel=True)
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0), sound]).astype(np.float32)


def _has_sound(heard: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(heard).any(axis=1))


def _demuxer(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    for offset, magic, demuxer in MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return demuxer.partition(",")[0]
    raise ValueError("it is of no container that is read: MP4, MOV, MKV, WebM, AVI, OGG, FLV, MPEG")


@contextmanager
def _opened(path: Path, demuxer: str) -> Iterator[Any]:
    import av

    with av.open(
        str(path), format=demuxer, container_options=PLAIN_FILE, metadata_errors="ignore", timeout=60.0
    ) as container:
        yield container


def _sampled(container: Any, stream: Any, n_frames: int) -> Iterator[Image.Image]:  # noqa: ANN401 - PyAV's
    import av

    stream.codec_context.thread_count = 1
    _check_size(stream.codec_context.width, stream.codec_context.height)
    if stream.duration:
        span, start = (
            float(stream.duration * stream.time_base),
            float((stream.start_time or 0) * stream.time_base),
        )
    else:
        span, start = (container.duration or 0) / av.time_base, (container.start_time or 0) / av.time_base
    for part in range(n_frames if span > 0 else 1):
        target = start + span * (part + 0.5) / n_frames
        if span > 0:
            container.seek(int(target / stream.time_base), stream=stream)
        frame = _frame_at(container, stream, target)
        if frame is not None:
            _check_size(frame.width, frame.height)
            small: Image.Image = frame.to_image(width=image.SIDE, height=image.SIDE)
            yield small


def _frame_at(container: Any, stream: Any, target: float) -> Any:  # noqa: ANN401 - PyAV's
    """Return the first frame at the time or later, or the last one that was decoded on the way to it."""
    frame = None
    for n_decoded, frame in enumerate(container.decode(stream), 1):
        if frame.time is None or frame.time >= target or n_decoded >= MOST_DECODED:
            break
    return frame


def _check_size(width: int, height: int) -> None:
    if width * height > image.MOST_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, at most {image.MOST_PIXELS} are decoded")


def _sound(container: Any, seconds: float) -> NDArray[np.float32] | None:  # noqa: ANN401 - PyAV's
    """Return the first `seconds` of the sound track, None where there are no samples."""
    import av

    stream = container.streams.audio[0]
    stream.codec_context.thread_count = 1
    resampler = av.AudioResampler(format="flt", layout="mono", rate=audio.RATE)
    wanted, parts = max(1, round(seconds * audio.RATE)), list[NDArray[np.float32]]()
    for frame in container.decode(stream):
        if frame.sample_rate > audio.MOST_RATE or frame.layout.nb_channels > audio.MOST_CHANNELS:
            raise ValueError(f"its sound says that it is of {frame.layout.nb_channels} channels")
        parts += [made.to_ndarray().ravel() for made in resampler.resample(frame)]
        if sum(len(part) for part in parts) >= wanted:
            break
    samples = np.concatenate([np.zeros(0, np.float32), *parts])[:wanted].astype(np.float32)
    return samples if len(samples) and np.isfinite(samples).all() else None
