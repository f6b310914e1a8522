"""A real HTTP server on loopback that speaks the OpenAI protocol, with the faults that a test asks for."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Fault:
    """What a call gets in place of an answer: a status, other bytes, or nothing for some seconds."""

    status: int = 200
    content: bytes | None = None
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Served:
    """A running server: its URL, the calls that it got, and the faults of the next calls."""

    url: str
    calls: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def judged(chances: dict[str, float], tokens: int = 40) -> dict[str, Any]:
    """Return an answer of the protocol with these chances of the next token."""
    top = [{"token": token, "logprob": math.log(chance)} for token, chance in chances.items()]
    first = {"token": top[0]["token"], "logprob": top[0]["logprob"], "top_logprobs": top}
    choice = {"message": {"content": first["token"]}, "logprobs": {"content": [first]}}
    return {"choices": [choice], "usage": {"total_tokens": tokens}}


def said(content: str, tokens: int = 40) -> dict[str, Any]:
    """Return an answer of the protocol with this text."""
    return {"choices": [{"message": {"content": content}}], "usage": {"total_tokens": tokens}}


@contextmanager
def serve(answer: Answer) -> Iterator[Served]:
    """Serve on a free port of loopback until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.calls.append({"path": self.path, **body})
            served.headers.append(dict(self.headers))
            fault = served.faults.pop(0) if served.faults else Fault()
            time.sleep(fault.seconds)
            content = json.dumps(answer(body)).encode() if fault.content is None else fault.content
            try:
                self.send_response(fault.status)
                for name, value in fault.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client gave up, as a test of time-outs wants

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
