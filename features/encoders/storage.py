"""Reading and writing what an encoder learned: JSON and `.npy` files whose bytes depend on nothing else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import DataError


def write_json(folder: Path, name: str, value: object) -> None:
    """Write `<name>.json` with sorted keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / f"{name}.json").write_bytes((text + "\n").encode())


def read_json(folder: Path, name: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read `<name>.json`; raises DataError if it is not there or broken."""
    path = folder / f"{name}.json"
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _broken(path, error) from error


def write_array(folder: Path, name: str, array: NDArray[Any]) -> None:
    """Write `<name>.npy` in C order."""
    np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


def read_array(folder: Path, name: str) -> NDArray[Any]:
    """Read `<name>.npy`; raises DataError if it is not there or broken."""
    path = folder / f"{name}.npy"
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _broken(path, error) from error
    return array


def parameters_of(encoder: object) -> Mapping[str, object]:
    """Return the constructor parameters of an encoder that is a dataclass."""
    return {f.name: getattr(encoder, f.name) for f in dataclasses.fields(encoder) if f.init}  # type: ignore[arg-type]


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(
        f"got {error}, expected a file that a saved encoder wrote",
        fix="fit and save the encoder again",
        file=str(path),
    )
