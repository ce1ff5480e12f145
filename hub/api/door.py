"""Where requests come in: a listening socket, and the connections that it brought.

Closed, it refuses nobody. Who comes waits in the socket's own queue; a connection that stands between two requests
is parked: its socket is kept and not read, so that what its caller sends waits in it. Whoever opens the door again,
this process or the one that takes over from it, finds all of them. Called by ``hub.serving``.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress

from aiohttp import web

from hub.api.server import Connection, Runner

_BACKLOG = 1024
_LOOK_EVERY = 0.005
"""Seconds between looks at the requests that are being answered while the door closes."""
_LOOK_SELDOM = 0.02
_AT_ONCE = 0.01
"""Seconds that a stream has once it is to be ended; none at all would mean for ever."""
_LAST_WORDS = 2.0
"""Seconds that a request has for its answer once its connection is to be ended."""


class Door:
    """The way in to one running application; closed at first."""

    def __init__(self, running: Runner, listening: socket.socket) -> None:
        self._running = running
        self._listening = listening
        self._site: web.SockSite | None = None
        self._parked: list[socket.socket] = []

    async def open(self) -> None:
        """Let in who waits, and everybody from now on."""
        if self._site is None:
            # of its own: closing what listens closes its socket
            self._site = web.SockSite(self._running, self._listening.dup(), backlog=_BACKLOG)
            await self._site.start()
        await self.admit(self.leave())

    async def close(self, patience: float) -> bool:
        """Let nobody in, end streams, and wait for the requests that are being answered.

        Answers whether each had its answer in ``patience`` seconds: then every connection is parked.
        """
        if self._site is not None:
            await self._site.stop()
            self._site = None
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while True:
            # what was accepted just now becomes a connection only in the loop's next turn
            await asyncio.sleep(_LOOK_EVERY)
            await self._end([one for one in self._connections() if one.is_endless], _AT_ONCE)
            for connection in self._connections():
                if connection.is_at_rest:
                    self._park(connection)
            if not self._connections():
                return True
            if loop.time() >= until:
                return False

    async def outlast(self, patience: float) -> None:
        """Wait for the requests that are under way now, at most ``patience`` seconds, while others come."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        waited_for = {one: one.handled for one in self._connections() if not one.is_at_rest}
        while waited_for and loop.time() < until:
            await asyncio.sleep(_LOOK_SELDOM)
            there = self._connections()
            waited_for = {
                one: handled
                for one, handled in waited_for.items()
                if one in there and one.handled == handled and not (one.is_at_rest or one.is_endless)
            }

    async def cut(self) -> int:
        """End the connections that are still there after ``close``; answers how many."""
        left = self._connections()
        await self._end(left, _LAST_WORDS)
        return len(left)

    def leave(self) -> Sequence[socket.socket]:
        """Hand over the parked connections, which are the caller's from now on."""
        parked, self._parked = self._parked, []
        return parked

    async def admit(self, connections: Iterable[socket.socket]) -> None:
        """Go on with connections that were parked."""
        server = self._running.server
        assert server is not None
        for connection in connections:
            try:
                await asyncio.get_running_loop().connect_accepted_socket(server, connection)
            except OSError:
                connection.close()  # its caller has gone meanwhile

    def _connections(self) -> list[Connection]:
        server = self._running.server
        found = server.connections if server is not None else ()
        return [one for one in found if isinstance(one, Connection) and one.transport is not None]

    def _park(self, connection: Connection) -> None:
        transport = connection.transport
        assert transport is not None
        with suppress(OSError):
            kept = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            kept.setblocking(False)
            self._parked.append(kept)
        # closes this process's first handle of it; the connection itself lives on behind the second
        transport.abort()

    @staticmethod
    async def _end(connections: Sequence[Connection], patience: float) -> None:
        await asyncio.gather(*(one.shutdown(patience) for one in connections))
