"""Serve a node over HTTP until it is told to stop, or until a new process has taken over.

What outlives a node is held here: the lock of the data folder, the listening socket, the connections that wait.
A handover first brings the hub to rest: nobody is let in, who is being answered is answered, what runs ends. Where
that takes longer than callers should wait, everything goes on until what runs by then has ended, and it is tried
again; what has not ended after as long as it has when a hub stops is handed over, to be begun again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import structlog

from hub import __version__
from hub.api import Api, Door, listen, start_api
from hub.app import ADDRESS_FILE, Place, Prepared, locked, open_node, prepare, sign
from hub.engine.last_words import last_words
from hub.engine.needs import needs_of
from hub.engine.node import Node, cancelled_from_within
from hub.errors import Conflict
from hub.registry import Project, load_projects
from hub.registry.local import try_all
from hub.serving.predecessor import Predecessor
from hub.serving.saving import reload_on_save
from hub.serving.successor import Heir, Reloading
from hub.serving.telling import Watching, ready_line, report_ends, write_address

log = structlog.get_logger("hub")

_QUICK = 1.0
"""Seconds that callers may be kept waiting for the rest before a handover."""
_PATIENT = 5.0
"""… when it is tried again, after what lasted had its time: a busy hub has much that is quick under way."""
_LAST_NOTICES = 1.0
"""Seconds for the notices that are due then; the new process sends the others."""


@dataclass
class _Held:
    """What outlives a node."""

    lock: IO[str]
    listening: socket.socket | None = None
    connections: Sequence[socket.socket] = ()
    news: int | None = None
    closed_at: float | None = None
    """Since when requests wait."""

    def let_go(self) -> None:
        for one in (self.listening, *self.connections):
            if one is not None:
                one.close()


@dataclass
class _Stop:
    """Whether the hub is to stop, and how."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    failures: list[BaseException] = field(default_factory=list)
    node: Node | None = None

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)
        self.asked.set()

    def ask(self) -> None:
        """SIGTERM or Ctrl-C; the second one hands back at once."""
        if self.asked.is_set() and self.node is not None:
            self.node.drain_grace = self.node.notices_grace = 0.0
            self.node.hurried.set()
            self.node.dispatcher.hand_back()
            self.node.notifications.hurry()
        self.asked.set()


async def serve(
    place: Place,
    watching: Watching,
    *,
    task_folders: Sequence[Path] = (),
    predecessor: Predecessor | None = None,
    can_reload: bool = False,
    projects: Sequence[Project] = (),
) -> Heir | None:
    """Serve until SIGTERM or Ctrl-C, also one that comes while it starts; answers who has taken over, where one has.

    A ``tasks.py`` in ``task_folders`` is loaded. With ``can_reload`` a reload is begun by the API and by SIGHUP.
    Plugins of ``projects`` are loaded out of their folders, and again whenever something in them is saved.
    """
    stop = _Stop()
    _catch_signals(stop)
    loaded_at = time.time()
    prepared = prepare(place, registry=load_projects(projects, place.settings.plugins) if projects else None)
    if predecessor is not None:
        await try_all(task_folders)  # now, and not while requests wait
    with ExitStack() as stack:
        held, number = await _take(place, prepared, predecessor, stop, stack)
        if held is None:
            return None
        stack.callback(held.let_go)
        reloading = Reloading(number) if can_reload else None
        if reloading is not None:
            _reload_at_hang_up(reloading)
        serving = _Serving(place, prepared, watching, task_folders, held, stop, reloading)
        if projects and reloading is not None:
            folders = [project.folder for project in projects]
            serving.beside = lambda: reload_on_save(folders, reloading, loaded_at=loaded_at)
        return await serving.run(predecessor)


def _catch_signals(stop: _Stop) -> None:
    loop = asyncio.get_running_loop()

    def ask(*_: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and the hub with it
            loop.call_soon_threadsafe(stop.ask)

    # not by the loop: with its end the system's own answer would be back, and end the process as if nothing had
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)


