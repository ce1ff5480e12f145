"""Readers of a stream of server-sent events, in a process of their own.

``python -m bench.readers HOST PORT PATH READERS EXECUTIONS`` says "ready" once all of them read, and prints JSON
once each of them has seen so many executions end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop


class Reader(asyncio.Protocol):
    """Counts events, and the ends of executions among them; a word that comes in two parts is found too."""

    def __init__(self, head: bytes, wanted: int) -> None:
        self._head = head
        self._left = wanted
        self._tail = b""
        self.events = 0
        self.first_at = 0.0
        self.last_at = 0.0
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._head)

    def data_received(self, data: bytes) -> None:
        if not self.begun.done():
            self.begun.set_result(None)
            if not data.startswith(b"HTTP/1.1 200"):
                raise SystemExit(data[:400].decode())
        now = time.perf_counter()
        events = self._count(b"\ndata: {", data)
        if events:
            self.first_at = self.first_at or now
            self.last_at = now
            self.events += events
        self._left -= self._count(b'"SUCCESS"', data)
        self._tail = data[-9:]
        if self._left <= 0 and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            raise SystemExit("a stream ended")

    def _count(self, word: bytes, data: bytes) -> int:
        return (self._tail + data).count(word) - self._tail.count(word)


async def main(host: str, port: int, path: str, readers: int, executions: int) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    opened = [Reader(head, executions) for _ in range(readers)]
    for one in opened:
        await loop.create_connection(lambda one=one: one, host, port)  # type: ignore[misc]
    await asyncio.gather(*(one.begun for one in opened))
    print("ready", flush=True)
    await asyncio.gather(*(one.done for one in opened))
    took = max(one.last_at for one in opened) - min(one.first_at for one in opened)
    events = sum(one.events for one in opened)
    print(json.dumps({"events": events, "seconds": took, "perSecond": events / took}), flush=True)


uvloop.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
