"""Sounds as spectral descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.encoders.base import Encoded
from features.encoders.columns import check_columns, check_number, pick_single
from features.encoders.files import FileDescriptor, Unreadable
from features.encoders.projection import Projection, encode_present, fit_projection
from features.encoders.storage import parameters_of, read_json, write_json

RATE = 16_000
EXPECTED = "audio file names"
FFT, HOP = 1024, 512
N_MELS, N_MFCC = 40, 20
CONTRAST_BANDS = 5
"""Octaves above 200 Hz; a sixth would pass the highest frequency, 8 kHz."""
WIDTH = 2 * (N_MFCC + 12 + CONTRAST_BANDS + 1 + 5)


@dataclass(eq=False)
class AudioEncoder:
    """Describes WAV, FLAC and OGG files, scales the descriptors and optionally keeps principal components.

    A sound is mixed to mono at 16 kHz; its descriptor is the mean and standard deviation over time of 20
    mel cepstral coefficients, chroma, spectral contrast, centroid, bandwidth, roll-off, zero-crossing rate
    and loudness. A sound shorter than one window of 64 ms is padded with silence. File names are relative
    to `source`. A null name, and a file that is not there, is empty or cannot be decoded, is missing; a
    warning counts the latter.

    Parameters
    ----------
    columns
        Name of the column; None takes the only one of the fitted table.
    seconds
        Length of the beginning that is described.
    dim
        Number of principal components; None keeps the whole descriptor.
    """

    kind: ClassVar[str] = "audio"
    version: ClassVar[int] = 1

    columns: Sequence[str] | None = None
    seconds: float = 30.0
    dim: int | None = None
    columns_: tuple[str, ...] = field(init=False, repr=False)
    projection_: Projection | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.columns = check_columns(self.kind, self.columns)
        check_number(self.kind, "seconds", self.seconds, 0.1)
        check_number(self.kind, "dim", self.dim, 1)

    @property
    def width(self) -> int:
        """Number of components of a vector."""
        return self.projection_.width if self.projection_ else 1

    def fit(self, table: pl.DataFrame, source: Path) -> Self:
        """Learn scales and components from the readable files; raises DataError for columns not of text."""
        names = pick_single(table, self.columns, EXPECTED)
        self.columns_ = (names.name,)
        rows, _ = self._files().rows(names, source)
        self.projection_ = fit_projection(rows, standardize=True, dim=self.dim)
        return self

    def encode(self, table: pl.DataFrame, source: Path) -> Encoded:
        """Encode each distinct file once."""
        names = pick_single(table, self.columns_, EXPECTED)
        return encode_present(self.projection_, *self._files().rows(names, source))

    def unreadable(self, table: pl.DataFrame, source: Path) -> list[Unreadable]:
        """List (row, path, reason) of the files that count as missing; needs no `fit`."""
        return self._files().unreadable(pick_single(table, self.columns, EXPECTED), source)

    def _files(self) -> FileDescriptor[NDArray[np.float32]]:
        # Imported here, before the threads of `FileDescriptor`, as lazy imports are not thread-safe.
        import librosa.feature  # noqa: F401
        import soundfile  # noqa: F401

        return FileDescriptor("audio", WIDTH, partial(read_sound, seconds=self.seconds), describe_sound)

    def save(self, folder: Path) -> None:
        """Write parameters and arrays."""
        write_json(folder, "state", {"parameters": parameters_of(self), "columns": self.columns_})
        if self.projection_:
            self.projection_.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        state = read_json(folder, "state")
        encoder = cls(**state["parameters"])
        encoder.columns_ = tuple(state["columns"])
        encoder.projection_ = Projection.load(folder) if (folder / "center.npy").exists() else None
        return encoder


def read_sound(path: Path, seconds: float) -> NDArray[np.float32]:
    """Read the beginning of a file as mono samples at 16 kHz, (n,) float32.

    Raises
    ------
    ValueError
        If there are no samples or some are not finite; a broken file raises what its decoder raises.
    """
    import librosa
    import soundfile

    with soundfile.SoundFile(path) as sound:
        rate = sound.samplerate
        samples = sound.read(frames=max(1, round(seconds * rate)), dtype="float32", always_2d=True)
    if not samples.size:
        raise ValueError("the file holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError("the file holds samples that are not finite")
    mono: NDArray[np.float32] = librosa.resample(samples.mean(axis=1), orig_sr=rate, target_sr=RATE)
    return mono


def describe_sound(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the descriptor of mono samples at 16 kHz, (86,) float32."""
    from librosa import amplitude_to_db, feature, power_to_db, stft

    padded = np.pad(samples, (0, max(0, FFT - len(samples))))
    magnitude = np.abs(stft(padded, n_fft=FFT, hop_length=HOP))
    power = np.square(magnitude)
    mel = power_to_db(feature.melspectrogram(S=power, sr=RATE, n_mels=N_MELS))
    over_time = [
        feature.mfcc(S=mel, n_mfcc=N_MFCC),
        feature.chroma_stft(S=power, sr=RATE, n_fft=FFT, tuning=0.0),
        feature.spectral_contrast(S=magnitude, sr=RATE, n_fft=FFT, n_bands=CONTRAST_BANDS),
        feature.spectral_centroid(S=magnitude, sr=RATE, n_fft=FFT),
        feature.spectral_bandwidth(S=magnitude, sr=RATE, n_fft=FFT),
        feature.spectral_rolloff(S=magnitude, sr=RATE, n_fft=FFT),
        feature.zero_crossing_rate(padded, frame_length=FFT, hop_length=HOP),
        amplitude_to_db(feature.rms(S=magnitude, frame_length=FFT, hop_length=HOP)),
    ]
    frames = np.concatenate(over_time)
    return np.concatenate([frames.mean(axis=1), frames.std(axis=1)]).astype(np.float32)
