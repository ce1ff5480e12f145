"""A TCP proxy between a hub and its database that cuts, holds and slows what goes through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class TcpProxy:
    """Forwards to a port of this machine; what happens on the way a test decides."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self.port = 0
        self.cut_after: bytes | None = None
        """Once a client has sent this, it is handed on, and the line is cut before anything comes back."""
        self.cut = asyncio.Event()
        """Set when the line was cut so."""
        self._flows = asyncio.Event()
        self._flows.set()
        self.delay = 0.0
        """Seconds that every piece is held."""

    def hold(self) -> None:
        """Let nothing through, and close nothing: the line is half open."""
        self._flows.clear()

    def let_go(self) -> None:
        self._flows.set()

    def reset(self) -> None:
        """Cut every line."""
        for pair in [*self._pairs]:
            for writer in pair:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, up_writer)
        self._pairs.add(pair)
        jobs = [
            asyncio.create_task(self._forward(reader, up_writer, pair, is_request=True)),
            asyncio.create_task(self._forward(up_reader, writer, pair, is_request=False)),
        ]
        self._jobs.update(jobs)
        await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        for one in pair:
            one.transport.abort()
        for job in jobs:
            job.cancel()
        self._pairs.discard(pair)
        self._jobs.difference_update(jobs)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        *,
        is_request: bool,
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                await self._flows.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(piece)
                await writer.drain()
                if is_request and self.cut_after is not None and self.cut_after in piece:
                    self.cut_after = None
                    # the client hears nothing more; the server has it all
                    pair[0].transport.abort()
                    self.cut.set()
                    # and is given the time to do it
                    await asyncio.sleep(0.2)
                    return

    @asynccontextmanager
    async def running(self) -> AsyncIterator[TcpProxy]:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._flows.set()
            self._server.close()
            self.reset()
            await asyncio.gather(*self._jobs, return_exceptions=True)
