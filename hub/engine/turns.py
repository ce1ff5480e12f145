"""Whose turn it is: what the loop computes goes through here in small pieces, one namespace after another.

A loop runs what is ready in the order in which it became ready, so a namespace with a thousand executions would
make each step of another's only one wait for a thousand others. Requests and executions ask for a turn before
they compute and after each write; in a round of the loop turns are given for about two milliseconds, and the
namespaces take them in rotation. None gets more than half of the loop's time: a loop that is always busy answers
everybody late, however fair it is.

All of that is for company. A namespace that is alone at work has every turn at once and all of the time: spread
out, its writes would share fewer commits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from time import perf_counter

from hub.errors import StorageOverloaded

_ROUND = 0.002
"""Seconds that the turns of one round should take together."""
_SHARE = 0.5
"""The part of the loop's time that one of several namespaces may have."""
_CREDIT = 0.02
"""Seconds that a namespace which was quiet may use at once."""
_MOST_OWED = 0.05
"""Seconds: the piece may have been long for reasons of somebody else."""
_COMPANY = 1.0
"""Seconds for which a namespace counts as being at work after its last turn."""
_MOST_KNOWN = 1_000


class Turns:
    """Gives turns; each is over when whoever has it waits for something else."""

    def __init__(self, most_waiting: int = 5_000, *, now: Callable[[], float] = perf_counter) -> None:
        self._now = now
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._most_waiting = most_waiting
        self._in_round: list[str] = []
        """Whose turns the present round has."""
        self._began = 0.0
        self._piece = 0.0005
        """Seconds that a turn takes, of late."""
        self._pause: asyncio.TimerHandle | None = None
        self._credits: dict[str, tuple[float, float]] = {}
        """What each may still use at once, and when that was reckoned."""
        self._newest = ""
        self._joined_at = float("-inf")
        """When somebody asked who was another than the one before."""

    async def take(self, namespace: str) -> None:
        """Return when it is a namespace's turn."""
        now = self._now()
        if namespace != self._newest:
            self._newest, self._joined_at = namespace, now
        if self._is_alone(now) and not self._lines:
            return
        if not self._in_round and namespace not in self._lines and self._may(namespace, now):
            self._give([namespace])
            return
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(namespace, deque()).append(turn)
        if not self._in_round and self._pause is None:
            self._next()
        await turn

    async def take_or_refuse(self, namespace: str) -> None:
        """The same for what may come again later. Raises ``StorageOverloaded`` where too much waits."""
        line = self._lines.get(namespace)
        if line is not None and len(line) >= self._most_waiting:
            raise StorageOverloaded(f"{self._most_waiting} requests of {namespace} are waiting")
        await self.take(namespace)

    def _give(self, namespaces: list[str]) -> None:
        """A round begins; it is over once everybody in it has come to a wait."""
        self._in_round = namespaces
        self._began = self._now()
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        now = self._now()
        self._reckon(now)
        given: list[str] = []
        most = max(1, int(_ROUND / self._piece))
        while len(given) < most:
            namespace = next((one for one in self._lines if self._may(one, now)), None)
            if namespace is None:
                break
            line = self._lines[namespace]
            turn = line.popleft()
            if line:
                self._lines.move_to_end(namespace)
            else:
                del self._lines[namespace]
            if not turn.done():  # else who asked has gone
                turn.set_result(None)
                given.append(namespace)
        if given:
            # behind those who were woken: by then their pieces are done
            self._give(given)
        elif self._lines and self._pause is None:
            wait = min(-self._credit(one, now) / _SHARE for one in self._lines)
            self._pause = asyncio.get_running_loop().call_later(max(wait, 0.001), self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        if not self._in_round:
            self._next()

    def _reckon(self, now: float) -> None:
        """Charge the round that is over to those who had it."""
        if not self._in_round:
            return
        piece = (now - self._began) / len(self._in_round)
        self._piece += (min(piece, 0.01) - self._piece) * 0.1
        for namespace in self._in_round:
            left = max(self._credit(namespace, now) - piece, -_MOST_OWED)
            self._credits[namespace] = (left, now)
        self._in_round = []
        if len(self._credits) > _MOST_KNOWN:
            self._credits.clear()

    def _may(self, namespace: str, now: float) -> bool:
        return self._is_alone(now) or self._credit(namespace, now) >= 0

    def _is_alone(self, now: float) -> bool:
        """Whether all who asked of late were one namespace."""
        return now - self._joined_at > _COMPANY

    def _credit(self, namespace: str, now: float) -> float:
        known = self._credits.get(namespace)
        return _CREDIT if known is None else min(known[0] + (now - known[1]) * _SHARE, _CREDIT)
