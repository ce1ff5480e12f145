"""The lane of the suspects: executions that may have taken the last node down with them.

They run after the others that were recovered. Those that were merely there when the node went down run several
at a time; those that have gone down with it since run alone, for longer each time, so that one which takes the
node down again is known for certain.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from hub.engine.executor import Executor
from hub.model.execution import Claim

_OTHERS_FIRST = 3.0
"""Seconds the others get before the first suspect starts, if they do not end sooner."""
_SIDE_BY_SIDE = 16
_PATIENCE = (1.0, 1.0, 60.0)
"""Seconds a suspect may run before the next one starts, by how often it went down with its node."""

Begin = Callable[[Claim], asyncio.Task[None]]


class SuspectLane:
    """Starts suspects one after another."""

    def __init__(self, begin: Begin, executor_of: Callable[[str], Executor | None]) -> None:
        self._begin = begin
        self._executor_of = executor_of
        self._waiting: OrderedDict[str, Claim] = OrderedDict()
        self._others: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, claim: Claim) -> None:
        """Let a suspect wait for its turn."""
        self._waiting[claim.execution.id] = claim
        self._changed.set()

    def take_out(self, execution_id: str) -> Claim | None:
        """Let one that waits wait no longer."""
        return self._waiting.pop(execution_id, None)

    def take_all(self) -> list[Claim]:
        """Let none wait any longer."""
        claims = list(self._waiting.values())
        self._waiting.clear()
        return claims

    def wait_for(self, execution_id: str) -> None:
        """An execution goes before every suspect."""
        self._others.add(execution_id)

    def ended(self, execution_id: str) -> None:
        """An execution runs no more."""
        if execution_id in self._others:
            self._others.remove(execution_id)
            self._changed.set()

    async def run(self) -> None:
        """Start those that wait, until cancelled."""
        try:
            while True:
                await self._until(lambda: bool(self._waiting))
                await self._others_first()
                await self._start_all()
        finally:
            for watching in self._running:
                watching.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _others_first(self) -> None:
        try:
            async with asyncio.timeout(_OTHERS_FIRST):
                await self._until(lambda: not self._others)
        except TimeoutError:
            self._others.clear()

    async def _start_all(self) -> None:
        while self._waiting:
            # those that are least likely to be to blame come first
            claim = min(self._waiting.values(), key=lambda claim: claim.suspect_starts)
            room = _SIDE_BY_SIDE if claim.suspect_starts == 0 else 1
            await self._until_running_less_than(room)
            if self.take_out(claim.execution.id) is None:
                continue  # killed meanwhile
            watching = asyncio.get_running_loop().create_task(self._until_harmless(claim, self._begin(claim)))
            self._running.add(watching)
            watching.add_done_callback(self._watched)

    async def _until_running_less_than(self, room: int) -> None:
        await self._until(lambda: len(self._running) < room)

    def _watched(self, watching: asyncio.Task[None]) -> None:
        self._running.discard(watching)
        self._changed.set()

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._changed.clear()
            await self._changed.wait()

    async def _until_harmless(self, claim: Claim, task: asyncio.Task[None]) -> None:
        """Return when a suspect has ended, has made progress, or has run for so long that it may be trusted."""
        await asyncio.sleep(0)
        patience = _PATIENCE[min(claim.suspect_starts, len(_PATIENCE) - 1)]
        signs: set[asyncio.Future[object]] = {task}  # type: ignore[arg-type]
        executor = self._executor_of(claim.execution.id)
        progress = None
        if executor is not None:
            progress = asyncio.get_running_loop().create_task(executor.has_progress.wait())
            signs.add(progress)  # type: ignore[arg-type]
        try:
            await asyncio.wait(signs, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if progress is not None:
                progress.cancel()
