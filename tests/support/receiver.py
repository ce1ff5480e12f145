"""A real HTTP receiver on loopback: keeps what it is sent, and answers what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass
class Request:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Receiver:
    """What was received, and what comes next."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    answers: list[tuple[int, Mapping[str, str], Any]] = field(default_factory=list)
    """Status, headers and body of the next answers; afterwards ``good``. Status 0 closes the connection
    without an answer."""
    good: Any = "ok"
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Request(request.path, dict(request.headers), await request.read()))
        self.arrived.set()
        status, headers, body = self.answers.pop(0) if self.answers else (200, {}, self.good)
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        if isinstance(body, dict):
            return web.json_response(body, status=status or 200, headers=headers)
        return web.Response(status=status or 200, headers=headers, text=str(body))


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver until the block ends."""
    found = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", found.handle)
    async with TestServer(application, host="127.0.0.1") as server:
        found.url = f"http://127.0.0.1:{server.port}"
        yield found
