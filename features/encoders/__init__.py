"""Modality encoders: columns of a table to vectors, by kind.

`text`, `tags`, `category`, `numeric`, `vectors`, `image`, `audio` and `video` each have a module of their
own, those of pretrained models are in `neural`; `features.encoders.base` says what they have in common.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from features.encoders.attributes import AttributesEncoder
from features.encoders.audio import AudioEncoder
from features.encoders.base import Encoded, Encoder
from features.encoders.cache import VectorCache
from features.encoders.category import CategoryEncoder
from features.encoders.described import DescribedEncoder
from features.encoders.image import ImageEncoder
from features.encoders.neural import ClipEncoder, NeuralAudioEncoder, NeuralImageEncoder, NeuralTextEncoder
from features.encoders.numeric import NumericEncoder
from features.encoders.source import BadMedia, Place, Source
from features.encoders.storage import read_json, write_json
from features.encoders.tags import TagsEncoder
from features.encoders.text import TextEncoder
from features.encoders.vectors import VectorsEncoder
from features.encoders.video import VideoEncoder
from features.errors import ConfigError, DataError

__all__ = [
    "ENCODERS",
    "AudioEncoder",
    "BadMedia",
    "CategoryEncoder",
    "DescribedEncoder",
    "Encoded",
    "Encoder",
    "ImageEncoder",
    "Source",
    "VectorCache",
    "encode_as",
    "encoder_digest",
    "encoder_parameters",
    "load_encoder",
    "make_encoder",
    "save_encoder",
]

ENCODERS: Mapping[str, type[Encoder]] = {
    "text": TextEncoder,
    "tags": TagsEncoder,
    "category": CategoryEncoder,
    "numeric": NumericEncoder,
    "vectors": VectorsEncoder,
    "image": ImageEncoder,
    "audio": AudioEncoder,
    "video": VideoEncoder,
    "neural_text": NeuralTextEncoder,
    "neural_image": NeuralImageEncoder,
    "neural_audio": NeuralAudioEncoder,
    "clip": ClipEncoder,
    "attributes": AttributesEncoder,
}


def encoder_parameters(kind: str) -> tuple[str, ...]:
    """Return the names of the parameters of a kind; raises ConfigError if there is no such kind."""
    if kind not in ENCODERS:
        raise ConfigError(
            f"got encoder {kind!r}, expected one of {', '.join(ENCODERS)}", fix="name one of these encoders"
        )
    return tuple(f.name for f in dataclasses.fields(ENCODERS[kind]) if f.init)  # type: ignore[arg-type]


def make_encoder(kind: str, params: Mapping[str, object] | None = None) -> Encoder:
    """Make an encoder that has yet to be fitted.

    Raises
    ------
    ConfigError
        If the kind or a parameter is unknown, or a value is out of range.
    """
    given, known = dict(params or {}), encoder_parameters(kind)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ConfigError(
            f"{kind}: got parameter {unknown[0]!r}, expected some of {', '.join(known)}",
            fix="remove or rename the parameter",
        )
    make: Callable[..., Encoder] = ENCODERS[kind]
    return make(**given)


def encode_as(encoder: Encoder, table: pl.DataFrame, source: Place) -> Encoded:
    """Encode the columns of another table with a fitted encoder, so that both meet in one space.

    The columns stand in for the fitted ones in their order; those that are left are empty. Of an encoder of
    images and texts this is the side of the texts, whatever was fitted.

    Raises
    ------
    DataError
        If the table has more columns than the encoder was fitted on.
    """
    fitted: tuple[str, ...] = encoder.columns_  # type: ignore[attr-defined]
    if len(table.columns) > len(fitted):
        raise DataError(
            f"got {len(table.columns)} columns, expected at most {len(fitted)} as the encoder has",
            fix="name fewer columns for this modality",
            column=table.columns[len(fitted)],
        )
    named = table.rename(dict(zip(table.columns, fitted, strict=False)))
    empty = [pl.lit(None, pl.String).alias(name) for name in fitted[len(table.columns) :]]
    if isinstance(encoder, ClipEncoder):
        encoder = copy.copy(encoder)
        encoder.side = "text"
    return encoder.encode(named.with_columns(empty), source)


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Write a fitted encoder and its kind and version into a new or empty folder.

    Raises
    ------
    FileExistsError
        If the folder holds anything, as stale files would change the digest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    encoder.save(folder)
    write_json(folder, "encoder", {"kind": encoder.kind, "version": encoder.version})


def load_encoder(folder: Path) -> Encoder:
    """Read what `save_encoder` wrote.

    Raises
    ------
    DataError
        If the folder holds no encoder, or one of a kind or version that this program does not have.
    """
    saved = read_json(folder, "encoder")
    kind, version = saved["kind"], saved["version"]
    if kind not in ENCODERS or version != ENCODERS[kind].version:
        have = [f"{name} {encoder.version}" for name, encoder in ENCODERS.items()]
        raise DataError(
            f"got an encoder {kind} {version}, expected one of {', '.join(have)}",
            fix="use the version of the program that saved it, or train again",
            file=str(folder / "encoder.json"),
        )
    return ENCODERS[kind].load(folder)


def encoder_digest(folder: Path) -> str:
    """Return the SHA-256 of everything `save_encoder` wrote: kind, version and files in sorted order."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
