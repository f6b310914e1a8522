"""What goes into a pretrained model, and the vectors that come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.encoders.pretrained import (
    Checkpoint,
    broken_model,
    quiet_and_offline,
)

FloatArray = NDArray[np.float32]


def unit(vectors: FloatArray) -> FloatArray:
    """Return the (n, d) rows at length 1; a row of zeros stays."""
    values = vectors.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit: FloatArray = (values / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return unit


@lru_cache(maxsize=4)
def tokenizer(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 - transformers' types
    """Return the tokenizer of a checkpoint."""
    from transformers import AutoTokenizer

    with quiet_and_offline(), broken_model(checkpoint.folder):
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
    # Causal models have none; the attention mask hides whatever stands there.
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "right"
    return tokenizer


@lru_cache(maxsize=4)
def image_processor(checkpoint: Checkpoint) -> Any:  # noqa: ANN401
    """Return what resizes and scales pictures for a checkpoint."""
    from transformers import AutoImageProcessor

    with quiet_and_offline(), broken_model(checkpoint.folder):
        return AutoImageProcessor.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )


@lru_cache(maxsize=4)
def audio_extractor(checkpoint: Checkpoint) -> Any:  # noqa: ANN401
    """Return what cuts sounds into frames for a checkpoint."""
    from transformers import AutoFeatureExtractor

    with quiet_and_offline(), broken_model(checkpoint.folder):
        return AutoFeatureExtractor.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )


def image_inputs(checkpoint: Checkpoint, picture: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """Return what the model reads of one picture."""
    inputs = image_processor(checkpoint)(images=[picture], return_tensors="np")
    return {"pixel_values": np.asarray(inputs["pixel_values"][0])}


def sound_inputs(checkpoint: Checkpoint, samples: FloatArray) -> Mapping[str, Any]:
    """Return what the model reads of one sound, mono samples at its rate."""
    extractor = audio_extractor(checkpoint)
    inputs = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="np")
    return {name: np.asarray(values[0]) for name, values in inputs.items()}


def tensors(batch: list[Mapping[str, Any]], model: Any, device: str) -> dict[str, Any]:  # noqa: ANN401
    """Stack the inputs of a batch on a device."""
    import torch

    stacked = {name: torch.from_numpy(np.stack([content[name] for content in batch])) for name in batch[0]}
    kind = next(model.parameters()).dtype
    return {n: (t.to(device, kind) if t.is_floating_point() else t.to(device)) for n, t in stacked.items()}


def run(call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Call a model without gradients."""
    import torch

    with torch.inference_mode():
        return call(**inputs)


def array(values: Any) -> FloatArray:  # noqa: ANN401
    """Return a tensor as float32 in memory."""
    array: FloatArray = values.float().cpu().numpy()
    return array


def sentence_vectors(model: Any, texts: list[str], device: str, max_length: int) -> FloatArray:  # noqa: ANN401
    """Return the (n, d) vectors of a sentence-transformers model."""
    model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    encoded = model.encode(
        texts, batch_size=len(texts), convert_to_numpy=True, show_progress_bar=False, device=device
    )
    return np.asarray(encoded, dtype=np.float32)


def text_vectors(
    model: Any,  # noqa: ANN401
    texts: list[str],
    device: str,
    checkpoint: Checkpoint,
    pooling: str,
    max_length: int,
) -> FloatArray:
    """Return the (n, d) pooled hidden states of texts, encoded in batches of like length."""
    longest = min(max_length, getattr(model.config, "max_position_embeddings", max_length))
    tokens = tokenizer(checkpoint)(
        texts, padding=True, truncation=True, max_length=longest, return_tensors="pt"
    ).to(device)
    hidden = run(model, tokens).last_hidden_state
    return array(pooled(hidden, "mean" if pooling == "auto" else pooling, tokens["attention_mask"]))


def hidden_vectors(model: Any, batch: list[Mapping[str, Any]], device: str, pooling: str) -> FloatArray:  # noqa: ANN401
    """Return the (n, d) pooled hidden states of a batch."""
    hidden = run(model, tensors(batch, model, device)).last_hidden_state
    # A convolutional network gives a map of (n, channels, height, width).
    return array(hidden.flatten(2).mean(2) if hidden.ndim == 4 else pooled(hidden, pooling, None))


def audio_vectors(model: Any, batch: list[Mapping[str, Any]], device: str, pooling: str) -> FloatArray:  # noqa: ANN401
    """Return the (n, d) vectors of sounds: those of the shared space where the model has one."""
    if hasattr(model, "get_audio_features"):
        return joint(run(model.get_audio_features, tensors(batch, model, device)))
    return hidden_vectors(model, batch, device, "mean" if pooling == "auto" else pooling)


def joint_image_vectors(model: Any, batch: list[Mapping[str, Any]], device: str) -> FloatArray:  # noqa: ANN401
    """Return the (n, d) vectors of pictures in the space that texts share."""
    return joint(run(model.get_image_features, tensors(batch, model, device)))


def joint_text_vectors(model: Any, texts: list[str], device: str, checkpoint: Checkpoint) -> FloatArray:  # noqa: ANN401
    """Return the (n, d) vectors of texts in the space that pictures share."""
    # SigLIP was trained on texts padded to the longest, CLIP reads them either way.
    longest = model.config.text_config.max_position_embeddings
    tokens = tokenizer(checkpoint)(
        texts, padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
    ).to(device)
    inputs = {"input_ids": tokens["input_ids"]}
    if model.config.model_type == "clip":
        inputs["attention_mask"] = tokens["attention_mask"]
    return joint(run(model.get_text_features, inputs))


def joint(output: Any) -> FloatArray:  # noqa: ANN401
    """Return the projected vectors: they are the output itself, or its pooled part."""
    return array(getattr(output, "pooler_output", output))


def pooled(hidden: Any, pooling: str, mask: Any) -> Any:  # noqa: ANN401
    """Return (n, width) of (n, tokens, width) hidden states; `mask` is (n, tokens) or None."""
    import torch

    if pooling == "cls":
        return hidden[:, 0]
    if mask is None:
        return hidden[:, -1] if pooling == "last" else hidden.float().mean(1)
    if pooling == "last":
        return hidden[torch.arange(len(hidden)), mask.sum(1) - 1]
    weights = mask[:, :, None].float()
    return (hidden.float() * weights).sum(1) / weights.sum(1).clamp(min=1)
