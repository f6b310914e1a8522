"""The bundle: everything that scoring needs, as one folder without pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ensembles.stack import Stack
from features.builder import FeatureModel, FeatureSettings
from features.encoders import Encoder, encoder_digest, load_encoder, save_encoder
from features.errors import DataError
from features.history import History, IdIndex
from features.retrievers import BEHAVIOUR, content_retrievers, load_retriever
from features.retrievers.base import csr_from, csr_parts
from features.space import ModalityVectors, Space
from modalrank.config import Config, dump_config, parse_config
from modalrank.drift import Reference

LAYOUT = 3
MANIFEST = "manifest.json"
REFERENCE = "reference.json"
LIBRARIES = ("catboost", "implicit", "lightgbm", "numpy", "polars", "scikit-learn", "scipy", "xgboost")


@dataclass(frozen=True)
class Bundle:
    """A model that scores.

    Attributes
    ----------
    model
        What is known of users and items.
    stack
        The bases that the chosen meta-learner reads, and itself.
    blocks
        Base name to the blocks of features that it reads.
    reference
        The scored candidates of the hold-out, which later ones are compared with.
    """

    config: Config
    queries: IdIndex
    items: IdIndex
    encoders: Mapping[str, Encoder]
    model: FeatureModel
    stack: Stack
    blocks: Mapping[str, tuple[str, ...]]
    reference: Reference | None = None

    @property
    def modalities_read(self) -> frozenset[str]:
        """Blocks that the bases of the stack read."""
        return frozenset(block for base in self.stack.bases for block in self.blocks[base])

    def save(self, folder: Path) -> None:
        """Write everything into an existing empty folder."""
        (folder / "config.yaml").write_text(dump_config(self.config), encoding="utf-8")
        np.save(folder / "queries.npy", self.queries.ids)
        np.save(folder / "items.npy", self.items.ids)
        _save_history(folder / "history.npz", self.model.history)
        for name, encoder in self.encoders.items():
            save_encoder(encoder, folder / "encoders" / name)
        for table, space in (("items", self.model.items), ("users", self.model.users)):
            (folder / "vectors" / table).mkdir(parents=True)
            for name, modality in space.items():
                _save_modality(folder / "vectors" / table / f"{name}.npz", modality)
        for retriever in self.model.retrievers:
            if retriever.block == BEHAVIOUR:
                retriever.save(_made(folder / "retrievers" / retriever.name))
        self.stack.save(_made(folder / "stack"))
        if self.reference is not None:
            (folder / REFERENCE).write_text(json.dumps(self.reference.as_dict()), encoding="utf-8")
        (folder / MANIFEST).write_text(json.dumps(self._manifest(folder), indent=1), encoding="utf-8")

    def _manifest(self, folder: Path) -> dict[str, Any]:
        behaviour = [r.name for r in self.model.retrievers if r.block == BEHAVIOUR]
        return {
            "layout": LAYOUT,
            "settings": vars(self.model.settings),
            "history": {"positive_from": self.model.history.positive_from},
            "item_modalities": list(self.model.items),
            "user_modalities": list(self.model.users),
            "retrievers": behaviour,
            "blocks": {name: list(blocks) for name, blocks in self.blocks.items()},
            "encoders": {name: encoder_digest(folder / "encoders" / name) for name in self.encoders},
            "files": {path: digest for path, digest in _digests(folder).items()},
            "versions": {name: version(name) for name in LIBRARIES},
        }

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            If a file is missing or is not the one that was saved, or an encoder is not the one that made the
            vectors.
        """
        manifest = _read_manifest(folder)
        config = parse_config(
            yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")), str(folder / "config.yaml")
        )
        queries, items = (
            IdIndex(np.load(folder / f"{n}.npy", allow_pickle=False)) for n in ("queries", "items")
        )
        spaces: dict[str, Space] = {
            table: {
                name: _load_modality(folder / "vectors" / table / f"{name}.npz")
                for name in manifest[f"{table[:-1]}_modalities"]
            }
            for table in ("items", "users")
        }
        retrievers = [load_retriever(folder / "retrievers" / name) for name in manifest["retrievers"]]
        history = _load_history(folder / "history.npz", len(queries), len(items), **manifest["history"])
        content = content_retrievers(spaces["items"], retrievers, history)
        settings = manifest["settings"]
        model = FeatureModel(
            history,
            spaces["items"],
            spaces["users"],
            (*retrievers, *content),
            FeatureSettings(
                **(settings | {n: tuple(settings.get(n, ())) for n in ("exclude", "categories")})
            ),
        )
        encoders = _load_encoders(folder, manifest["encoders"], spaces)
        blocks = {name: tuple(blocks) for name, blocks in manifest["blocks"].items()}
        stack, reference = Stack.load(folder / "stack"), _load_reference(folder / REFERENCE)
        return cls(config, queries, items, encoders, model, stack, blocks, reference)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    fix = "register the model again, or fetch its artefact again"
    if not path.is_file():
        raise DataError(
            f"no {MANIFEST}, expected the folder of a model", fix="check the model's name", file=str(folder)
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError("this is not the manifest that was saved", fix=fix, file=str(path)) from error
    if manifest["layout"] != LAYOUT:
        raise DataError(
            f"got a model of layout {manifest['layout']}, expected {LAYOUT}",
            fix="score with the version of modalrank that trained it, or train again",
            file=str(path),
        )
    found = _digests(folder)
    for name, digest in manifest["files"].items():
        if found.get(name) != digest:
            problem = "is missing" if name not in found else "is not the file that was saved"
            raise DataError(f"the model's file {problem}", fix=fix, file=str(folder / name))
    return manifest


def _load_encoders(
    folder: Path, digests: Mapping[str, str], spaces: Mapping[str, Space]
) -> dict[str, Encoder]:
    """Read the encoders; new vectors of another encoder or width cannot be compared with the model's own."""
    encoders = {}
    for name, expected in digests.items():
        own = folder / "encoders" / name
        found = encoder_digest(own)
        if found != expected:
            raise DataError(
                f"got the encoder of digest {found[:12]} for {name}, expected {expected[:12]} as in training",
                fix="register the model again, or fetch its artefact again",
                file=str(own),
            )
        encoders[name] = load_encoder(own)
        widths = [space[name].vectors.shape[1] for space in spaces.values() if name in space]
        if any(width != encoders[name].width for width in widths):
            raise DataError(
                f"got an encoder of width {encoders[name].width} for {name}, whose vectors have {widths[0]}",
                fix="register the model again, or fetch its artefact again",
                file=str(own),
            )
    return encoders


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file but the manifest, by its relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _save_history(path: Path, history: History) -> None:
    arrays = {"users": history.users, "items": history.items, "labels": history.labels}
    if history.times is not None:
        arrays["times"] = history.times
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def _load_history(path: Path, n_users: int, n_items: int, positive_from: float) -> History:
    with np.load(path, allow_pickle=False) as arrays:
        times = arrays["times"] if "times" in arrays else None
        return History(
            arrays["users"], arrays["items"], arrays["labels"], times, n_users, n_items, positive_from
        )


def _save_modality(path: Path, modality: ModalityVectors) -> None:
    arrays = {"vectors": modality.vectors, "present": modality.present}
    if modality.guessed is not None:
        arrays["guessed"] = modality.guessed
    if modality.graph is not None:
        arrays |= csr_parts(modality.graph, "graph_")
    if modality.terms is not None:
        arrays |= {**csr_parts(modality.terms, "terms_"), "n_terms": np.array(modality.terms.shape[1])}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _load_modality(path: Path) -> ModalityVectors:
    with np.load(path, allow_pickle=False) as arrays:
        guessed = arrays["guessed"] if "guessed" in arrays else None
        return ModalityVectors(
            arrays["vectors"],
            arrays["present"],
            csr_from(arrays, len(arrays["present"]), "graph_") if "graph_indptr" in arrays else None,
            guessed=guessed,
            terms=csr_from(arrays, int(arrays["n_terms"]), "terms_") if "n_terms" in arrays else None,
        )


def _load_reference(path: Path) -> Reference | None:
    if not path.is_file():
        return None
    return Reference.from_dict(json.loads(path.read_text(encoding="utf-8")))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
