"""Encoders of pretrained transformers: text, images, sounds, and images and text in one space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.encoders import audio, forward, image
from features.encoders.base import Encoded
from features.encoders.columns import check_choice, check_flag, check_number
from features.encoders.describe import Describer
from features.encoders.described import DescribedEncoder
from features.encoders.pretrained import (
    GPU_BATCH,
    LIBRARIES,
    Checkpoint,
    find_checkpoint,
    load_model,
    load_sentence_model,
    resolve_torch_device,
)
from features.encoders.projection import Projection, fit_projection
from features.encoders.source import Place
from features.encoders.storage import read_json
from features.errors import ConfigError, DataError

FloatArray = NDArray[np.float32]
POOLINGS = ("auto", "mean", "cls", "last")
DEVICES = ("auto", "cpu", "cuda")
SIDES = ("image", "text")
DRAFT_SIDE = 384


@dataclass(eq=False)
class NeuralEncoder(DescribedEncoder):
    """What the encoders of pretrained models have in common.

    Vectors have unit length before the projection. The weights are not saved with the encoder but their
    digest is: to encode with other weights is an error. On a CPU contents are encoded one by one, so that a
    vector's bits do not depend on what stands beside it; on CUDA in batches of about equal length, where
    they may differ in the last bits, which the vector cache keeps as they first were.

    Parameters
    ----------
    columns
        Name of the column; None takes the only one of the fitted table.
    dim
        Number of principal components, about the mean; None keeps the vectors as the model gives them.
    model
        A folder, a folder of $MODALRANK_MODELS, or owner/name of the hub. Code of a model never runs, and
        weights are read from safetensors only.
    revision
        Commit of a hub model, 40 hex digits.
    download
        Whether a hub model may be fetched; without it nothing goes over the network.
    device
        "auto" takes CUDA where torch finds it.
    half
        Whether float16 is used on CUDA.
    batch
        Contents at once; None takes 1 on a CPU and 64 on CUDA.
    """

    dim: int | None = 128
    model: str = ""
    revision: str | None = None
    download: bool = False
    device: str = "auto"
    half: bool = True
    batch: int | None = None
    weights_: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.model, str) or not self.model:
            raise ConfigError(
                f"{self.kind}: model: got {self.model!r}, expected a folder or a name of the hub",
                fix="set params.model",
            )
        check_choice(self.kind, "device", self.device, DEVICES)
        check_flag(self.kind, "half", self.half)
        check_flag(self.kind, "download", self.download)
        check_number(self.kind, "batch", self.batch, 1)

    def fit(self, table: pl.DataFrame, source: Place) -> Self:
        """Learn the projection; raises DataError for columns not of text or a model that does not load."""
        self.weights_ = self._checkpoint().digest
        return super().fit(table, source)

    def encode(self, table: pl.DataFrame, source: Place) -> Encoded:
        """Encode each distinct value once; raises DataError if the weights are not those of `fit`."""
        found = self._checkpoint()
        if found.digest != self.weights_:
            raise DataError(
                f"got weights of digest {found.digest[:12]}, expected {self.weights_[:12]} as in training",
                fix="put the model of the training there, or train again",
                file=str(found.folder),
            )
        return super().encode(table, source)

    def extras(self) -> Mapping[str, object]:
        """Return the digest of the weights, to be saved."""
        return {"weights": self.weights_}

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        encoder = super().load(folder)
        encoder.weights_ = read_json(folder, "state")["weights"]
        return encoder

    def learned(self, rows: FloatArray) -> Projection | None:
        """Return principal components about the mean, scaled as a whole, or the vectors as they are."""
        scaled = self.dim is not None
        blocks = (rows.shape[1],) if scaled and rows.size else None
        return fit_projection(rows, standardize=scaled, dim=self.dim, blocks=blocks)

    def _checkpoint(self) -> Checkpoint:
        return find_checkpoint(self.kind, self.model, self.revision, self.download)

    def _describer(
        self,
        noun: str,
        vectors: Callable[[Any, list[Any], str], FloatArray],
        load: Callable[[Any], Any],
        each: Callable[[Any], Any] | None = None,
        *,
        files: bool = True,
        head: Callable[..., Any] = load_model,
        **identity: object,
    ) -> Describer[Any]:
        """Return a describer that loads the model when there is something new to describe.

        `vectors` turns a model, a batch and a device into (n, width) values.
        """
        checkpoint = self._checkpoint()

        def describe(contents: list[Any]) -> FloatArray:
            device = resolve_torch_device(self.kind, self.device)
            model = head(checkpoint.folder, checkpoint.digest, device, self.half)
            size = self.batch or (GPU_BATCH if device == "cuda" else 1)
            parts = [
                vectors(model, contents[start : start + size], device)
                for start in range(0, len(contents), size)
            ]
            return forward.unit(np.concatenate(parts))

        about = {"name": self.kind, "version": 1, "weights": checkpoint.digest, "half": self.half}
        return Describer(
            noun=noun,
            width=None,
            load=load,
            each=each,
            describe=describe,
            identity={**about, **identity},
            libraries=LIBRARIES,
            files=files,
            largest=image.LARGEST_FILE,
        )


@dataclass(eq=False)
class NeuralTextEncoder(NeuralEncoder):
    """Texts by a BERT-like, a sentence-transformers or a causal language model.

    Parameters
    ----------
    pooling
        How hidden states become one vector: "mean", "cls" (the first token) or "last" (the last token, for
        causal models). "auto" does what a sentence-transformers model says, else "mean".
    max_length
        Tokens of a text that are read.
    """

    kind: ClassVar[str] = "neural_text"
    expected: ClassVar[str] = "text"

    pooling: str = "auto"
    max_length: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.kind, "pooling", self.pooling, POOLINGS)
        check_number(self.kind, "max_length", self.max_length, 1)

    def describer(self) -> Describer[str]:
        """Return what describes a text."""
        how: dict[str, Any] = {"pooling": self.pooling, "max_length": self.max_length}
        checkpoint = self._checkpoint()
        if self.pooling == "auto" and checkpoint.is_sentence_model:
            vectors = partial(forward.sentence_vectors, max_length=self.max_length)
            return self._describer("text", vectors, str, files=False, head=load_sentence_model, **how)
        vectors = partial(
            forward.text_vectors, checkpoint=checkpoint, pooling=self.pooling, max_length=self.max_length
        )
        return self._describer("text", vectors, str, files=False, **how)


@dataclass(eq=False)
class NeuralImageEncoder(NeuralEncoder):
    """Images by a vision transformer or network (ViT, DINOv2, ResNet).

    Parameters
    ----------
    pooling
        "cls" (the first token), "mean" of all, or "auto": the first token, the mean of a map.
    """

    kind: ClassVar[str] = "neural_image"
    expected: ClassVar[str] = image.EXPECTED

    pooling: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.kind, "pooling", self.pooling, POOLINGS[:3])

    def describer(self) -> Describer[Any]:
        """Return what describes an image file."""
        pooling = "cls" if self.pooling == "auto" else self.pooling
        load = partial(image.open_image, side=DRAFT_SIDE)
        each = partial(forward.image_inputs, self._checkpoint())
        return self._describer(
            "image", partial(forward.hidden_vectors, pooling=pooling), load, each, pooling=pooling
        )


@dataclass(eq=False)
class NeuralAudioEncoder(NeuralEncoder):
    """Sounds by an audio transformer (AST, CLAP, wav2vec 2.0).

    Parameters
    ----------
    pooling
        "mean" of all hidden states, "cls" (the first token), or "auto": what the model projects to a joint
        space with text, else the mean.
    seconds
        Length of the beginning that is described; longer than the model reads makes some cut at random.
    """

    kind: ClassVar[str] = "neural_audio"
    expected: ClassVar[str] = audio.EXPECTED

    pooling: str = "auto"
    seconds: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.kind, "pooling", self.pooling, POOLINGS[:3])
        check_number(self.kind, "seconds", self.seconds, 0.1)

    def describer(self) -> Describer[Any]:
        """Return what describes a sound file."""
        checkpoint = self._checkpoint()
        rate = forward.audio_extractor(checkpoint).sampling_rate
        load = partial(audio.read_sound, seconds=self.seconds, rate=rate)
        vectors = partial(forward.audio_vectors, pooling=self.pooling)
        each = partial(forward.sound_inputs, checkpoint)
        return self._describer("audio", vectors, load, each, pooling=self.pooling, seconds=self.seconds)


@dataclass(eq=False)
class ClipEncoder(NeuralEncoder):
    """Images and texts in one space (CLIP, SigLIP), so that a text meets the images that show it.

    Parameters
    ----------
    side
        Which of the two the column holds: "image" (file names) or "text".
    """

    kind: ClassVar[str] = "clip"
    expected: ClassVar[str] = "image file names, or text with side: text"

    dim: int | None = None
    side: str = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.kind, "side", self.side, SIDES)

    def describer(self) -> Describer[Any]:
        """Return what describes an image file or a text."""
        checkpoint = self._checkpoint()
        if self.side == "text":
            vectors = partial(forward.joint_text_vectors, checkpoint=checkpoint)
            return self._describer("text", vectors, str, files=False, side="text")
        load = partial(image.open_image, side=DRAFT_SIDE)
        return self._describer(
            "image", forward.joint_image_vectors, load, partial(forward.image_inputs, checkpoint)
        )
