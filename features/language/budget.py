"""How much a run may ask of a language model, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

CHARACTERS_A_TOKEN = 3
"""Of a prompt whose tokens are not counted yet: few, so that the guess is rather too high."""


class BudgetSpentError(Exception):
    """The next call would go over the budget; what was asked before is kept."""


@dataclass
class Budget:
    """Counts calls and tokens, failed ones too, and keeps calls apart in time.

    Attributes
    ----------
    calls, tokens
        Most of each that a run may use.
    per_minute
        Most calls a minute, evenly spaced; None does not wait.
    """

    calls: int
    tokens: int
    per_minute: float | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    used_calls: int = field(default=0, init=False)
    used_tokens: int = field(default=0, init=False)
    _next: float = field(default=0.0, init=False)

    def take(self, prompt: str) -> None:
        """Count a call and wait for its turn.

        Raises
        ------
        BudgetSpentError
            If it is one call too many, or its prompt may be too many tokens.
        """
        if self.used_calls >= self.calls:
            raise BudgetSpentError(f"the budget of {self.calls} calls is spent")
        if self.used_tokens + len(prompt) // CHARACTERS_A_TOKEN > self.tokens:
            raise BudgetSpentError(f"the budget of {self.tokens} tokens is spent")
        self.used_calls += 1
        if self.per_minute is not None:
            now = self.clock()
            if now < self._next:
                self.sleep(self._next - now)
            self._next = max(now, self._next) + 60.0 / self.per_minute

    def count(self, tokens: int) -> None:
        """Count the tokens of a call."""
        self.used_tokens += max(tokens, 0)
