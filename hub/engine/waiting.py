"""Waiting inside one execution: in memory while a sibling runs, else by leaving the tree.

A strand is what moves by itself: the executor's own task, and each worker of a group that runs side by side.
Every strand that rests is counted out, and counted in again by whoever wakes it; when none is left that moves,
the tree is left.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from hub.clock import Clock
from hub.engine.stopping import Leaving, Stopped, Stops
from hub.engine.timer import WallTimer
from hub.model.task_run import TaskRunState

if TYPE_CHECKING:
    from hub.engine.task_runner import LiveRun


@dataclass(frozen=True, slots=True)
class Wake:
    """What a waiting task run waits for: a moment, the end of an execution, or what comes first."""

    until: datetime | None
    child: str | None
    state: TaskRunState
    """PAUSED or RETRYING."""


class Waits:
    """The strands of an execution, and what its leaves wait for."""

    def __init__(self, clock: Clock, timer: WallTimer, stops: Stops) -> None:
        self._clock = clock
        self._timer = timer
        self._stops = stops
        self._moving = 1
        self._wakes: dict[str, Wake] = {}
        self._deadlines: dict[str, datetime] = {}
        self._sleepers: set[_Sleeper] = set()
        self._ended_children: set[str] = set()

    # strands

    @property
    def is_last(self) -> bool:
        """Whether nothing else moves."""
        return self._moving == 1

    def split(self, more: int) -> None:
        """A strand becomes several."""
        self._moving += more

    def one_less(self) -> None:
        """A strand has ended; where all others rest, the tree is left."""
        self._moving -= 1
        if self._moving == 0:
            self._leave()

    def _leave(self) -> None:
        self._stops.leave()
        for sleeper in list(self._sleepers):
            sleeper.wake(Leaving())

    # leaves

    def is_over(self, wake: Wake) -> bool:
        """Whether what it waits for has happened."""
        if wake.child is not None and wake.child in self._ended_children:
            return True
        return wake.until is not None and self._clock.now() >= wake.until

    async def sleep(self, live: LiveRun, wake: Wake) -> None:
        """Rest until it has happened. Raises ``Leaving`` when nothing moves any more, and ``Stopped``."""
        self._wakes[live.path] = wake
        sleeper = _Sleeper(self, wake.child)
        timer = None
        if wake.until is not None:
            timer = self._timer.call_at(wake.until, sleeper.wake)
        self._sleepers.add(sleeper)
        self._stops.enter(live, sleeper)
        try:
            self.one_less()
            await sleeper.woken
            del self._wakes[live.path]  # kept by those who leave: it says what the execution waits for
        except Stopped:
            del self._wakes[live.path]
            raise
        finally:
            self._stops.exit(live)
            self._sleepers.discard(sleeper)
            if timer is not None:
                timer.cancel()
            sleeper.wake()

    def child_ended(self, execution_id: str) -> None:
        """An execution that a leaf may wait for has ended."""
        self._ended_children.add(execution_id)
        for sleeper in list(self._sleepers):
            if sleeper.child == execution_id:
                sleeper.wake()

    # groups' deadlines

    def note_deadline(self, live: LiveRun, until: datetime) -> None:
        """A group's time-out must wake the execution too."""
        self._deadlines[live.path] = until

    def forget(self, live: LiveRun) -> None:
        """A task run is over, and its deadline with it."""
        self._deadlines.pop(live.path, None)

    # what the execution waits for as a whole

    @property
    def wakes(self) -> list[Wake]:
        """What those wait for that left the tree."""
        return list(self._wakes.values())

    @property
    def wake_at(self) -> datetime | None:
        """The earliest moment at which something goes on by itself."""
        moments = [wake.until for wake in self._wakes.values() if wake.until is not None]
        return min([*moments, *self._deadlines.values()], default=None)

    @property
    def children(self) -> tuple[str, ...]:
        """The executions that it waits for."""
        return tuple(wake.child for wake in self._wakes.values() if wake.child is not None)


class _Sleeper:
    """A resting strand; waking counts it in again, once."""

    __slots__ = ("_is_awake", "_waits", "child", "woken")

    def __init__(self, waits: Waits, child: str | None) -> None:
        self._waits = waits
        self._is_awake = False
        self.child = child
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self, raising: BaseException | None = None) -> None:
        if self._is_awake:
            return
        self._is_awake = True
        self._waits.split(1)
        if self.woken.done():
            return  # cancelled: the process itself is going down
        if raising is None:
            self.woken.set_result(None)
        else:
            self.woken.set_exception(raising)

    def interrupt(self) -> None:
        self.wake(Stopped())
