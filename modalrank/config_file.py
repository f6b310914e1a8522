"""The YAML file of a config, and what the command line and the environment change in it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from features.errors import ConfigError

VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping; raises ConfigError where the file is missing, no UTF-8, no YAML or no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the config ({error.strerror})", fix="check the path", file=str(path)
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError("the config is not UTF-8", fix="save it as UTF-8", file=str(path)) from error
    raw = _parsed(text, str(path))
    if not isinstance(raw, dict):
        raise ConfigError(
            f"got {type(raw).__name__}, expected keys and values", fix="see the README", file=str(path)
        )
    return raw


def apply_override(raw: dict[str, Any], override: str) -> str:
    """Set the value of an `a.b=c` in a config and return its key; a part is a key, or a place in a list.

    Raises
    ------
    ConfigError
        If it has another form, its value is no YAML, or it leads into a value or out of a list.
    """
    key, separator, value = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"--set {override!r} is not of the form a.b=c", fix="give a dotted key and a value")
    parsed = _parsed(value, f"--set {override!r}")
    node: Any = raw
    *sections, last = parts
    for part in sections:
        if isinstance(node, dict):
            node.setdefault(part, {})
        node = node[_place(node, part, override)]
    node[_place(node, last, override)] = parsed
    return key.strip()


def expand_variables(text: str) -> str:
    """Replace every `${NAME}` and `${NAME:-default}`; raises ConfigError where a variable has neither."""

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if os.environ.get(name) is None and default is None:
            raise ConfigError(
                f"data.root names the variable {name}, which is not set", fix=f"export {name}=..."
            )
        return os.environ.get(name) or default or ""

    return VARIABLE.sub(value, text)


def _parsed(text: str, file: str) -> Any:  # noqa: ANN401 - any YAML
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(
            f"not valid YAML ({getattr(error, 'problem', error)})",
            fix="check the indentation, brackets and colons there",
            file=file,
            row=mark.line + 1 if mark else None,
        ) from error


def _place(node: Any, part: str, override: str) -> str | int:  # noqa: ANN401 - any YAML
    """Return the index of `part` in a section or a list."""
    if isinstance(node, dict):
        return part
    if not isinstance(node, list):
        raise ConfigError(
            f"--set {override!r}: there is a value before {part!r}, expected a section",
            fix="set it as a whole",
        )
    if not part.isdecimal() or int(part) >= len(node):
        raise ConfigError(
            f"--set {override!r}: {part!r} is no place in a list of {len(node)}", fix="count from 0"
        )
    return int(part)
