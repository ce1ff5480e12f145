"""A load on webhooks that forgives nothing: a request that is refused, cut off or left without an answer is a failure.

Two kinds of senders: those that keep one connection for everything they send, and those that open one for each
request. None tries again.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

_ANSWER_WITHIN = 60.0
_SELDOM = 0.1
"""Seconds between two requests of a connection that is idle most of the time."""


@dataclass
class Load:
    """What the senders have seen."""

    port: int
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often each path was answered how."""
    failures: list[str] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: int = 0

    @property
    def count(self) -> int:
        """How many requests were answered."""
        return sum(self.statuses.values())

    async def more(self, count: int) -> None:
        """Wait until so many more requests were answered."""
        wanted = self.count + count
        async with asyncio.timeout(_ANSWER_WITHIN):
            while self.count < wanted:
                self.answered.clear()
                await self.answered.wait()

    async def send(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request on a connection; answers whether that may be used again."""
        self._numbers += 1
        body = json.dumps({"n": self._numbers}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        status = int((await reader.readline()).split()[1])
        headers: dict[str, str] = {}
        while (line := (await reader.readline()).decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        await reader.readexactly(int(headers["content-length"]))
        self.statuses[path, status] += 1
        self.answered.set()
        return headers.get("connection", "").lower() != "close"


async def _sender(load: Load, path: str, *, keeps: bool, pause: float, over: asyncio.Event) -> None:
    kept: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while not over.is_set():
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                connection = kept or await asyncio.open_connection("127.0.0.1", load.port)
                is_open = await load.send(path, *connection)
        except (OSError, EOFError, IndexError, KeyError, TimeoutError) as error:
            load.failures.append(f"{path} {'kept' if keeps else 'fresh'}: {error!r}")
            kept = None
            await asyncio.sleep(0.05)
            continue
        kept = connection if keeps and is_open else None
        if kept is None:
            connection[1].close()
        await asyncio.sleep(pause)
    if kept is not None:
        kept[1].close()


@asynccontextmanager
async def webhook_load(port: int, paths: Sequence[str], *, pause: float = 0.01) -> AsyncIterator[Load]:
    """Send to each path from kept connections, one of them seldom, and from fresh ones, while the block runs."""
    load, over = Load(port), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for path in paths:
            for keeps, rest in ((True, pause), (False, pause), (True, _SELDOM)):
                group.create_task(_sender(load, path, keeps=keeps, pause=rest, over=over))
        try:
            yield load
        finally:
            over.set()


def failed(executions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The executions that did not succeed."""
    return [one for one in executions if one["state"] != "SUCCESS"]
