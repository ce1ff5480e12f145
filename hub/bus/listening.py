"""A listener's bounded queue, between the hub's thread and the listener's own.

Filled by the bus, which never waits; emptied by the listener. Neither takes a lock that the other may hold:
each step is one that the interpreter does whole.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from hub.plugin.listener import News

_SAY_EVERY = 60.0
"""Seconds between two words about news that are being dropped."""


class ListenerQueue:
    """The news that wait for one listener; the oldest give way when there are too many."""

    def __init__(
        self, wants: tuple[type[News], ...], size: int, on_missed: Callable[[int], None] = lambda _: None
    ) -> None:
        self._wants = wants
        self._size = size
        self._on_missed = on_missed
        self._news: deque[News] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived: asyncio.Event | None = None
        self._sleeps = False
        self._closed = False
        self._said_at = float("-inf")
        self._missed = 0
        self.told = 0
        """How many were put into it."""

    @property
    def missed(self) -> int:
        """How many gave way."""
        return self._missed

    @property
    def waiting(self) -> int:
        """How many lie in it."""
        return len(self._news)

    # the hub's side

    def offer(self, news: News) -> None:
        """Put news into it, in place of the oldest where it is full."""
        if self._closed or not isinstance(news, self._wants):
            return
        if len(self._news) >= self._size:
            self._drop_oldest()
        self._news.append(news)
        self.told += 1
        self._wake()

    def close(self) -> None:
        """No more will come: the listener's loop ends behind the last."""
        self._closed = True
        self._wake()

    def _drop_oldest(self) -> None:
        with suppress(IndexError):  # taken this very moment
            self._news.popleft()
            self._missed += 1
        now = time.monotonic()
        if now - self._said_at > _SAY_EVERY:
            self._said_at = now
            self._on_missed(self._missed)

    def _wake(self) -> None:
        if self._sleeps and self._loop is not None and self._arrived is not None:
            self._sleeps = False
            with suppress(RuntimeError):  # its loop is over
                self._loop.call_soon_threadsafe(self._arrived.set)

    # the listener's side

    def begin(self) -> None:
        """Be read from the running loop from now on."""
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()

    def __aiter__(self) -> ListenerQueue:
        return self

    async def __anext__(self) -> News:
        assert self._arrived is not None
        while True:
            with suppress(IndexError):
                return self._news.popleft()
            # said before looking once more: whoever adds after this look wakes the sleeper
            self._arrived.clear()
            self._sleeps = True
            if self._news:
                continue
            if self._closed:
                raise StopAsyncIteration
            await self._arrived.wait()
