"""Which keys a JSON schema knows at a place, to tell a user what a mistyped one was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any


def nearest_key(schema: Mapping[str, Any], where: Sequence[Any]) -> str:
    """Return, for an unknown key at a path, the known key nearest to it, or all that are known there."""
    parts = [str(part) for part in where]
    known = _known_keys(schema, parts[:-1])
    close = difflib.get_close_matches(parts[-1], known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known keys there are {', '.join(known)}"


def _known_keys(schema: Mapping[str, Any], section: Sequence[str]) -> list[str]:
    node: Mapping[str, Any] = schema
    for part in section:
        node = _resolve(schema, node)
        properties = node.get("properties", {})
        node = properties.get(part) or node.get("additionalProperties") or node.get("items") or {}
    return sorted(_resolve(schema, node).get("properties", {}))


def _resolve(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    for option in [node, *node.get("anyOf", []), *node.get("allOf", [])]:
        if "$ref" in option:
            return _resolve(schema, schema["$defs"][option["$ref"].rsplit("/", 1)[1]])
    for option in node.get("anyOf", []):
        if option.get("type") in ("array", "object"):
            return option  # type: ignore[no-any-return]
    return node
