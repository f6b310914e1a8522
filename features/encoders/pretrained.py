"""Pretrained models on disk: pinned, digested and loaded, offline unless asked, never with their code."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from features.errors import ConfigError, DataError

MODELS_VARIABLE = "MODALRANK_MODELS"
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
READ = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""Files of a model that are read: settings, weights without pickle, vocabularies."""
TRUSTED_MODULES = "sentence_transformers."
LIBRARIES = ("tokenizers", "torch", "transformers")
GPU_BATCH = 64


@dataclass(frozen=True)
class Checkpoint:
    """A folder of weights whose content is known.

    Attributes
    ----------
    folder
        Where the files are.
    digest
        SHA-256 over the names and contents of all files that are read.
    """

    folder: Path
    digest: str

    @property
    def is_sentence_model(self) -> bool:
        """Tell whether sentence-transformers made it, with its own pooling."""
        return (self.folder / "modules.json").is_file()


def find_checkpoint(kind: str, model: str, revision: str | None, download: bool) -> Checkpoint:
    """Return the files of a model: a folder, one of MODALRANK_MODELS, or a pinned version from the hub.

    Raises
    ------
    ConfigError
        If torch is not installed, the model is not there, or a hub name has no commit as its revision.
    """
    require_libraries(kind)
    folder = _folder(model)
    if folder is None:
        folder = _from_hub(kind, model, revision, download)
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise ConfigError(
            f"{kind}: {folder} holds no config.json", fix="name the folder of a transformers model"
        )
    return Checkpoint(folder, _digest(folder))


def require_libraries(kind: str) -> None:
    """Raise ConfigError if torch or transformers is not installed."""
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"encoder {kind!r} needs {name}, which is not installed",
                fix="pip install 'modalrank[neural]', or choose an encoder that needs no torch",
            )


def resolve_torch_device(kind: str, device: str) -> str:
    """Return "cpu" or "cuda"; raises ConfigError if `cuda` is asked for and is not there."""
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ConfigError(f"{kind}: device: torch finds no CUDA device", fix="set device to cpu or auto")
    return "cuda" if available and device != "cpu" else "cpu"


@contextmanager
def quiet_and_offline() -> Iterator[None]:
    """Keep the libraries off the network, and their bars and hints off the terminal."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


Head = Literal["base", "causal"]


@lru_cache(maxsize=2)
def load_model(folder: Path, digest: str, device: str, half: bool, head: Head = "base") -> Any:  # noqa: ANN401
    """Load weights for reading only: float16 where `half` and on CUDA, else float32.

    `digest` keeps what is in memory apart from a folder that has changed since.

    Raises
    ------
    DataError
        If the folder has no safetensors of a class that transformers knows.
    """
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    auto = AutoModel if head == "base" else AutoModelForCausalLM
    kind = torch.float16 if half and device == "cuda" else torch.float32
    with quiet_and_offline(), broken_model(folder):
        model = auto.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=kind
        )
    return model.to(device).eval()


@lru_cache(maxsize=2)
def load_sentence_model(folder: Path, digest: str, device: str, half: bool) -> Any:  # noqa: ANN401
    """Load a sentence-transformers model; its modules must be of that library.

    Raises
    ------
    ConfigError
        If sentence-transformers is not installed.
    DataError
        If a module is of another library, whose code would run.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ConfigError(
            f"{folder} is a model of sentence-transformers, which is not installed",
            fix="pip install 'modalrank[neural]'",
        )
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    foreign = [part["type"] for part in modules if not str(part["type"]).startswith(TRUSTED_MODULES)]
    if foreign:
        raise DataError(
            f"got a module of type {foreign[0]!r}, expected modules of sentence-transformers only",
            fix="choose a model without code of its own",
            file=str(folder / "modules.json"),
        )
    import torch
    from sentence_transformers import SentenceTransformer

    kind = torch.float16 if half and device == "cuda" else torch.float32
    with quiet_and_offline(), broken_model(folder):
        return SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True, "dtype": kind},
        ).eval()


@contextmanager
def broken_model(folder: Path) -> Iterator[None]:
    """Turn what the libraries raise for a model that they cannot load into a DataError."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise DataError(
            f"the model cannot be loaded: {reason}",
            fix="name a complete transformers model with safetensors weights and no code of its own",
            file=str(folder),
        ) from error


def _folder(model: str) -> Path | None:
    """Return the folder that a name means, None where there is none."""
    places = [Path(model)]
    if os.environ.get(MODELS_VARIABLE):
        places.append(Path(os.environ[MODELS_VARIABLE]) / model)
    return next((place.resolve() for place in places if place.is_dir()), None)


def _from_hub(kind: str, model: str, revision: str | None, download: bool) -> Path:
    if not HUB_NAME.fullmatch(model):
        raise ConfigError(
            f"{kind}: model: there is no folder {model!r}",
            fix=f"name a folder, a folder of ${MODELS_VARIABLE}, or owner/name of the hub with its revision",
        )
    if revision is None or not COMMIT.fullmatch(revision):
        raise ConfigError(
            f"{kind}: revision: got {revision!r}, expected the 40 hex digits of a commit of {model}",
            fix="pin the commit, which the hub shows under Files and versions",
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                model, revision=revision, local_files_only=not download, allow_patterns=list(READ)
            )
        )
    except Exception as error:
        hint = "check the name and the network" if download else "set download: true to fetch it once"
        raise ConfigError(
            f"{kind}: model {model} at {revision} is not on this machine: {type(error).__name__}",
            fix=f"{hint}, or name a folder",
        ) from error


def _digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and any(map(path.match, READ)))
    stamps = tuple((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)
    return _digest_of(str(folder), stamps)


@lru_cache(maxsize=16)
def _digest_of(folder: str, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Digest the contents once as long as sizes and times stay as they are."""
    digest = hashlib.sha256()
    for name, size, _ in stamps:
        path = Path(name)
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder)} {size} {content}\n".encode())
    return digest.hexdigest()
