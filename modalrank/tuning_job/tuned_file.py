"""The best settings as a config file that `modalrank train` takes as it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from modalrank.config import Config
from modalrank.config_file import apply_override, expand_variables, read_yaml

SECTIONS = ("modalities", "candidates", "labels", "bases", "ensemble")


def tuned_text(source: Path, overrides: Sequence[str], default: Config, tuned: Config, target: Path) -> str:
    """Return the user's own config with its overrides and the sections that the search changed.

    `data.root` keeps its words where the new file lies in the same folder; elsewhere, or where an override
    set it, it becomes absolute.
    """
    raw = read_yaml(source)
    given = {apply_override(raw, override) for override in overrides}
    for name in SECTIONS:
        if getattr(tuned, name) != getattr(default, name):
            raw[name] = tuned.model_dump(mode="json", include={name}, exclude_unset=True)[name]
    data = raw.setdefault("data", {})
    if "data.root" in given:
        data["root"] = str(Path(str(data["root"])).resolve())
    elif source.parent.resolve() != target.parent.resolve():
        data["root"] = str((source.parent / expand_variables(str(data.get("root", ".")))).resolve())
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


def write_whole(target: Path, text: str) -> None:
    """Write a file by one rename, so that it is the old or the new one whenever the process ends."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(target)
