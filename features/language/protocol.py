"""What is asked of a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

Schema = Mapping[str, Sequence[str]]
"""Attribute to the words that are allowed as its value."""


class LanguageModel(Protocol):
    """Answers one prompt at a time, the same answer each time."""

    @property
    def digest(self) -> str:
        """What decides the answers besides the prompt, as a part of a cache key."""
        ...

    def yes(self, prompt: str) -> float | None:
        """Return P(yes) / (P(yes) + P(no)) of the next token, None where the model considers neither."""
        ...

    def choose(self, prompt: str, schema: Schema) -> dict[str, str] | None:
        """Return one allowed word for every attribute, None where the model gives no such answer."""
        ...
