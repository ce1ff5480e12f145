"""Run one program: its output line by line while it runs, its whole tree gone when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hub.plugin import Fail
from plugins_core.script import marks
from plugins_core.script.processes import adopt_orphans
from plugins_core.script.tree import ProcessTree

_CHUNK = 64 * 1024
_LONGEST_LINE = 64 * 1024
_LAST_WORDS = 1.0
"""Seconds to wait for the last output once nothing is left that could write."""

OnLine = Callable[[str, str], None]


async def run_program(
    command: Sequence[str], *, folder: Path, env: Mapping[str, str], token: str, on_line: OnLine
) -> int:
    """Run a program to its end and answer its exit code, negative for a signal.

    ``on_line`` is given the stream's name and each line. Raises ``Fail`` when it cannot be started. However
    it ends (by itself, cancelled, timed out), no process of its tree is left.
    """
    _adopt_once()
    out = _Lines("stdout", on_line)
    try:
        err = _Lines("stderr", on_line)
    except OSError:
        out.close()
        raise
    try:
        popen, mark = _start(command, folder, env, token, out, err)
    except BaseException:
        out.close()
        err.close()
        raise
    tree = ProcessTree(popen.pid, mark=mark, token=token, folder=folder)
    try:
        out.start()
        err.start()
        code = await _exit_code(popen)
        tree.main_ended()
        if tree.may_have_leftovers():
            await finish(tree.end(grace=0.5))
        await _last_words(out, err)
        return code
    except BaseException:
        await finish(_end_all(popen, tree))
        raise
    finally:
        tree.main_ended()
        out.close()
        err.close()


def _start(
    command: Sequence[str], folder: Path, env: Mapping[str, str], token: str, out: _Lines, err: _Lines
) -> tuple[subprocess.Popen[bytes], int | None]:
    """The program, started, and the mark it carries. Raises ``Fail``."""
    try:
        # vfork inside: half a millisecond, less than a thread would take to reach
        with marks.marking(marks.new_mark(token.partition(":")[0])) as mark:
            popen = subprocess.Popen(  # noqa: S603 - the flow's author names the program
                list(command),
                cwd=folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out.write_end,
                stderr=err.write_end,
                start_new_session=True,
            )
    except OSError as error:
        raise Fail(f'"{command[0]}" cannot be started: {error.strerror or error}') from error
    except ValueError as error:
        # an argument or a variable that the system cannot be given: a NUL character, half a character
        raise Fail(f'"{command[0]}" cannot be started: {error}') from error
    return popen, mark


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Finish ``work`` whoever cancels meanwhile, then let the cancellation through."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


async def _end_all(popen: subprocess.Popen[bytes], tree: ProcessTree) -> None:
    # the exit is taken as soon as it is there, else the dead would stand in the process table as a member
    await asyncio.gather(tree.end(), _take_exit(popen, tree))


@cache
def _adopt_once() -> None:
    adopt_orphans()


async def _exit_code(popen: subprocess.Popen[bytes]) -> int:
    """Wait for a process without a thread, where the system has process descriptors."""
    if not hasattr(os, "pidfd_open"):
        return await asyncio.to_thread(popen.wait)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    descriptor = os.pidfd_open(popen.pid)
    try:
        loop.add_reader(descriptor, _settle, ended)
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return popen.wait()


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


async def _take_exit(popen: subprocess.Popen[bytes], tree: ProcessTree) -> None:
    if popen.returncode is None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(7.0):
                await _exit_code(popen)
    tree.main_ended()


async def _last_words(*streams: _Lines) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS):
            for stream in streams:
                await stream.ended.wait()


class _Lines:
    """One stream of a program, cut into lines as they come."""

    def __init__(self, name: str, on_line: OnLine) -> None:
        self._name = name
        self._on_line = on_line
        self._rest = b""
        self._reading = False
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self.ended = asyncio.Event()

    def start(self) -> None:
        """Give up the write end, which the program holds now, and read."""
        os.close(self.write_end)
        self.write_end = -1
        self._reading = True
        asyncio.get_running_loop().add_reader(self._read_end, self._read)

    def _read(self) -> None:
        try:
            chunk = os.read(self._read_end, _CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            self._stop()
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._say(line)
        while len(self._rest) > _LONGEST_LINE:
            self._say(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]

    def _say(self, line: bytes) -> None:
        self._on_line(self._name, line.decode("utf-8", "replace").rstrip("\r"))

    def _stop(self) -> None:
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._read_end)
            if self._rest:
                self._say(self._rest)
                self._rest = b""
            self.ended.set()

    def close(self) -> None:
        """Stop reading and close both ends; safe to call twice."""
        self._stop()
        for descriptor in (self._read_end, self.write_end):
            if descriptor >= 0:
                os.close(descriptor)
        self._read_end = self.write_end = -1
