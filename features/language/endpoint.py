"""A language model behind an OpenAI-compatible endpoint (vLLM, llama.cpp, Ollama)."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast
from urllib.parse import urlsplit

import urllib3
from pydantic import ValidationError, create_model

from features.errors import ConfigError, DataError, TryAgainError
from features.language.budget import Budget
from features.language.protocol import Schema

Parsed = TypeVar("Parsed")

TOP_TOKENS = 20
LARGEST_ANSWER = 1 << 20
LONGEST_WAIT = 60.0
BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class EndpointSettings:
    """Where and how to ask.

    Attributes
    ----------
    url
        Base of the protocol, such as http://localhost:8000/v1; texts go there and nowhere else.
    model
        Name of the model there.
    key_variable
        Environment variable that holds the key; the key itself is never written anywhere.
    timeout
        Seconds for an answer.
    retries
        How often a call is tried again that is refused for now, times out or gets a broken answer.
    """

    url: str
    model: str
    key_variable: str | None = None
    timeout: float = 30.0
    retries: int = 4

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"endpoint: got {self.url!r}, expected a URL", fix="write http://localhost:8000/v1 or so"
            )
        if parts.username or parts.password:
            raise ConfigError(
                "endpoint: got a URL with a password",
                fix="put the key into a variable, named by key_variable",
            )


class _BrokenAnswerError(Exception):
    """The server answered with something that is not the protocol."""


@dataclass
class Endpoint:
    """Asks a server, again where it is busy, within a budget."""

    settings: EndpointSettings
    budget: Budget
    sleep: Callable[[float], None] = time.sleep
    _pool: urllib3.PoolManager = field(default_factory=urllib3.PoolManager, init=False, repr=False)

    @property
    def digest(self) -> str:
        """The server and the name of the model there: all that is known of it from outside."""
        return f"{self.settings.url} {self.settings.model}"

    def yes(self, prompt: str) -> float | None:
        """Return P(yes) / (P(yes) + P(no)) of the next token, None where neither is among the first 20.

        Raises
        ------
        DataError
            If the server refuses the call, or gives no log probabilities.
        TryAgainError
            If it did not answer properly after all retries.
        BudgetSpentError
            If the budget does not allow the call.
        """
        first = {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP_TOKENS}
        return self._ask(prompt, first, _yes_share)

    def choose(self, prompt: str, schema: Schema) -> dict[str, str] | None:
        """Return one allowed word for every attribute; None if no answer kept to the schema."""
        fields: dict[str, Any] = {name: (Literal[tuple(words)], ...) for name, words in schema.items()}
        model = create_model("Attributes", **fields)
        asked = {"name": "attributes", "strict": True, "schema": model.model_json_schema()}
        wanted = {"type": "json_schema", "json_schema": asked}
        extra = {"max_tokens": 64 + 32 * len(schema), "response_format": wanted}

        def parse(answer: Mapping[str, Any]) -> dict[str, str] | None:
            try:
                return dict(model.model_validate_json(_content(answer)).model_dump())
            except ValidationError:
                return None

        return self._ask(prompt, extra, parse)

    def _ask(
        self, prompt: str, extra: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], Parsed]
    ) -> Parsed:
        messages = [{"role": "user", "content": prompt}]
        body = {"model": self.settings.model, "messages": messages, "temperature": 0, "seed": 0, **extra}
        problem = ""
        for attempt in range(self.settings.retries + 1):
            self.budget.take(prompt)
            wait = min(LONGEST_WAIT, 2.0**attempt * (0.5 + random.random() / 2))
            try:
                answer = self._post(body)
                if isinstance(answer, _Busy):
                    problem, wait = answer.problem, answer.wait or wait
                else:
                    self.budget.count(_tokens(answer))
                    return parse(answer)
            except urllib3.exceptions.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
            except _BrokenAnswerError as error:
                problem = str(error)
            if attempt < self.settings.retries:
                self.sleep(wait)
        raise TryAgainError(f"{self.settings.url} does not answer properly: {problem}")

    def _post(self, body: Mapping[str, Any]) -> dict[str, Any] | _Busy:
        headers = {"Content-Type": "application/json"}
        if self.settings.key_variable:
            key = os.environ.get(self.settings.key_variable)
            if not key:
                raise ConfigError(
                    f"the variable {self.settings.key_variable} is not set", fix="export it with the key"
                )
            headers["Authorization"] = f"Bearer {key}"
        response = self._pool.request(
            "POST",
            self.settings.url.rstrip("/") + "/chat/completions",
            body=json.dumps(body).encode(),
            headers=headers,
            timeout=urllib3.Timeout(total=self.settings.timeout),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            content = response.read(LARGEST_ANSWER + 1, decode_content=True)
        finally:
            response.release_conn()
        if response.status in BUSY:
            return _Busy(f"status {response.status}", _seconds(response.headers.get("Retry-After")))
        if response.status != 200:
            said = content[:200].decode(errors="replace")
            raise DataError(
                f"{self.settings.url} refuses the call with status {response.status}: {said}",
                fix="check endpoint, model and key_variable",
            )
        return _parsed(content)


@dataclass(frozen=True)
class _Busy:
    """The server cannot answer now, and may say when it can."""

    problem: str
    wait: float | None


def _parsed(content: bytes) -> dict[str, Any]:
    if len(content) > LARGEST_ANSWER:
        raise _BrokenAnswerError(f"an answer of more than {LARGEST_ANSWER} bytes")
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise _BrokenAnswerError(f"an answer that is no JSON ({error})") from error
    if not isinstance(answer, dict):
        raise _BrokenAnswerError("an answer that is no JSON object")
    return answer


def _choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _BrokenAnswerError("an answer without choices")
    return choices[0]


def _content(answer: Mapping[str, Any]) -> str:
    message = _choice(answer).get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, str):
        raise _BrokenAnswerError("an answer without content")
    return content


def _yes_share(answer: Mapping[str, Any]) -> float | None:
    found = _choice(answer).get("logprobs")
    if not found:
        raise DataError(
            "the endpoint gives no log probabilities, of which relevance is made",
            fix="use a server and a model that support logprobs and top_logprobs",
        )
    try:
        tokens = [(token["token"], token["logprob"]) for token in found["content"][0]["top_logprobs"]]
        chances = {"yes": 0.0, "no": 0.0}
        for token, logprob in tokens:
            # A log probability is never above 0, but for rounding.
            if not isinstance(logprob, int | float) or math.isnan(logprob) or logprob > 1e-3:
                raise _BrokenAnswerError(f"a log probability of {logprob!r}")
            word = cast(str, token).strip().lower()
            if word in chances:
                chances[word] += math.exp(logprob)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _BrokenAnswerError("log probabilities of another form") from error
    total = chances["yes"] + chances["no"]
    return chances["yes"] / total if total > 0 else None


def _tokens(answer: Mapping[str, Any]) -> int:
    usage = answer.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) else 0


def _seconds(header: str | None) -> float | None:
    """Return what Retry-After says in seconds, within reason; dates are not read."""
    try:
        return min(LONGEST_WAIT, max(0.0, float(header))) if header else None
    except ValueError:
        return None
