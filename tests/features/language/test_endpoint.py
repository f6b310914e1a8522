from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from features.errors import ConfigError, DataError, TryAgainError
from features.language import Budget, BudgetSpentError, Endpoint, EndpointSettings
from tests.features.language.server import Fault, Served, judged, said, serve

SCHEMA = {"mood": ["dark", "light"], "pace": ["slow", "fast"]}


@pytest.fixture
def server() -> Iterator[Served]:
    with serve(lambda body: judged({"Yes": 0.6, " no": 0.2, "maybe": 0.1})) as served:
        yield served


def endpoint(url: str, slept: list[float] | None = None, calls: int = 100, tokens: int = 100_000, **settings):
    waits = [] if slept is None else slept
    return Endpoint(EndpointSettings(url, "tiny", **settings), Budget(calls, tokens), sleep=waits.append)


def test_yes_is_the_share_of_yes_among_both_answers(server):
    assert endpoint(server.url).yes("Like it?") == pytest.approx(0.75)
    [call] = server.calls
    assert call["path"] == "/v1/chat/completions"
    assert call["messages"] == [{"role": "user", "content": "Like it?"}]
    assert (call["model"], call["max_tokens"], call["logprobs"], call["temperature"]) == ("tiny", 1, True, 0)


def test_yes_adds_up_all_ways_to_write_the_word():
    with serve(lambda _: judged({"Yes": 0.2, "yes": 0.2, " YES": 0.1, "No": 0.1, "NO": 0.1})) as server:
        assert endpoint(server.url).yes("?") == pytest.approx(5 / 7)


def test_yes_neither_answer_considered_is_none():
    with serve(lambda _: judged({"maybe": 0.9})) as server:
        assert endpoint(server.url).yes("?") is None


def with_first(token: bytes) -> Fault:
    """Return an answer of the protocol with one token as given."""
    content = b'{"choices": [{"logprobs": {"content": [{"top_logprobs": [%s]}]}}]}'
    return Fault(200, content % token)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, b"{}"),
        Fault(503, b"busy"),
        Fault(200, b'{"choices": [{'),
        Fault(200, b"[]"),
        Fault(200, b'{"choices": []}'),
        with_first(b'{"token": "yes", "logprob": NaN}'),
        with_first(b'{"token": "yes", "logprob": 7}'),
        with_first(b'{"token": "yes", "logprob": "a"}'),
        Fault(200, b'{"choices": [{"logprobs": {"content": []}, "message": {}}]}'),
        with_first(b'{"logprob": -1}'),
        Fault(200, b"x" * ((1 << 20) + 1)),
    ],
    ids=str,
)
def test_one_fault_is_tried_again_and_a_lasting_one_ends_with_try_again(server, fault):
    slept: list[float] = []
    server.faults[:] = [fault]
    assert endpoint(server.url, slept).yes("?") == pytest.approx(0.75)
    assert len(slept) == 1
    server.faults[:] = [fault] * 3
    with pytest.raises(TryAgainError, match="does not answer properly") as caught:
        endpoint(server.url, retries=2).yes("?")
    assert caught.value.exit_code == 5
    assert len(server.calls) == 5


def test_server_that_is_too_slow_times_out_and_is_asked_again(server):
    server.faults[:] = [Fault(seconds=0.6)]
    assert endpoint(server.url, timeout=0.2).yes("?") == pytest.approx(0.75)
    assert len(server.calls) == 2


def test_nobody_at_the_address_ends_with_try_again():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(TryAgainError):
        endpoint(url, retries=1).yes("?")


def test_waits_grow_and_retry_after_goes_before_them(server):
    slept: list[float] = []
    server.faults[:] = [Fault(429, b""), Fault(500, b""), Fault(429, b"", headers={"Retry-After": "7"})]
    endpoint(server.url, slept).yes("?")
    assert 0.5 <= slept[0] <= 1 <= slept[1] <= 2
    assert slept[2] == 7


def test_refusal_for_good_is_not_tried_again(server):
    server.faults[:] = [Fault(401, b'{"error": "bad key"}')]
    with pytest.raises(DataError, match=r"status 401.*bad key"):
        endpoint(server.url).yes("?")
    assert len(server.calls) == 1


def test_redirect_is_not_followed(server):
    server.faults[:] = [Fault(302, b"", headers={"Location": server.url + "/elsewhere"})]
    with pytest.raises(DataError, match="status 302"):
        endpoint(server.url).yes("?")
    assert len(server.calls) == 1


def test_server_without_log_probabilities_is_told():
    with serve(lambda _: said("yes")) as server, pytest.raises(DataError, match="no log probabilities"):
        endpoint(server.url).yes("?")


def test_key_is_taken_from_the_variable_that_is_named(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    endpoint(server.url, key_variable="MY_KEY").yes("?")
    assert server.headers[0]["Authorization"] == "Bearer secret"
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(ConfigError, match="MY_KEY is not set"):
        endpoint(server.url, key_variable="MY_KEY").yes("?")
    assert "Authorization" not in (endpoint(server.url).yes("?") and server.headers[-1])


def test_budget_of_calls_counts_retries_too(server):
    server.faults[:] = [Fault(500, b"")]
    model = endpoint(server.url, calls=3)
    model.yes("a")
    model.yes("b")
    with pytest.raises(BudgetSpentError, match="3 calls"):
        model.yes("c")
    assert len(server.calls) == 3


def test_budget_of_tokens_counts_what_the_server_says(server):
    model = endpoint(server.url, tokens=79)
    model.yes("a")
    model.yes("b")
    with pytest.raises(BudgetSpentError, match="79 tokens"):
        model.yes("c")
    with pytest.raises(BudgetSpentError):
        endpoint(server.url, tokens=79).yes("x" * 1000)
    assert len(server.calls) == 2


def test_budget_spaces_calls_evenly():
    now, slept = [100.0], list[float]()
    budget = Budget(10, 100, per_minute=30, clock=lambda: now[0], sleep=slept.append)
    budget.take("")
    now[0] = 100.5
    budget.take("")
    now[0] = 110.0
    budget.take("")
    assert slept == [1.5]


def test_choose_asks_for_the_schema_and_returns_the_words():
    with serve(lambda _: said('{"mood": "dark", "pace": "fast"}')) as server:
        assert endpoint(server.url).choose("A story", SCHEMA) == {"mood": "dark", "pace": "fast"}
    asked = server.calls[0]["response_format"]["json_schema"]
    assert asked["strict"] is True
    assert asked["schema"]["properties"]["mood"]["enum"] == ["dark", "light"]
    assert asked["schema"]["required"] == ["mood", "pace"]


@pytest.mark.parametrize(
    "content",
    ["no json", '{"mood": "dark"}', json.dumps({"mood": "grey", "pace": "fast"}), "[]"],
)
def test_choose_answer_outside_the_schema_is_none(content):
    with serve(lambda _: said(content)) as server:
        assert endpoint(server.url).choose("A story", SCHEMA) is None


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "localhost:8000", "ftp://x/v1", "http://", "http://a:b@c/v1"]
)
def test_url_that_is_no_web_address_or_holds_a_password_is_refused(url):
    with pytest.raises(ConfigError, match="endpoint: got"):
        EndpointSettings(url, "tiny")
