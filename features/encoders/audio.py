"""Sounds as spectral descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from features.encoders.columns import check_flag, check_number
from features.encoders.describe import Describer
from features.encoders.described import DescribedEncoder

RATE = 16_000
EXPECTED = "audio file names"
FFT, HOP = 1024, 512
N_MELS, N_MFCC = 40, 20
CONTRAST_BANDS = 5
"""Octaves above 200 Hz; a sixth would pass the highest frequency, 8 kHz."""
WIDTH = 2 * (N_MFCC + 12 + CONTRAST_BANDS + 1 + 5)
LOG_MEL_WIDTH = 2 * N_MELS
FORMATS = frozenset({"WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF"})
MOST_SAMPLES = 64_000_000
MOST_RATE, MOST_CHANNELS = 768_000, 64


@dataclass(eq=False)
class AudioEncoder(DescribedEncoder):
    """Describes WAV, FLAC, OGG and MP3 files, scales the descriptors and optionally keeps components.

    A sound is mixed to mono at 16 kHz; its descriptor is the mean and standard deviation over time of 20
    mel cepstral coefficients, chroma, spectral contrast, centroid, bandwidth, roll-off, zero-crossing rate
    and loudness, and of 40 bands of the log-mel spectrum. A sound shorter than one window of 64 ms is padded
    with silence. File names are relative to `source`. A null name, and a file that is not there, is empty,
    is not of `FORMATS`, says that it has an impossible rate or number of channels or cannot be decoded, is
    missing; a warning counts the latter.

    Parameters
    ----------
    columns
        Name of the column; None takes the only one of the fitted table.
    dim
        Number of principal components; None keeps the whole descriptor.
    seconds
        Length of the beginning that is described.
    log_mel
        Whether the log-mel bands are part of the descriptor.
    """

    kind: ClassVar[str] = "audio"
    expected: ClassVar[str] = EXPECTED
    former: ClassVar[Mapping[str, object]] = {"log_mel": False}

    seconds: float = 30.0
    log_mel: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.kind, "seconds", self.seconds, 0.1)
        check_flag(self.kind, "log_mel", self.log_mel)

    def describer(self) -> Describer[NDArray[np.float32]]:
        """Return what describes a sound file."""
        # Imported here, before the threads of the describer, as lazy imports are not thread-safe.
        import librosa.feature  # noqa: F401
        import soundfile  # noqa: F401

        return Describer(
            noun="audio",
            width=WIDTH + LOG_MEL_WIDTH * self.log_mel,
            load=partial(read_sound, seconds=self.seconds),
            each=partial(describe_sound, log_mel=self.log_mel),
            identity={"name": "spectral", "version": 1, "seconds": self.seconds, "log_mel": self.log_mel},
            libraries=("librosa", "numpy", "soundfile"),
        )


def read_sound(path: Path, seconds: float, rate: int = RATE) -> NDArray[np.float32]:
    """Read the beginning of a file as mono samples at `rate`, (n,) float32.

    Raises
    ------
    ValueError
        If there are no samples or some are not finite, or the header asks for more than can be meant; a
        broken file raises what its decoder raises.
    """
    import librosa
    import soundfile

    with soundfile.SoundFile(path) as sound:
        given, frames = sound.samplerate, max(1, round(seconds * sound.samplerate))
        if sound.format not in FORMATS:
            raise ValueError(
                f"it is of the format {sound.format}, expected one of {', '.join(sorted(FORMATS))}"
            )
        possible = 0 < given <= MOST_RATE and sound.channels <= MOST_CHANNELS
        if not possible or min(frames, sound.frames) * sound.channels > MOST_SAMPLES:
            raise ValueError(f"it says that it has {sound.channels} channels at {given} Hz")
        samples = sound.read(frames=frames, dtype="float32", always_2d=True)
    if not samples.size:
        raise ValueError("the file holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError("the file holds samples that are not finite")
    mono: NDArray[np.float32] = librosa.resample(samples.mean(axis=1), orig_sr=given, target_sr=rate)
    return mono


def describe_sound(samples: NDArray[np.float32], log_mel: bool = False) -> NDArray[np.float32]:
    """Return the descriptor of mono samples at 16 kHz, (86,) float32, or (166,) with the log-mel bands."""
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
    parts = [np.concatenate(over_time), *([mel] if log_mel else [])]
    moments = [moment for frames in parts for moment in (frames.mean(axis=1), frames.std(axis=1))]
    return np.concatenate(moments).astype(np.float32)
