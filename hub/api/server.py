"""The HTTP server below the application: its own errors in our shape, and an end to requests that never come.

aiohttp answers what it cannot parse by itself, in plain text and before any middleware; here such answers get
the one shape and the headers of all others.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from hub.api.answers import SECURITY_HEADERS, error_answer
from hub.api.shortcut import SHORTCUT

log = structlog.get_logger("hub.api")

_IDLE = 630.0
"""Seconds between two requests of a connection; longer than the load balancers before a hub wait.

Also the longest for a head that begins behind another request, before that one's answer.
"""
_BYTES = re.compile(r"\s*(?:\bbytearray\()?\bb['\"].*")


class Connection(RequestHandler):
    """One connection, which knows since when it waits for the rest of a request's head."""

    __slots__ = ("handled", "has_begun", "is_endless", "is_handling", "waiting_since")

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.is_handling = False
        self.has_begun = False
        """Whether something came after the last request that was answered."""
        self.is_endless = False
        """Whether its answer is a stream, which nobody waits for the end of."""
        self.handled = 0
        """How many requests were handled."""
        self.waiting_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.waiting_since = time.monotonic()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self.waiting_since is None and not self.is_handling:
            self.waiting_since = time.monotonic()
        self.has_begun = True
        super().data_received(data)

    @property
    def is_at_rest(self) -> bool:
        """Whether it stands between two requests: the last answer is out, and nothing of the next one is in."""
        waits = self._waiter is not None and not self._waiter.done() and not self._messages
        if self.is_handling or self.has_begun or not waits or self.transport is None:
            return False
        return not self.transport.is_closing() and self.transport.get_write_buffer_size() == 0

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request, or to a failure outside of the guard."""
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionError("the caller has gone, or has the beginning of another answer") from exc
        if status < 500:
            log.debug("no HTTP request", reason=str(exc))
            answer = error_answer(status, "bad_request", _said(message))
        else:
            log.error("request failed", exc_info=exc)
            answer = error_answer(status, "internal_error", "the hub failed to answer; its log says more")
        answer.headers.update(SECURITY_HEADERS)
        answer.force_close()
        return answer


def mark_endless(request: web.BaseRequest) -> None:
    """Say that a request's answer is a stream: it may be broken off, and its reader asks for the rest."""
    if isinstance(request.protocol, Connection):
        request.protocol.is_endless = True


def _said(message: str | None) -> str:
    """What the parser says, without the caller's bytes."""
    lines = [line.strip() for line in (message or "").splitlines()]
    first = next((line for line in lines if line), "it cannot be parsed")
    return f"this is not an HTTP request: {_BYTES.sub('', first).rstrip(':.')}"


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs the application over connections of ours."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        inner = made.request_handler
        shortcut = self.app[SHORTCUT]

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            connection = request.protocol
            assert isinstance(connection, Connection)
            connection.waiting_since, connection.is_handling, connection.has_begun = None, True, False
            try:
                return await (shortcut(request) or inner(request))
            except web.HTTPException as error:
                # raised before any middleware: an expectation that nobody can meet
                answer = error_answer(error.status, "refused", error.reason)
                answer.headers.update(SECURITY_HEADERS)
                return answer
            finally:
                connection.is_handling = connection.is_endless = False
                connection.handled += 1
                if request.content.is_eof():
                    connection.has_begun = False  # what came meanwhile was this request's body

        return _Server(
            handle, request_factory=made.request_factory, loop=asyncio.get_running_loop(), **self._kwargs
        )


def runner(application: web.Application) -> Runner:
    """A runner with the bounds of this server."""
    return Runner(
        application,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=2.0,
        keepalive_timeout=_IDLE,
        # signatures are over the bytes of the wire
        auto_decompress=False,
    )


@asynccontextmanager
async def ending_slow_heads(running: Runner, timeout: timedelta) -> AsyncIterator[None]:
    """Close connections whose next request's head has begun and does not end, while the block runs."""
    job = asyncio.create_task(_end_slow_heads(running, timeout.total_seconds()), name="slow heads")
    try:
        yield
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def _end_slow_heads(running: Runner, seconds: float) -> None:
    while True:
        await asyncio.sleep(min(max(seconds / 4, 0.05), 5.0))
        late = time.monotonic() - seconds
        for connection in running.server.connections if running.server is not None else ():
            since = connection.waiting_since if isinstance(connection, Connection) else None
            if since is not None and since < late:
                connection.force_close()