def _reload_at_hang_up(reloading: Reloading) -> None:
    """SIGHUP reloads, except where it means that the terminal has gone, or was to be ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN or (sys.stdin is not None and sys.stdin.isatty()):
        return
    jobs: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        with suppress(Conflict):  # the log says why
            await reloading.begin()

    def begin() -> None:
        job = asyncio.create_task(reload(), name="reload")
        jobs.add(job)
        job.add_done_callback(jobs.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, begin)


async def _take(
    place: Place, prepared: Prepared, predecessor: Predecessor | None, stop: _Stop, stack: ExitStack
) -> tuple[_Held | None, int]:
    """What a node is to be served with, new or left by a predecessor; nothing where it was told to stop meanwhile."""
    if predecessor is None:
        return _Held(stack.enter_context(locked(place.data_dir))), 0
    leaving = asyncio.ensure_future(predecessor.leaves(__version__, prepared.registry))
    stopping = asyncio.ensure_future(stop.asked.wait())
    try:
        await asyncio.wait([leaving, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not leaving.done():
            return None, 0
        estate = leaving.result()
    finally:
        stopping.cancel()
        if not leaving.done():
            predecessor.leave()
            await asyncio.gather(leaving, return_exceptions=True)
    lock = stack.enter_context(estate.lock)
    sign(lock)
    held = _Held(lock, estate.listening, estate.connections, estate.news, estate.closed_at)
    return held, estate.number


class _Serving:
    """One process's nodes, one after another: a second one where a handover came to nothing."""

    def __init__(
        self,
        place: Place,
        prepared: Prepared,
        watching: Watching,
        task_folders: Sequence[Path],
        held: _Held,
        stop: _Stop,
        reloading: Reloading | None,
    ) -> None:
        self._place = place
        self._prepared = prepared
        self._watching = watching
        self._task_folders = task_folders
        self._held = held
        self._stop = stop
        self._reloading = reloading
        self.beside: Callable[[], Coroutine[Any, Any, None]] | None = None
        """Runs while requests are answered."""

    async def run(self, predecessor: Predecessor | None) -> Heir | None:
        """Serve, and hand over when asked to."""
        following: asyncio.Task[None] | None = None
        is_first = predecessor is None
        address: Path | None = self._place.data_dir / ADDRESS_FILE
        try:
            while True:
                async with AsyncExitStack() as stack:
                    node, api = await self._open(stack, is_first=is_first)
                    is_first = False
                    if self._stop.asked.is_set():
                        return None
                    stack.enter_context(last_words(node.services))
                    async with node.running(on_failure=self._stop.fail):
                        if self._stop.asked.is_set():
                            return None
                        await self._go_public(stack, node, api)
                        if predecessor is not None and following is None:
                            following = asyncio.create_task(predecessor.served(), name="predecessor")
                        await self._until_asked(node)
                        if self._is_to_hand_over:
                            await self._come_to_rest(node, api.door)
                            node.is_ready = node.takes_events = False
                        else:
                            await node.stop_taking()
                self._stop.node = None
                if self._stop.failures:
                    raise self._stop.failures[0]
                if not self._is_to_hand_over:
                    return None
                heir = await self._hand_over()
                if heir is not None:
                    address = None  # it is the new process's by now
                    return heir
                if self._stop.asked.is_set():
                    return None
        finally:
            if address is not None:
                address.unlink(missing_ok=True)
                if self._reloading is not None and self._reloading.successor is not None:
                    self._reloading.successor.stop()  # there is nothing left to take over
            if following is not None and predecessor is not None:
                predecessor.leave()
                await asyncio.gather(following, return_exceptions=True)

    @property
    def _is_to_hand_over(self) -> bool:
        return (
            self._reloading is not None and self._reloading.asked.is_set() and not self._stop.asked.is_set()
        )

    async def _open(self, stack: AsyncExitStack, *, is_first: bool) -> tuple[Node, Api]:
        place = self._place
        node = await stack.enter_async_context(
            open_node(
                place,
                folders=place.flow_folders,
                task_folders=self._task_folders,
                prepared=self._prepared,
                is_locked=True,
            )
        )
        self._stop.node = node
        node.longest_block = place.settings.limits.longest_block
        if self._reloading is not None:
            self._reloading.needs = lambda: needs_of(node.catalog.records())
        server = place.settings.server
        if self._held.listening is None:
            self._held.listening = listen(server.host, server.port)
        api = await stack.enter_async_context(
            start_api(node, place.settings, self._held.listening, reloads=self._reloading)
        )
        if is_first:
            # up, and not ready, while flows load and executions are taken over
            await api.door.open()
        return node, api

    async def _go_public(self, stack: AsyncExitStack, node: Node, api: Api) -> None:
        """Let everybody in and say so."""
        write_address(self._place, api.local_url)
        waited = time.monotonic() - self._held.closed_at if self._held.closed_at is not None else None
        self._held.closed_at = None
        if self._reloading is not None and waited is not None:
            self._reloading.took(waited)
        connections, self._held.connections = self._held.connections, ()
        await api.door.open()
        await api.door.admit(connections)
        _settle_memory()
        watching = self._watching
        watching.say(ready_line(node, api, waited))
        if watching.on_ended is not None:
            watcher = asyncio.create_task(report_ends(node, watching.on_ended))
            stack.callback(watcher.cancel)
        jobs = [watching.on_ready(api.local_url)] if watching.on_ready is not None else []
        for job in (*jobs, *([self.beside()] if self.beside is not None else [])):
            running = asyncio.ensure_future(job)
            running.add_done_callback(self._pass_on)
            stack.callback(running.cancel)

    def _pass_on(self, job: asyncio.Future[None]) -> None:
        if not job.cancelled() and (error := job.exception()) is not None:
            self._stop.fail(error)

    async def _until_asked(self, node: Node) -> None:
        """Wait until the hub is to stop, or to hand over; also where code of others has cancelled everything."""
        try:
            await self._until_told()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stop.asked.is_set() or task is None:
                raise
            task.uncancel()
            self._stop.fail(cancelled_from_within("the hub"))
            # what would have to end in order was cancelled too: the next start finds it as after a crash
            node.drain_grace = node.notices_grace = 0.0

    async def _until_told(self) -> None:
        events = [self._stop.asked, *([self._reloading.asked] if self._reloading is not None else [])]
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _come_to_rest(self, node: Node, door: Door) -> None:
        """Have every caller answered or waiting, and nothing under way."""
        grace, dispatcher = node.drain_grace, node.dispatcher
        if not await self._rests(node, door, _QUICK):
            log.info("the handover waits for what runs", executions=dispatcher.running)
            await self._go_on(node, door)
            await asyncio.gather(dispatcher.outlast(grace), door.outlast(grace))
            if not await self._rests(node, door, _PATIENT):
                # something that lasts is always under way here: begin nothing more
                await door.open()
                await dispatcher.pause(grace)
                # who waits for the end of what is not begun is told where to look for it
                node.services.watches.give_up()
                self._held.closed_at = time.monotonic()
                await door.close(_QUICK)
                if cut := await door.cut():
                    log.warning("requests were broken off for the handover", count=cut)
        node.drain_grace, node.notices_grace = _QUICK, _LAST_NOTICES
        self._held.connections = door.leave()

    async def _rests(self, node: Node, door: Door, patience: float) -> bool:
        """Try to come to rest, callers and then executions in ``patience`` seconds each; answers whether that was enough."""
        self._held.closed_at = time.monotonic()
        # who waits for an execution's end needs it to be begun: claims end after the last answer
        return await door.close(patience) and await node.dispatcher.pause(patience)

    async def _go_on(self, node: Node, door: Door) -> None:
        node.dispatcher.resume()
        await door.open()

    async def _hand_over(self) -> Heir | None:
        """Leave everything to the new process; None where this one is to go on, or to stop."""
        reloading, held = self._reloading, self._held
        assert reloading is not None
        assert reloading.successor is not None
        assert held.listening is not None
        assert held.closed_at is not None
        successor = reloading.successor
        told = asyncio.create_task(self._tell_of_stop(successor.stop))
        try:
            heir = await reloading.hand_over(
                held.lock.fileno(), held.listening, held.news, held.connections, held.closed_at
            )
        except Conflict as error:
            reloading.failed(error)
            sign(held.lock)
            return None
        finally:
            told.cancel()
        if heir.news is not None:
            os.write(heir.news, b"%d\n" % heir.pid)
        if self._stop.asked.is_set():
            successor.stop()
        return heir

    async def _tell_of_stop(self, stop: Callable[[], None]) -> None:
        await self._stop.asked.wait()
        stop()


def _settle_memory() -> None:
    """What is there at the start stays: leave it out of every later collection.

    Collections of the young are made rarer too; together they cut the longest answers to a quarter.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
