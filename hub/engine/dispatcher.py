"""Start executors: those born claimed at once, the others when there is room or their time has come.

Suspects, which may have taken the last node down, run one at a time after the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from hub.engine.catalog import FlowCatalog
from hub.engine.executor import Executor
from hub.engine.routes import DEEPEST
from hub.engine.services import Services
from hub.engine.triggers import RunningTrigger
from hub.errors import HubError, InvalidInput, StorageError, StorageUnavailable
from hub.model.execution import Claim, Execution, ExecutionState, Parent
from hub.model.ids import FlowKey, TriggerKey
from hub.plugin.context import TriggerContext
from hub.plugin.storage import Accepted, Arrival, Recorded, Transition

if TYPE_CHECKING:
    from hub.engine.intake import Intake

log = structlog.get_logger("hub.engine")

_CLAIM_AT_ONCE = 200
_MOST_SUSPECT_STARTS = 3
_LANE_PATIENCE = 1.0
"""Seconds a suspect may run before the next one starts; long enough to take the node down, if it does."""
_OTHERS_FIRST = 10.0
"""Seconds the others get before the first suspect starts, if they do not end sooner."""
_LOOK_AGAIN = 1.0
"""Seconds between looks at the wall clock while something waits, so that a jump is noticed."""


class Dispatcher:
    """Owns the executors of this node."""

    def __init__(self, services: Services, catalog: FlowCatalog, *, limit: int) -> None:
        self._services = services
        self._catalog = catalog
        self._intake: Intake | None = None
        self._limit = limit
        self._running: dict[str, Executor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._suspects: deque[Claim] = deque()
        self._recovered: set[str] = set()
        # asked for between the claim and the first step: the executor is not there yet to be told
        self._killed_early: dict[str, str] = {}
        self._backlog = False
        self._draining = False
        self._poke = asyncio.Event()
        self._next_wake: datetime | None = None

    # what others call

    def has_room(self) -> bool:
        """Whether a new execution may be born claimed; not past older ones that still wait."""
        return not self._backlog and not self._draining and len(self._running) < self._limit

    def take(self, accepted: Accepted | Recorded) -> None:
        """Run what was claimed for this node; remember that others wait."""
        for claim in accepted.claims:
            self._launch(claim)
        if accepted.waiting:
            self._backlog = True
            self._poke.set()

    def wake(self, at: datetime) -> None:
        """Something may be claimed from ``at`` on."""
        if self._next_wake is None or at < self._next_wake:
            self._next_wake = at
            self._poke.set()

    def poke(self) -> None:
        """Something may be claimed now."""
        self._backlog = True
        self._poke.set()

    def serve(self, intake: Intake) -> None:
        """Hand in the intake, for the flows that ends and tasks start."""
        self._intake = intake

    async def end_of(
        self,
        execution: Execution,
        state: ExecutionState,
        *,
        outputs: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Arrival | None:
        """The event that an end is, where anybody wants it."""
        if self._intake is None:
            return None
        return await self._intake.end_of(execution, state, outputs=outputs, error=error)

    async def start(
        self,
        key: FlowKey,
        *,
        inputs: Mapping[str, Any],
        labels: Mapping[str, str],
        revision: int | None,
        execution_id: str,
        parent: Parent | None,
        depth: int,
    ) -> Execution:
        """Start a flow for a task. Raises ``NotFound``, ``InvalidInput``."""
        if self._intake is None:
            raise RuntimeError("the dispatcher was given no intake")
        if depth > DEEPEST:
            raise InvalidInput(f"more than {DEEPEST} flows started each other, one after another")
        return await self._intake.start(
            key,
            inputs=inputs,
            labels=labels,
            revision=revision,
            execution_id=execution_id,
            parent=parent,
            depth=depth,
        )

    def trigger_context(self, key: TriggerKey) -> TriggerContext:
        """What a trigger is given that prepares an execution, whether or not it runs."""
        return RunningTrigger(key, {}, self._services.clock.now(), self._services, self._catalog)

    def tell_parents(self, parents: Sequence[str], child: str) -> None:
        """A child has ended: wake its parents, held here or not."""
        for parent in parents:
            executor = self._running.get(parent)
            if executor is not None:
                executor.child_ended(child)

    def kill(self, execution_id: str, reason: str) -> None:
        """Kill an execution that this node holds, or is about to begin."""
        executor = self._running.get(execution_id)
        if executor is not None:
            executor.kill(reason)
        else:
            self._killed_early[execution_id] = reason

    def executors(self) -> list[Executor]:
        """The executors of this node."""
        return list(self._running.values())

    @property
    def running(self) -> int:
        """How many executions this node moves at present."""
        return len(self._running)

    # life

    async def run(self) -> None:
        """Claim and start what is due, until cancelled."""
        lane = asyncio.create_task(self._run_suspects())
        try:
            await self._claim_for_ever()
        finally:
            lane.cancel()
            await asyncio.gather(lane, return_exceptions=True)

    async def drain(self, grace: float) -> None:
        """Take nothing new; let what runs end within ``grace`` seconds and hand the rest back."""
        self._draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for executor in list(self._running.values()):
            executor.hand_back()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def recover(self) -> int:
        """Take over what earlier incarnations held. Answers how many executions go on."""
        taken = await self._services.storage.take_over(at=self._services.clock.now())
        if taken:
            log.info("executions recovered", count=taken)
        self.poke()
        return taken

    async def _claim_for_ever(self) -> None:
        while True:
            self._poke.clear()
            try:
                await self._claim_due()
            except StorageUnavailable as error:
                log.warning("storage is away; trying again", error=str(error))
                self._backlog = True
                await asyncio.sleep(_LOOK_AGAIN)
                continue
            if self._backlog and len(self._running) < self._limit and not self._poke.is_set():
                continue
            await self._rest()

    async def _rest(self) -> None:
        """Sleep until something is due, ends or is told."""
        timeout = None
        if self._next_wake is not None and not self._backlog:
            left = (self._next_wake - self._services.clock.now()).total_seconds()
            timeout = min(max(left, 0.0), _LOOK_AGAIN)
        try:
            async with asyncio.timeout(timeout):
                await self._poke.wait()
        except TimeoutError:
            return

    async def _claim_due(self) -> None:
        now = self._services.clock.now()
        is_due = self._next_wake is None or self._next_wake <= now
        room = min(self._limit - len(self._running) - len(self._suspects), _CLAIM_AT_ONCE)
        if self._draining or room <= 0 or not (self._backlog or is_due):
            return
        storage = self._services.storage
        # before asking: what is accepted meanwhile must set it again
        self._backlog = False
        self._next_wake = None
        claims = await storage.claim(limit=room, at=now)
        for claim in claims:
            if not claim.fresh:
                self._recovered.add(claim.execution.id)
            self._launch(claim)
        if len(claims) == room:
            self._backlog = True
            return
        following = await storage.next_wake_at()
        if following is not None:
            self.wake(following)

    def _launch(self, claim: Claim) -> None:
        if claim.suspect:
            self._suspects.append(claim)
            return
        self._spawn(claim)

    def _spawn(self, claim: Claim) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._run_one(claim))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run_one(self, claim: Claim) -> None:
        execution = claim.execution
        try:
            flow = await self._catalog.compiled(execution.flow, execution.revision)
        except HubError as error:
            await self._fail(claim, f"flow {execution.flow} revision {execution.revision}: {error.message}")
            return
        executor = Executor(claim, flow, self._services, self)
        self._running[execution.id] = executor
        early = self._killed_early.pop(execution.id, None)
        if early is not None:
            executor.kill(early)
        try:
            await executor.run()
        finally:
            del self._running[execution.id]
            self._recovered.discard(execution.id)
            if self._backlog or self._suspects:
                self._poke.set()

    async def _fail(self, claim: Claim, reason: str) -> None:
        """End an execution that cannot be run at all."""
        log.error("execution cannot run", execution=claim.execution.id, error=reason)
        event = await self.end_of(claim.execution, ExecutionState.FAILED, error=reason)
        transition = Transition(
            claim.execution.id,
            claim.fence,
            self._services.clock.now(),
            state=ExecutionState.FAILED,
            error=reason,
            arrivals=(event,) if event is not None else (),
        )
        try:
            recorded = await self._services.storage.record(transition)
            self.take(recorded)
            self.tell_parents(recorded.woken, claim.execution.id)
            self._services.watches.end(claim.execution.id, ())
        except StorageError as error:
            # it stays claimed; the next start takes it over
            log.error("execution could not be ended", execution=claim.execution.id, error=str(error))

    async def _run_suspects(self) -> None:
        """The lane of suspects: one at a time, the next when one has shown itself harmless."""
        waited = 0.0
        while True:
            if not self._suspects or (self._recovered and waited < _OTHERS_FIRST):
                await asyncio.sleep(0.1)
                waited = waited + 0.1 if self._suspects else 0.0
                continue
            claim = self._suspects.popleft()
            if claim.suspect_starts >= _MOST_SUSPECT_STARTS:
                reason = f"it took the node down {claim.suspect_starts} times; it is not tried again"
                await self._fail(claim, reason)
                continue
            task = self._spawn(claim)
            await self._until_harmless(claim, task)

    async def _until_harmless(self, claim: Claim, task: asyncio.Task[None]) -> None:
        await asyncio.sleep(0)
        executor = self._running.get(claim.execution.id)
        signs: list[asyncio.Future[object]] = [task]  # type: ignore[list-item]
        progress = None
        if executor is not None:
            progress = asyncio.get_running_loop().create_task(executor.has_progress.wait())
            signs.append(progress)  # type: ignore[arg-type]
        try:
            await asyncio.wait(signs, timeout=_LANE_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if progress is not None:
                progress.cancel()
