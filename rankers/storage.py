"""The `ranker.json` that names what a saved ranker is; the native model files lie beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from features.errors import DataError

FILE_NAME = "ranker.json"
LAYOUT = 1


@dataclass(frozen=True)
class Manifest:
    """What `ranker.json` holds: the family, the constructor's parameters and what `fit` learned."""

    family: str
    parameters: Mapping[str, Any]
    learned: Mapping[str, Any]


def constructor_parameters(ranker: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    """Return the values that the constructor of a dataclass was given."""
    return {f.name: getattr(ranker, f.name) for f in fields(ranker) if f.init}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `ranker.json` into an existing folder."""
    content = {
        "layout": LAYOUT,
        "family": manifest.family,
        "parameters": dict(manifest.parameters),
        "learned": dict(manifest.learned),
    }
    (folder / FILE_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path, family: str | None = None) -> Manifest:
    """Read `ranker.json`.

    Raises
    ------
    DataError
        If the file is missing, not of this layout, or names another family than `family`.
    """
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"got no {FILE_NAME}, expected the folder of a saved ranker",
            file=str(path),
            fix="check the folder",
        ) from None
    except ValueError as error:
        raise DataError(f"not JSON: {error}", file=str(path), fix="save the ranker again") from error
    if not isinstance(content, dict) or content.get("layout") != LAYOUT:
        found = content.get("layout") if isinstance(content, dict) else None
        raise DataError(
            f"got layout {found!r}, expected {LAYOUT}",
            file=str(path),
            fix="use the version of modalrank that saved it, or train again",
        )
    manifest = Manifest(content["family"], content["parameters"], content["learned"])
    if family is not None and manifest.family != family:
        raise DataError(
            f"got a {manifest.family!r} ranker, expected {family!r}", file=str(path), fix="use load_ranker"
        )
    return manifest
