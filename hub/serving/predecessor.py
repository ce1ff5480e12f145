"""The process that is to take over, towards the one that it takes over from.

It was started by a running hub, which goes on until this one says that it is ready to. Then it is given the lock of the
data folder, the listening socket and the connections, opens the storage and says that it serves.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from hub.errors import HubError, Unreachable
from hub.serving.channel import Channel

if TYPE_CHECKING:
    from hub.registry import Registry

VARIABLE = "_HUB_PREDECESSOR"
"""Names the channel to the process that started this one."""
_PR_SET_PDEATHSIG = 1
_LOOK_EVERY = 0.01


@dataclass
class Estate:
    """What the one before has left."""

    number: int
    """The how manyth reload this is."""
    closed_at: float
    """Since when requests wait, by ``time.monotonic``, which all processes of a machine share."""
    lock: IO[str]
    listening: socket.socket
    news: int
    """Where to say which process is the hub; see ``stand_in``."""
    connections: list[socket.socket]


class Predecessor:
    """The running hub that started this process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._pid = os.getppid()
        self._stand_in = self._pid
        """The process that stands in for the hub from then on."""

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Predecessor | None:
        """The one that started this process, where one did; nothing that this process starts is told of it."""
        number = environ.pop(VARIABLE, None)
        return cls(Channel.inherited(int(number))) if number is not None else None

    @contextmanager
    def told_of_failure(self) -> Iterator[None]:
        """Say why, where the block fails."""
        try:
            yield
        except Exception as error:
            said = error if isinstance(error, HubError) else None
            message = said.message if said else f"{type(error).__name__}: {error}"
            with suppress(OSError):
                self._channel.say_now("failed", message=message, hint=said.hint if said else None)
            raise

    async def leaves(self, version: str, registry: Registry) -> Estate:
        """Say that all is ready which could be made so beside a running hub, and wait for what it leaves.

        Raises ``PluginError`` where a flow in use needs what is not here, ``Unreachable`` when it has ended instead.
        """
        from hub.engine.needs import check_needs  # not sooner: see hub.serving

        word = await self._channel.hear()
        if word is not None and word.name == "needs":
            check_needs([(kind, name, flow) for kind, name, flow in word.about["types"]], registry)
        with suppress(OSError):
            await self._channel.say("prepared", version=version)
        word = await self._channel.hear()
        if word is None or word.name != "take over":
            raise Unreachable("the hub that was to be taken over has ended", hint="start one with: hub serve")
        self._stand_in = int(word.about["standIn"])
        lock, listening, news, *connections = word.files
        return Estate(
            number=int(word.about["number"]),
            closed_at=float(word.about["closedAt"]),
            lock=os.fdopen(lock, "r+", encoding="utf-8"),
            listening=socket.socket(fileno=listening),
            news=news,
            connections=[socket.socket(fileno=number) for number in connections],
        )

    async def served(self) -> None:
        """Say that this process serves now, and end with whatever stands in for the other one."""
        with suppress(OSError):
            await self._channel.say("serving")
        # it closes its end by ending, or by becoming the small program that is this one's parent from then on
        await self._channel.hear()
        while self._stand_in != self._pid and os.getppid() == self._pid:
            await asyncio.sleep(_LOOK_EVERY)  # its files are closed a moment before it is gone
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != self._stand_in:
            os.kill(os.getpid(), signal.SIGTERM)  # it has gone before it could be noticed

    def leave(self) -> None:
        """Wait for nothing more of it."""
        self._channel.close()
