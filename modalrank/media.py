"""Where encoders find files and earlier vectors, and how they tell their progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from features.encoders import Source, VectorCache

CACHE_VARIABLE = "MODALRANK_CACHE"
BAR = 20
SECONDS_BETWEEN = 2.0


class MediaConfig(BaseModel):
    """Files and pretrained models: the cache of their vectors, and how many files may be broken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cache: str = Field(
        "auto",
        description="folder that keeps vectors from run to run; auto is MODALRANK_CACHE or else "
        "~/.cache/modalrank, off keeps none",
    )
    max_bad: float = Field(
        0.2, ge=0, le=1, description="share of a column's files that may be unreadable and count as missing"
    )


def cache_folder(media: MediaConfig) -> Path | None:
    """Return the folder of the vector cache, None where it is off."""
    if media.cache == "off":
        return None
    if media.cache != "auto":
        return Path(media.cache)
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return None if given == "off" else Path(given)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "modalrank"


def media_source(media: MediaConfig, folder: Path, name: str, say: Callable[[str], None]) -> Source:
    """Return what the encoder of the modality `name` reads from, which tells its progress as a bar."""
    cache = cache_folder(media)
    last = time.monotonic()

    def progress(noun: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN:
            return
        last = now
        full = BAR * done // total
        say(f"encode {name} {'█' * full}{'░' * (BAR - full)} {done:,} of {total:,} new {noun} contents")

    return Source(folder, VectorCache(cache) if cache else None, progress, media.max_bad)
