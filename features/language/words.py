"""Pictures and sounds in a few words, for a model that reads only text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.encoders.audio import RATE, read_sound
from features.encoders.image import read_image
from features.encoders.source import inside

HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
HUE_BORDERS = (18, 45, 70, 160, 200, 260, 310, 345)
"""Degrees at which each of HUES ends; beyond the last it is red again."""
GREY = 0.15
QUIET, LOUD = 0.02, 0.15
LOW, HIGH = 800.0, 2500.0


def picture_in_words(folder: Path, name: str) -> str:
    """Return the light, colours and calm of an image file, such as "dark, colourful, mostly blue".

    Raises whatever the decoder raises for a file that is broken, or outside the folder.
    """
    hsv = np.asarray(read_image(inside(folder, name)).convert("HSV"), dtype=np.float64)
    hue, saturation, value = hsv[..., 0] * 360 / 256, hsv[..., 1] / 255, hsv[..., 2] / 255
    light = "dark" if value.mean() < 0.35 else "bright" if value.mean() > 0.65 else "of medium light"
    coloured = saturation * value > GREY
    if coloured.mean() < 0.1:
        return f"{light}, black and white"
    strength = "colourful" if saturation[coloured].mean() > 0.5 else "of pale colours"
    return f"{light}, {strength}, mostly {_main_hue(hue[coloured])}"


def sound_in_words(folder: Path, name: str, seconds: float = 30.0) -> str:
    """Return loudness, pitch and steadiness of a sound file, such as "loud, low, steady"."""
    from librosa.feature import rms, spectral_centroid

    samples = read_sound(inside(folder, name), seconds)
    loudness = rms(y=samples)[0]
    pitch = float(spectral_centroid(y=samples, sr=RATE)[0].mean())
    mean = float(loudness.mean())
    words = [
        "quiet" if mean < QUIET else "loud" if mean > LOUD else "of medium loudness",
        "low" if pitch < LOW else "high" if pitch > HIGH else "of medium pitch",
        "steady" if loudness.std() < 0.4 * max(mean, 1e-9) else "changing",
    ]
    return ", ".join(words)


def _main_hue(hue: NDArray[np.float64]) -> str:
    names = np.digitize(hue, HUE_BORDERS) % len(HUES)
    return HUES[int(np.bincount(names, minlength=len(HUES)).argmax())]
