"""A running hub, towards the process that is to take over from it.

The new process is started by the same command line. It loads the plugins and checks the settings beside the
running hub; what goes wrong there is said to whoever asked, and nothing has happened. Only then does the hub come to
rest and let go of its data. Should the new process fail even then, the old one opens its storage and goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from hub import __version__
from hub.api import ReloadStatus
from hub.engine.needs import Need
from hub.errors import Conflict
from hub.serving.channel import Channel, Word
from hub.serving.predecessor import VARIABLE

log = structlog.get_logger("hub")

_LONGEST_PREPARATION = 60.0
"""Seconds that a new process has to load what it needs."""
_LONGEST_OPENING = 120.0
"""Seconds that it has to open the storage and load the flows; a migration may take its time."""
_LONGEST_END = 5.0


@dataclass(frozen=True)
class Heir:
    """The process that has taken over."""

    pid: int
    news: int | None
    """Where whoever stands in for the hub reads which process it is; None where this process is to stand in."""
    reading: int | None
    """The other end, for the one that stands in."""


class Successor:
    """A process that is to take over."""

    def __init__(self) -> None:
        self._channel, theirs = Channel.pair()
        number = theirs.fileno()
        self._process = subprocess.Popen(  # noqa: S603 - the command line that started this process
            [sys.executable, *sys.orig_argv[1:]],
            env={**os.environ, VARIABLE: str(number)},
            pass_fds=(number,),
            # a Ctrl-C reaches the process that stands in, which passes it on: twice would mean at once
            process_group=0,
        )
        theirs.release()
        self.version = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    async def prepared(self, needs: Sequence[Need]) -> None:
        """Wait until it could take over, with all that the flows need. Raises ``Conflict`` saying why it cannot."""
        with suppress(OSError):
            await self._channel.say("needs", types=list(needs))
        word = await self._word(_LONGEST_PREPARATION)
        if word is None or word.name != "prepared":
            raise await self._failure(word)
        self.version = str(word.about["version"])

    async def take_over(self, files: Sequence[int], *, number: int, closed_at: float, stand_in: int) -> None:
        """Leave it everything and wait until it serves. Raises ``Conflict`` when it does not come to that."""
        with suppress(OSError):
            await self._channel.say("take over", files, number=number, closedAt=closed_at, standIn=stand_in)
        word = await self._word(_LONGEST_OPENING)
        if word is None or word.name != "serving":
            raise await self._failure(word)

    def stop(self) -> None:
        """Ask it to end."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    async def end(self) -> int:
        """See to it that it is gone; answers its exit code."""
        self._channel.close()
        try:
            return await asyncio.to_thread(self._process.wait, _LONGEST_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return await asyncio.to_thread(self._process.wait)

    async def _word(self, patience: float) -> Word | None:
        try:
            async with asyncio.timeout(patience):
                return await asyncio.shield(asyncio.ensure_future(self._channel.hear()))
        except TimeoutError:
            self._process.kill()
            return Word("failed", {"message": f"the new process took longer than {patience:g} s"})

    async def _failure(self, word: Word | None) -> Conflict:
        """Why it does not take over; it has ended by then."""
        code = await self.end()
        if word is not None and word.name == "failed":
            return Conflict(str(word.about["message"]), hint=word.about.get("hint"))
        return Conflict(
            f"the new process ended with exit code {code}", hint="its last words are in the hub's log"
        )


class Reloading:
    """``Reloads``: one at a time."""

    def __init__(self, number: int) -> None:
        state: Literal["none", "done"] = "done" if number else "none"
        self._status = ReloadStatus(state, number, pid=os.getpid(), version=__version__)
        self.asked = asyncio.Event()
        """Set once a process is ready to take over."""
        self.successor: Successor | None = None
        self.needs: Callable[[], Sequence[Need]] = tuple
        """What the flows in use need of a new process."""

    def status(self) -> ReloadStatus:
        return self._status

    def took(self, seconds: float) -> None:
        """So long requests had to wait."""
        self._status = replace(self._status, seconds=seconds)

    async def begin(self) -> ReloadStatus:
        """See ``Reloads.begin``."""
        if self._status.state in ("preparing", "handing over"):
            raise Conflict("the hub is being reloaded already", hint="wait for that one")
        number = self._status.number + 1
        self._status = replace(self._status, state="preparing", number=number, error=None, seconds=None)
        successor = Successor()
        try:
            await successor.prepared(self.needs())
        except Conflict as error:
            self.failed(error)
            raise
        except BaseException:
            successor.stop()
            raise
        self.successor = successor
        self._status = replace(self._status, state="handing over")
        self.asked.set()
        return self._status

    def failed(self, error: Conflict) -> None:
        """This process goes on."""
        log.error("no new process takes over; this one goes on", error=error.message, hint=error.hint)
        self._status = replace(self._status, state="failed", error=error.message)
        self.asked.clear()
        self.successor = None

    async def hand_over(
        self,
        lock: int,
        listening: socket.socket,
        news: int | None,
        connections: Sequence[socket.socket],
        closed_at: float,
    ) -> Heir:
        """Leave everything to the process that is ready. Raises ``Conflict``, and everything is here still."""
        successor = self.successor
        assert successor is not None
        reading: int | None = None
        told = news
        if told is None or sys.platform != "linux":
            # elsewhere nobody adopts orphans: each process that hands over stands in for the next
            reading, told = os.pipe()
        files = [lock, listening.fileno(), told, *(one.fileno() for one in connections)]
        try:
            await successor.take_over(
                files,
                number=self._status.number,
                closed_at=closed_at,
                stand_in=os.getpid() if reading is not None else os.getppid(),
            )
        except BaseException:
            if reading is not None:
                os.close(reading)
                os.close(told)
            raise
        log.info(
            "a new process has taken over",
            process=successor.pid,
            version=successor.version,
            seconds=round(time.monotonic() - closed_at, 3),
        )
        if reading is not None:
            os.close(told)
            return Heir(successor.pid, None, reading)
        return Heir(successor.pid, told, None)
