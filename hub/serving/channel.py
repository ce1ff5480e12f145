"""What two processes of one hub say to each other while one takes over: short words, and open files with them.

A word is JSON behind its length. Open files travel beside one byte each few of them: the kernel hands a copy to
the other process, so that a lock stays held and a connection stays up whoever of the two closes its own.

The two may be of different versions: what is said may be added to and never changed.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

_LENGTH = 4
_FILES_AT_ONCE = 100
"""The kernel takes no more than 253 with one message."""


@dataclass(frozen=True)
class Word:
    """One thing that was said."""

    name: str
    about: dict[str, Any] = field(default_factory=dict)
    files: list[int] = field(default_factory=list)
    """Open files that came with it; whoever hears it closes them."""


class Channel:
    """One end; the other is in another process."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends, the second to be inherited by a child."""
        ours, theirs = socket.socketpair()
        return cls(ours), cls(theirs)

    @classmethod
    def inherited(cls, number: int) -> Channel:
        """The end that this process was started with."""
        end = socket.socket(fileno=number)
        end.set_inheritable(False)
        return cls(end)

    def fileno(self) -> int:
        return self._end.fileno()

    def release(self) -> None:
        """Let go of an end that another process has now."""
        self._end.close()

    def close(self) -> None:
        """Hear and say nothing more; who waits for a word of the other end is told that none comes."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()

    def say_now(self, name: str, files: Sequence[int] = (), **about: Any) -> None:
        """Say a word. Raises ``OSError`` when the other process has gone."""
        text = json.dumps({"name": name, "about": about, "files": len(files)}).encode()
        self._end.sendall(len(text).to_bytes(_LENGTH, "big") + text)
        for start in range(0, len(files), _FILES_AT_ONCE):
            socket.send_fds(self._end, [b"f"], list(files[start : start + _FILES_AT_ONCE]))

    async def say(self, name: str, files: Sequence[int] = (), **about: Any) -> None:
        """``say_now`` beside the loop: many files take a moment."""
        await asyncio.to_thread(self.say_now, name, files, **about)

    async def hear(self) -> Word | None:
        """The next word; None when the other process has gone, or this end was closed."""
        return await asyncio.to_thread(self._hear)

    def _hear(self) -> Word | None:
        files: list[int] = []
        try:
            length = int.from_bytes(self._exactly(_LENGTH), "big")
            said = json.loads(self._exactly(length))
            while len(files) < said["files"]:
                _, some, _, _ = socket.recv_fds(self._end, 1, _FILES_AT_ONCE)
                if not some:
                    raise EOFError
                files += some
        except (OSError, EOFError):
            for number in files:
                os.close(number)
            return None
        for number in files:
            os.set_inheritable(number, False)
        return Word(said["name"], said["about"], files)

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            some = self._end.recv(count - len(found))
            if not some:
                raise EOFError
            found += some
        return found
