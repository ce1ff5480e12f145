"""Notifications between hubs: that something was stored, never what; the storage says what.

PostgreSQL lets transactions that notify commit one after another, so no write does: after its commit a hub says
once for all that was stored meanwhile, over a connection of its own. A notification that is lost delays what it
would have told by the polling interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from plugins_core.postgres.address import Address

log = structlog.get_logger("hub.postgres")

_COMPANY = 0.002
"""Seconds that one notification waits for more to tell of."""
_FIRST_BACKOFF = 0.2
_LONGEST_BACKOFF = 5.0


class Bell:
    """Rings at every other hub, and hears them ring."""

    def __init__(self, driver: Any, address: Address, *, own: Callable[[], int]) -> None:
        self._driver = driver
        self._channel = address.channel
        self._own = own
        self._ringing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.heard = asyncio.Event()
        """Set when another hub has stored something."""

    def ring(self) -> None:
        """Something was stored."""
        self._ringing.set()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="postgres bell")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        from plugins_core.postgres.driver import Failure, connected

        backoff = _FIRST_BACKOFF
        while True:
            with suppress(*Failure):
                async with connected(self._driver, "news") as connection:
                    await connection.add_listener(self._channel, self._hear)
                    # what was told while nobody listened
                    self.heard.set()
                    backoff = _FIRST_BACKOFF
                    await self._ring_for_ever(connection)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    async def _ring_for_ever(self, connection: Any) -> None:
        while not connection.is_closed():
            with suppress(TimeoutError):
                # now and then it is looked whether the connection still stands
                async with asyncio.timeout(self._driver.settings.poll.total_seconds() * 5):
                    await self._ringing.wait()
            if self._ringing.is_set():
                self._ringing.clear()
                await connection.execute(f"SELECT pg_notify('{self._channel}', '{self._own()}')")
            else:
                await connection.execute("SELECT 1")
            await asyncio.sleep(_COMPANY)

    def _hear(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        if payload != str(self._own()):
            self.heard.set()
