"""Why the work on an execution has to stop, and who is told: the one place that decides.

Code of the engine is never cancelled. It finishes what it records, and asks here before it goes on. Code of
others (components, expressions and whatever they wait for) runs in a section that is interrupted, and only
while it runs, when the execution is killed or handed back, or when the time of a task run around it is over.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hub.engine.task_runner import LiveRun

_AGAIN_AFTER = 10.0
"""Seconds after which code that took no notice is interrupted again; a script's tree has 7 to end."""
_LAST_WORDS = 5.0
"""Seconds that the storage may stay away while an execution is handed back."""


class Reason(Enum):
    """Why a whole execution stops; a later one counts more."""

    HAND_BACK = auto()
    """The node stops: the execution goes on elsewhere, or after the next start."""
    KILL = auto()
    LOST = auto()
    """Its claim is gone or the engine itself failed: nothing more is written of what runs."""


class Leaving(BaseException):
    """The tree is being left: every live leaf waits.

    Not an ``Exception``: no task's own handler may take it for a failure.
    """


class Stopped(BaseException):
    """This task run has to stop, and so has whatever is inside it."""


class CancelledItself(Exception):
    """Code of others raised or caught a cancellation that nobody here had asked for."""


class Interruptible(Protocol):
    """What runs or rests and can be told to stop."""

    def interrupt(self) -> None:
        """Stop now."""


class Stops:
    """What has to stop within one execution."""

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self._is_leaving = False
        self._is_calm = True
        """Whether nothing has had to stop yet: then nothing needs to be looked at."""
        self._open: dict[LiveRun | None, Interruptible] = {}
        self._told: set[LiveRun | None] = set()
        self._give_up_at: float | None = None
        self._again: asyncio.TimerHandle | None = None
        self.loop = asyncio.get_running_loop()

    # asked by the engine

    def check(self, live: LiveRun | None) -> None:
        """Raise ``Leaving`` or ``Stopped`` where a task run, or the flow itself, may not go on."""
        if self._is_calm:
            return
        if self._is_leaving:
            raise Leaving
        if self.has_to_stop(live):
            raise Stopped

    def has_to_stop(self, live: LiveRun | None) -> bool:
        """Whether the execution stops, or the time of a task run or of a group around it is over."""
        if self.reason is not None:
            return True
        while live is not None:
            if live.is_late:
                return True
            live = live.group
        return False

    @property
    def has_given_up(self) -> bool:
        """Whether the storage has been away for too long to hand the execution back."""
        return self._give_up_at is not None and asyncio.get_running_loop().time() >= self._give_up_at

    # told from outside

    def leave(self) -> None:
        """Have the tree left: nothing in it moves any more."""
        self._is_leaving = True
        self._is_calm = False

    def stop(self, reason: Reason) -> None:
        """Stop the whole execution."""
        self._is_calm = False
        if reason is Reason.HAND_BACK and self._give_up_at is None:
            self._give_up_at = asyncio.get_running_loop().time() + _LAST_WORDS
        if self.reason is None or reason.value > self.reason.value:
            self.reason = reason
            self._interrupt()

    def run_out(self, live: LiveRun) -> None:
        """The time of a task run is over: it stops, with all that is inside it."""
        self.note_late(live)
        self._interrupt()

    def note_late(self, live: LiveRun) -> None:
        """The time of a task run is over, and nothing of it runs."""
        live.is_late = True
        self._is_calm = False

    def _interrupt(self, *, again: bool = False) -> None:
        """Tell what has to stop, each once: a second time would break off its cleaning up."""
        stopping = {live: one for live, one in self._open.items() if self.has_to_stop(live)}
        for live, one in stopping.items():
            if again or live not in self._told:
                self._told.add(live)
                one.interrupt()
        if stopping and self._again is None:
            self._again = asyncio.get_running_loop().call_later(_AGAIN_AFTER, self._interrupt_again)

    def _interrupt_again(self) -> None:
        self._again = None
        self._interrupt(again=True)

    def close(self) -> None:
        """Nothing is left that could be told."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    # what is told

    def code_of_others(self, live: LiveRun | None) -> ForeignCode:
        """A section in which code of others runs, and is cancelled where it has to stop.

        Raises ``Stopped`` where it was interrupted, ``CancelledItself`` for a cancellation of its own making.
        """
        return ForeignCode(self, live)

    def own_code(self, live: LiveRun) -> OwnCode:
        """A section inside such a one in which the engine's own code runs again."""
        return OwnCode(self, live)

    def enter(self, live: LiveRun | None, one: Interruptible) -> None:
        """``one`` can be told to stop from now on."""
        self._open[live] = one
        self._told.discard(live)

    def exit(self, live: LiveRun | None) -> Interruptible | None:
        """What ran or rested for a task run does so no more."""
        return self._open.pop(live, None)


class ForeignCode:
    """See ``Stops.code_of_others``."""

    __slots__ = ("_before", "_cancels", "_live", "_stops", "strand")

    def __init__(self, stops: Stops, live: LiveRun | None) -> None:
        self._stops = stops
        self._live = live
        self._cancels = 0
        self.strand: asyncio.Task[Any] | None = None
        """The asyncio task that the code runs in, once it does."""

    def __enter__(self) -> ForeignCode:
        self._stops.check(self._live)
        task: asyncio.Task[Any] | None = asyncio.current_task(self._stops.loop)
        assert task is not None
        self.strand = task
        self._before = task.cancelling()
        self._stops.enter(self._live, self)
        return self

    def interrupt(self) -> None:
        assert self.strand is not None
        self._cancels += 1
        self.strand.cancel()
        if self._live is not None and self._live.killed is not None:
            self._live.killed.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stops.exit(self._live)
        strand = self.strand
        assert strand is not None
        for _ in range(self._cancels):
            strand.uncancel()
        if kind is None or not issubclass(kind, asyncio.CancelledError):
            return
        if strand.cancelling() > self._before:
            return  # the process itself is going down
        if self._stops.has_to_stop(self._live):
            raise Stopped from None
        raise CancelledItself("the task cancelled itself") from error


class OwnCode:
    """See ``Stops.own_code``."""

    __slots__ = ("_live", "_outer", "_stops")

    def __init__(self, stops: Stops, live: LiveRun) -> None:
        self._stops = stops
        self._live = live

    def __enter__(self) -> None:
        self._outer = self._stops.exit(self._live)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outer is not None:
            self._stops.enter(self._live, self._outer)
        if kind is None:
            # it may have been asked to stop while nobody could tell it
            self._stops.check(self._live)
