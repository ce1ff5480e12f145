"""Whose turn it is: what the loop computes and what the storage writes goes through here in small pieces, one
namespace after another.

A loop runs what is ready in the order in which it became ready, and a commit takes along whatever waits for it.
So a namespace with a thousand executions would make each step of another's only one wait for a thousand others,
and each of its writes for a thousand rows. In company a namespace has few writes under way at a time, and what
it computes is given out in rounds that take well under a millisecond, in which the namespaces take turns.

All of that is for company. A namespace that is alone at work has every turn at once and all of the time: spread
out, its writes would share fewer commits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import ParamSpec, TypeVar

from hub.errors import StorageOverloaded

P = ParamSpec("P")
T = TypeVar("T")

_ROUND = 0.0005
"""Seconds that the turns of one round should take together."""
_WRITES = 4
"""How many writes of each of several namespaces are under way at a time."""
_COMPANY = 1.0
"""Seconds for which a namespace counts as being at work after its last turn."""


class Turns:
    """Gives turns; each is over when whoever has it waits for something else."""

    def __init__(self, most_waiting: int = 5_000, *, now: Callable[[], float] = perf_counter) -> None:
        self._now = now
        self._most_waiting = most_waiting
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._in_round = 0
        self._began = 0.0
        self._piece = 0.0002
        """Seconds that a turn takes, of late."""
        self._writing: dict[str, int] = {}
        """How many writes of each are under way."""
        self._writers: dict[str, deque[asyncio.Future[None]]] = {}
        self._newest = ""
        self._joined_at = 0.0
        """When somebody asked who was another than the one before."""
        self._in_company = False

    def is_alone(self, namespace: str) -> bool:
        """Whether all who asked of late were this namespace: then it has its turn."""
        if namespace != self._newest:
            self._in_company = self._newest != ""
            self._newest, self._joined_at = namespace, self._now()
        elif self._in_company and not self._lines and not self._writers:
            self._in_company = self._now() - self._joined_at <= _COMPANY
        return not self._in_company

    # computing

    async def take(self, namespace: str) -> None:
        """Return when it is a namespace's turn to compute."""
        if self.is_alone(namespace):
            return
        if not self._in_round and not self._lines:
            self._give(1)
            return
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(namespace, deque()).append(turn)
        await turn

    async def take_or_refuse(self, namespace: str) -> None:
        """The same for what may come again later. Raises ``StorageOverloaded`` where too much waits."""
        line = self._lines.get(namespace)
        if line is not None and len(line) >= self._most_waiting:
            raise StorageOverloaded(f"{self._most_waiting} requests of {namespace} are waiting")
        await self.take(namespace)

    def _give(self, turns: int) -> None:
        """A round begins; it is over once everybody in it has come to a wait."""
        self._in_round = turns
        self._began = self._now()
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        piece = (self._now() - self._began) / self._in_round
        self._piece += (min(piece, 0.01) - self._piece) * 0.1
        self._in_round = 0
        most = max(1, int(_ROUND / self._piece))
        given = 0
        while self._lines and given < most:
            namespace, line = next(iter(self._lines.items()))
            turn = line.popleft()
            if line:
                self._lines.move_to_end(namespace)
            else:
                del self._lines[namespace]
            if not turn.done():  # else who asked has gone
                turn.set_result(None)
                given += 1
        if given:
            # behind those who were woken: by then their pieces are done
            self._give(given)

    # writing

    def write(
        self, namespace: str, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """The answer of a write, begun when it is a namespace's turn."""
        if self.is_alone(namespace):
            return work(*args, **kwargs)
        return self._write_in_turn(namespace, lambda: work(*args, **kwargs))

    async def _write_in_turn(self, namespace: str, work: Callable[[], Awaitable[T]]) -> T:
        await self._begin_write(namespace)
        try:
            return await work()
        finally:
            self._end_write(namespace)

    async def _begin_write(self, namespace: str) -> None:
        under_way = self._writing.get(namespace, 0)
        if under_way < _WRITES:
            self._writing[namespace] = under_way + 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._writers.setdefault(namespace, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had got its turn already
                self._end_write(namespace)
            raise

    def _end_write(self, namespace: str) -> None:
        """Hand the place on to the next, if anybody waits for one."""
        line = self._writers.get(namespace)
        while line:
            turn = line.popleft()
            if not line:
                del self._writers[namespace]
            if not turn.done():
                turn.set_result(None)
                return
        self._writing[namespace] -= 1
        if not self._writing[namespace]:
            del self._writing[namespace]
