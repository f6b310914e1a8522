"""How many threads a ranker is fitted with where several are fitted side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_granted: ContextVar[int] = ContextVar("granted", default=0)


@contextmanager
def granted_threads(number: int) -> Iterator[None]:
    """Let rankers that this thread fits take so many threads; 0 leaves it to them.

    A ranker's own number is for scoring too, where it has the machine for itself.
    """
    token = _granted.set(number)
    try:
        yield
    finally:
        _granted.reset(token)


def fitting_threads(own: int) -> int:
    """Return the threads that a ranker with its `own` number is fitted with, 0 for all."""
    return _granted.get() or own
