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

_COMPANY = 0.01
"""Seconds between two notifications, and between two looks at what they told of."""
_CLAIM = "+"
_FIRST_BACKOFF = 0.2
_LONGEST_BACKOFF = 5.0


class Bell:
    """Rings at every other hub, and hears them ring."""

    def __init__(self, driver: Any, address: Address, *, own: Callable[[], int]) -> None:
        self._driver = driver
        self._channel = address.channel
        self._own = own
        self._ringing = asyncio.Event()
        self._leaves_some = False
        self._task: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._may_claim = False

    def ring(self, *, leaves_some: bool) -> None:
        """Something was stored, which perhaps leaves something to be claimed by any hub."""
        self._leaves_some |= leaves_some
        self._ringing.set()

    async def listen(self, timeout: float) -> bool:
        """Return when another has rung, or after ``timeout`` seconds; answers whether something may be claimed."""
        try:
            async with asyncio.timeout(timeout):
                await self._heard.wait()
        except TimeoutError:
            return True  # nobody said so, which is no proof: a notification may be lost
        # those that came with it are one
        if not self._may_claim:
            await asyncio.sleep(_COMPANY)
        self._heard.clear()
        may_claim, self._may_claim = self._may_claim, False
        return may_claim

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
                    self._may_claim = True
                    self._heard.set()
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
                told = f"{self._own()}{_CLAIM if self._leaves_some else ''}"
                self._leaves_some = False
                await connection.execute(f"SELECT pg_notify('{self._channel}', '{told}')")
            else:
                await connection.execute("SELECT 1")
            await asyncio.sleep(_COMPANY)

    def _hear(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        number = payload.removesuffix(_CLAIM)
        if number != str(self._own()):
            self._may_claim |= number != payload
            self._heard.set()
