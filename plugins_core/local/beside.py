"""A process beside the hub that writes and flushes files while the hub's own one computes.

A file that is flushed with its folders is a score of system calls. In a thread each of them hands the interpreter
over and takes it back from the busy loop, which costs the loop a millisecond and more for each file. Here the loop
copies the content into shared memory, sends one line and hears one. The process is a helper and nothing depends
on it: where it cannot be had, has no room or dies, threads do the same.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress

from plugins_core.local import durable

LARGEST = 1024 * 1024
"""Bytes of one file; larger ones are worth a thread."""
_PLACES = 16
"""Files that it is given at a time."""
_PATIENCE = 5.0
"""Seconds that it may take to end."""


class Gone(Exception):
    """The process has ended: whether the file was written is not known."""


class FileProcess:
    """The process, once it was started."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, memory: mmap.mmap) -> None:
        control.setblocking(False)
        self._process = process
        self._control = control
        self._memory = memory
        self._free = list(range(0, _PLACES * LARGEST, LARGEST))
        """Where in the memory there is room for a file."""
        self._waiting: dict[int, tuple[int, asyncio.Future[str | None]]] = {}
        self._count = 0
        self._heard = b""
        self.is_gone = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(control, self._hear)

    @classmethod
    def start(cls) -> FileProcess | None:
        """Start one; None where the system has no such memory, or no room for another process."""
        if not hasattr(os, "memfd_create"):
            return None
        size = _PLACES * LARGEST
        try:
            with ExitStack() as undo:
                handle = os.memfd_create("hub-files", os.MFD_CLOEXEC)
                undo.callback(os.close, handle)
                os.ftruncate(handle, size)
                memory = mmap.mmap(handle, size)
                ours, theirs = map(undo.enter_context, socket.socketpair())
                program = [durable.__file__, str(theirs.fileno()), str(handle), str(size)]
                process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-I", "-S", *program],
                    pass_fds=(theirs.fileno(), handle),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,
                )
                # the process has its own of all of them; the hub keeps its end of the line, and the memory
                return cls(process, ours.dup(), memory)
        except OSError:
            return None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_room(self) -> bool:
        """Whether it can be given another file."""
        return bool(self._free) and not self.is_gone

    async def keep(self, root: str, path: str, content: bytes) -> str | None:
        """Write a new file and flush it; the reason, where that fails. Raises ``Gone``."""
        place = self._free.pop()
        self._memory[place : place + len(content)] = content
        self._count += 1
        answer: asyncio.Future[str | None] = self._loop.create_future()
        # who gave it may go: its place is free again when the process has answered, not before
        self._waiting[self._count] = (place, answer)
        job = json.dumps([self._count, place, len(content), root, path])
        try:
            self._control.send(job.encode() + b"\n")
        except OSError:
            self._lose()
        return await answer

    def _hear(self) -> None:
        try:
            heard = self._control.recv(64 * 1024)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if not heard:
            self._lose()
            return
        *lines, self._heard = (self._heard + heard).split(b"\n")
        for line in lines:
            number, error = json.loads(line)
            place, answer = self._waiting.pop(number)
            self._free.append(place)
            if not answer.done():
                answer.set_result(error)

    def _lose(self) -> None:
        if self.is_gone:
            return
        self.is_gone = True
        self._loop.remove_reader(self._control)
        self._control.close()
        for _, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Gone())
        self._waiting.clear()

    async def close(self) -> None:
        """End it, once it has written what it was given."""
        if not self.is_gone:
            with suppress(OSError):
                self._control.shutdown(socket.SHUT_WR)
            answers = [answer for _, answer in self._waiting.values()]
            if answers:
                await asyncio.wait(answers, timeout=_PATIENCE)
            self._lose()
        try:
            await asyncio.to_thread(self._process.wait, _PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._memory.close()
