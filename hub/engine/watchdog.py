"""Notice when one call keeps the event loop from everything else, and say whose it is, with its stack.

A coroutine that never awaits stops triggers, webhooks and every other execution. Nobody inside the loop can
tell of it meanwhile, so a thread looks: the loop beats, and where the beats stay away the thread reads the
loop's own stack. Started and stopped by the node.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import structlog

from hub.engine import attempt, triggers
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

    def __init__(self, owner_of: OwnerOf, *, after: float = BLOCKED_AFTER) -> None:
        self._owner_of = owner_of
        self._after = after
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

    # in the loop

    def _beat(self) -> None:
        now = time.monotonic()
        block, self._block = self._block, None
        if block is not None:
            self._say_over(block, now - self._beaten_at)
        self._beaten_at = now
        self._handle = self._loop.call_later(self._after / 4, self._beat)

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


_TASK: CodeType = attempt._run.__code__
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
def watched(services: Services) -> Iterator[None]:
    """Watch the running loop for a node until the block ends."""
    # the registry may be another value by then
    with LoopWatchdog(lambda component: services.registry.owner_of(component)).watching():
        yield
