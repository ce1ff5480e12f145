"""Notice when one call keeps the event loop from everything else, and say whose it is, with its stack.

A coroutine that never awaits stops triggers, webhooks and every other execution. Nobody inside the loop can
tell of it meanwhile, so a thread looks: the loop beats, and where the beats stay away the thread reads the
loop's own stack. Started and stopped by the node.

Nothing in a process can end such a call. Where it lasts for too long the thread ends the process instead, which
whoever started it starts again: what was accepted goes on, and a task that does it three times ends FAILED.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import structlog

from hub.engine import attempt, triggers
from hub.engine.faults import PluginFault
from hub.plugin.component import Component

if TYPE_CHECKING:
    from hub.engine.services import Services
    from hub.engine.task_runner import LiveRun

log = structlog.get_logger("hub.watchdog")

OwnerOf = Callable[[type[Any]], str]
"""Which plugin brings a class."""
BLOCKED_AFTER = 1.0
"""Seconds that the loop may be kept."""
_SAID_AGAIN = 10
"""It is said again each time it has lasted so many times as long."""
_ADVICE = "make it a plain def, which runs in a thread, or await asyncio.to_thread(…)"
_UNKNOWN = "it is no task's or trigger's own code: its stack says whose"
_DEEPEST = 30
_FAULT = "it keeps the whole hub from everything else"
_REARM_EVERY = 15.0
"""Seconds between two words to the clock that ends a process none of whose threads gets on."""
_REALLY_EXIT = os._exit
_FAILED = 1
"""The exit code of a hub that had to end itself."""


@dataclass(frozen=True)
class Block:
    """Who keeps the loop, as far as its stack says."""

    plugin: str | None
    component: str | None
    """Its type: ``acme.greet``."""
    where: str | None
    """The task run of an execution, or the trigger."""
    stack: str
    live: LiveRun | None = None


class LoopWatchdog:
    """Watches one loop from a thread."""

    def __init__(
        self,
        owner_of: OwnerOf,
        *,
        after: float = BLOCKED_AFTER,
        on_block: Callable[[Block], None] = lambda block: None,
        longest: timedelta | None = None,
    ) -> None:
        """``on_block`` is told in the thread; after ``longest`` the process is ended."""
        self._owner_of = owner_of
        self._after = after
        self._on_block = on_block
        self._longest = longest.total_seconds() if longest is not None else float("inf")
        self._armed_at = float("-inf")
        self._over = threading.Event()
        self._beaten_at = time.monotonic()
        self._handle: asyncio.TimerHandle | None = None
        self._block: Block | None = None
        self.blocks: list[Block] = []
        """The last few that were noticed."""

    @contextmanager
    def watching(self) -> Iterator[LoopWatchdog]:
        """Watch the running loop until the block ends."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat()
        thread = threading.Thread(target=self._watch, name="hub watchdog", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            if self._handle is not None:
                self._handle.cancel()
            thread.join()
            if self._armed_at > 0:
                faulthandler.cancel_dump_traceback_later()

    # in the loop

    def _beat(self) -> None:
        now = time.monotonic()
        block, self._block = self._block, None
        if block is not None:
            self._say_over(block, now - self._beaten_at)
        self._beaten_at = now
        self._arm(now)
        self._handle = self._loop.call_later(self._after / 4, self._beat)

    def _arm(self, now: float) -> None:
        """Let a clock outside Python end the process, should a call keep even the other threads from running."""
        if self._longest == float("inf") or now - self._armed_at < _REARM_EVERY:
            return
        with suppress(OSError, ValueError, RuntimeError):  # there is no stderr to write to
            faulthandler.dump_traceback_later(self._longest + 2 * _REARM_EVERY, exit=True)
            self._armed_at = now

    def _say_over(self, block: Block, seconds: float) -> None:
        log.warning("the hub goes on", blocked_by=block.component or "unknown", seconds=round(seconds, 1))
        if block.live is not None:
            block.live.say("WARN", f"it kept the whole hub for {seconds:.1f} s: {_ADVICE}")

    # in the thread

    def _watch(self) -> None:
        said_at = 0.0
        while not self._over.wait(self._after / 4):
            kept = time.monotonic() - self._beaten_at
            if kept < self._after:
                said_at = 0.0
            elif kept >= max(said_at * _SAID_AGAIN, self._after):
                block = self._examine()
                if block is not None:
                    said_at = kept
                    self._say(block, kept)
            if kept >= self._longest and self._block is not None:
                self._end_process(kept)

    def _examine(self) -> Block | None:
        """Who keeps the loop; None where it only waits for its turn on a busy machine."""
        frame = sys._current_frames().get(self._loop_thread)
        if frame is None or _rests(frame):
            return None
        return block_of(frame, self._owner_of)

    def _say(self, block: Block, seconds: float) -> None:
        self._block = block
        self.blocks = [*self.blocks[-9:], block]
        log.error(
            "the whole hub waits for one call that does not let go",
            plugin=block.plugin,
            component=block.component,
            where=block.where,
            seconds=round(seconds, 1),
            hint=_ADVICE if block.component else _UNKNOWN,
            stack=block.stack,
        )
        self._on_block(block)

    def _end_process(self, seconds: float) -> None:
        block = self._examine() or self._block
        assert block is not None
        log.critical(
            "the hub ends itself: one call never lets go; the next start goes on with what was accepted",
            plugin=block.plugin,
            component=block.component,
            where=block.where,
            seconds=round(seconds, 1),
            hint=f"{_ADVICE if block.component else _UNKNOWN}; see limits.longestBlock",
            stack=block.stack,
        )
        sys.stderr.flush()
        _REALLY_EXIT(_FAILED)


def block_of(innermost: FrameType, owner_of: OwnerOf) -> Block:
    """Whose call a stack is in the middle of."""
    stack = "".join(traceback.format_stack(innermost, _DEEPEST))
    frame: FrameType | None = innermost
    while frame is not None:
        if frame.f_code is _TASK:
            live: LiveRun = frame.f_locals["live"]
            where = f"{live.executor.execution_id} {live.path}"
            owner = owner_of(live.task.component)
            return Block(owner, live.task.component.type, where, stack, live)
        if frame.f_code is _TRIGGER and "trigger" in frame.f_locals:
            trigger = frame.f_locals["trigger"]
            return Block(owner_of(type(trigger)), trigger.type, str(frame.f_locals["name"]), stack)
        frame = frame.f_back
    component = _component(innermost)
    if component is not None:
        return Block(owner_of(component), component.type, _module(innermost), stack)
    return Block(None, None, _module(innermost), stack)


def _component(frame: FrameType | None) -> type[Component] | None:
    """The innermost component whose own method runs: a webhook that is sent a request, say."""
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, Component):
            return type(owner)
        frame = frame.f_back
    return None


_TASK: CodeType = attempt.attempt.__code__
_TRIGGER: CodeType = triggers.TriggerSupervisor._supervise.__code__


def _rests(frame: FrameType) -> bool:
    """Whether the loop itself is innermost: it would run on if the machine let it."""
    name = str(frame.f_globals.get("__name__", ""))
    return name == "selectors" or name.startswith(("asyncio.base_events", "asyncio.runners", "uvloop"))


def _module(frame: FrameType | None) -> str | None:
    """The innermost module that is neither the hub's nor Python's."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        top = name.partition(".")[0]
        if top and top != "hub" and top not in sys.stdlib_module_names:
            return name
        frame = frame.f_back
    return None


@contextmanager
def watched(services: Services, longest: timedelta | None = None) -> Iterator[None]:
    """Watch the running loop for a node until the block ends."""

    # the registry may be another value by then
    def owner_of(component: type[Any]) -> str:
        return services.registry.owner_of(component)

    def note(block: Block) -> None:
        if block.plugin is not None:
            fault = PluginFault(block.component, _FAULT, _ADVICE, services.clock.now(), block.where)
            services.faults.note(block.plugin, fault)

    with LoopWatchdog(owner_of, on_block=note, longest=longest).watching():
        yield
