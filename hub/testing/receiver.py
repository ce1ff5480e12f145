"""A real HTTP server on a loopback port: it keeps what it was sent and answers what a test wants.

It runs in threads of its own, so that it answers even where the code under test blocks its loop, and serves
tests that are no coroutines too.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

_LOOK_EVERY = 0.05
_PATIENCE = 10.0
"""Seconds to wait for a request that a test says must come."""


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    """Without the query."""
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class _Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0
    hang_up: bool = False


class HttpReceiver:
    """What is sent to ``url``, in ``requests``; answers 200 until told otherwise."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self._answer = _Answer()
        self._make: Callable[[Received], Any] | None = None
        self._next_answers: deque[_Answer] = deque()
        self._taken = 0
        self._news = threading.Condition()
        self._over = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="hub receiver")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(
        self,
        status: int = 200,
        body: Any = b"",
        headers: Mapping[str, str] | None = None,
        *,
        after: float = 0.0,
        hang_up: bool = False,
    ) -> None:
        """Answer every request like this, those with an answer of their own excepted.

        ``body``: bytes and text as they are, the rest as JSON. ``after``: seconds before it answers.
        ``hang_up``: close the connection in place of an answer.
        """
        self._answer = _made(status, body, headers, after, hang_up)
        self._make = None

    def answer_next(
        self,
        status: int = 200,
        body: Any = b"",
        headers: Mapping[str, str] | None = None,
        *,
        after: float = 0.0,
        hang_up: bool = False,
    ) -> None:
        """Answer one request like this; several calls are for several requests, in order."""
        self._next_answers.append(_made(status, body, headers, after, hang_up))

    def answer_by(self, make: Callable[[Received], Any]) -> None:
        """Answer every request 200 with what ``make`` gives for it, called in the server's own thread."""
        self._make = make

    async def next(self, *, timeout: float = _PATIENCE) -> Received:
        """The next request that no call has given yet, waiting for it. Raises ``TimeoutError``."""
        return await asyncio.to_thread(self.wait, timeout=timeout)

    def wait(self, *, timeout: float = _PATIENCE) -> Received:
        """The same for tests that are no coroutines."""
        with self._news:
            if not self._news.wait_for(lambda: len(self.requests) > self._taken, timeout):
                raise TimeoutError(
                    f"no request came within {timeout:g} s; {len(self.requests)} had come before"
                )
            self._taken += 1
            return self.requests[self._taken - 1]

    def __enter__(self) -> HttpReceiver:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, request: Received) -> _Answer:
        with self._news:
            self.requests.append(request)
            answer = self._next_answers.popleft() if self._next_answers else None
            self._news.notify_all()
        if answer is None and self._make is not None:
            return _made(200, self._make(request), None, 0.0, False)
        return answer or self._answer


def _made(status: int, body: Any, headers: Mapping[str, str] | None, after: float, hang_up: bool) -> _Answer:
    given = dict(headers or {})
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
        given.setdefault("Content-Type", "application/json")
    return _Answer(status, body, given, after, hang_up)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, receiver: HttpReceiver) -> None:
        class Handler(_Handler):
            owner = receiver

        super().__init__(("127.0.0.1", 0), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        # named, so that a leak check knows whose they are
        threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="hub receiver",
            daemon=True,
        ).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is the test's own affair."""


class _Handler(BaseHTTPRequestHandler):
    owner: HttpReceiver
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        target = urlsplit(self.path)
        request = Received(
            self.command,
            target.path,
            parse_qs(target.query, keep_blank_values=True),
            {name.lower(): value for name, value in self.headers.items()},
            self._body(),
        )
        answer = self.owner._take(request)
        if answer.hang_up or not self._still_there(answer.after):
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _handle

    def _still_there(self, seconds: float) -> bool:
        """Wait for so long; False once the client has gone, or the receiver ends."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self.connection], [], [], min(left, _LOOK_EVERY))
            if self.owner._over.is_set() or (readable and not self.connection.recv(1, socket.MSG_PEEK)):
                return False
            if readable:
                self.owner._over.wait(_LOOK_EVERY)  # it has sent more already; nothing to hear for now
        return True

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        return b"".join(parts)

    def log_message(self, format: str, *args: Any) -> None:
        """The test asserts; nobody reads a log."""
