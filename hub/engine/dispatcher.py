"""Start executors: those born claimed at once, the others when there is room or their time has come."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from hub.engine.catalog import FlowCatalog
from hub.engine.compiled import CompiledFlow
from hub.engine.executor import Executor
from hub.engine.patience import persist
from hub.engine.routes import DEEPEST
from hub.engine.services import Services
from hub.engine.suspects import SuspectLane
from hub.engine.telling import tell_end
from hub.engine.triggers import RunningTrigger
from hub.errors import HubError, InvalidInput, StorageError, StorageOverloaded, StorageUnavailable
from hub.model.execution import Claim, Execution, ExecutionState, Parent
from hub.model.ids import FlowKey, TriggerKey
from hub.plugin.context import TriggerContext
from hub.plugin.storage import Accepted, Arrival, Recorded, Transition
from hub.plugin.trigger import Trigger

if TYPE_CHECKING:
    from hub.engine.intake import Intake
    from hub.engine.kills import Kills
    from hub.engine.outbox import Outbox

log = structlog.get_logger("hub.engine")

_CLAIM_AT_ONCE = 200
_MOST_SUSPECT_STARTS = 5
"""One more than a task run has: it is to blame before its execution is, which also covers what is not a task."""
_LOOK_AGAIN = 1.0
"""Seconds between looks at the wall clock while something waits, so that a jump is noticed."""
_LONGEST_HAND_BACK = 15.0
"""Seconds that executors have to end after they were told to: 7 for scripts, 5 for a storage that is away."""
_MOST_KILLED_EARLY = 10_000


class Dispatcher:
    """Owns the executors of this node."""

    def __init__(self, services: Services, catalog: FlowCatalog, *, limit: int) -> None:
        self._services = services
        self._catalog = catalog
        self._intake: Intake | None = None
        self._kills: Kills | None = None
        self._limit = limit
        self._running: dict[str, Executor] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lane = SuspectLane(self._spawn, self._running.get)
        self._held: Counter[str] = Counter()
        """How many executions of each namespace this node moves."""
        # places that are kept for executions which are being stored
        self._reserved = 0
        # asked for between the claim and the first step: the executor is not there yet to be told
        self._killed_early: OrderedDict[str, str] = OrderedDict()
        self._backlog = False
        self._draining = False
        self._handing_back = False
        self.is_over = False
        self._poke = asyncio.Event()
        self._next_wake: datetime | None = None

    # what others call

    def reserve(self, wanted: int) -> int:
        """Keep places free while new executions are stored; answers how many of them may be born claimed.

        None may past older ones that still wait. What is kept is owed to ``free``.
        """
        kept = 0
        if not self._backlog and not self._draining:
            kept = max(min(wanted, self._limit - self._busy), 0)
        self._reserved += kept
        return kept

    def free(self, kept: int) -> None:
        """Keep places free no longer."""
        self._reserved -= kept
        if self._backlog and kept:
            self._poke.set()

    @property
    def _busy(self) -> int:
        return len(self._tasks) + len(self._lane) + self._reserved

    def take(self, accepted: Accepted | Recorded) -> None:
        """Run what was claimed for this node; remember that others wait."""
        for claim in accepted.claims:
            self._launch(claim)
        if accepted.waiting:
            self.poke()

    def wake(self, at: datetime) -> None:
        """Something may be claimed from ``at`` on."""
        if self._next_wake is None or at < self._next_wake:
            self._next_wake = at
            self._poke.set()

    def poke(self) -> None:
        """Something may be claimed now."""
        self._backlog = True
        self._poke.set()

    def serve(self, intake: Intake, kills: Kills) -> None:
        """Hand in the intake, for the flows that ends and tasks start, and what kills these."""
        self._intake, self._kills = intake, kills

    def hears_ends(self, flow: CompiledFlow) -> bool:
        """Whether an end of the flow may bring anything."""
        return self._intake is not None and self._intake.hears_ends(flow)

    async def end_of(
        self,
        execution: Execution,
        state: ExecutionState,
        *,
        outputs: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Arrival | None:
        """What an end brings: the event that it is, where anybody wants it, and the notices it owes."""
        if self._intake is None:
            return None
        return await self._intake.end_of(execution, state, outputs=outputs, error=error)

    @property
    def outbox(self) -> Outbox:
        """Makes the notices that tasks owe."""
        if self._intake is None:
            raise RuntimeError("the dispatcher was given no intake")
        return self._intake.outbox

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

    async def kill_children(self, execution_id: str, reason: str, is_meant: Callable[[str], bool]) -> None:
        """Kill what an execution waits for at the paths that are meant."""
        if self._kills is not None:
            await self._kills.kill_children(execution_id, reason, is_meant)

    def trigger_context(self, key: TriggerKey, trigger: Trigger) -> TriggerContext:
        """What a trigger is given that prepares an execution, whether or not it runs."""
        services = self._services
        settings = services.registry.settings_of(type(trigger))
        return RunningTrigger(key, trigger.type, {}, services.clock.now(), settings, services, self._catalog)

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
            return
        self._killed_early[execution_id] = reason
        if len(self._killed_early) > _MOST_KILLED_EARLY:
            self._killed_early.popitem(last=False)
        suspect = self._lane.take_out(execution_id)
        if suspect is not None:
            self._spawn(suspect)

    def lose_all(self) -> None:
        """This hub was taken for dead: what it holds is another's now."""
        self._lane.take_all()
        for executor in list(self._running.values()):
            executor.lose()

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
        lane = asyncio.create_task(self._lane.run())
        try:
            await self._claim_for_ever()
        finally:
            self.is_over = True
            lane.cancel()
            await asyncio.gather(lane, return_exceptions=True)

    async def pause(self, patience: float) -> bool:
        """Take nothing new, and let what runs end; answers whether all of it has in ``patience`` seconds."""
        self._draining = True
        await self._until_idle(patience)
        return not self._tasks

    def resume(self) -> None:
        """Go on after a pause."""
        self._draining = False
        self.poke()

    async def outlast(self, patience: float) -> None:
        """Wait for what runs now, at most ``patience`` seconds, while more may begin."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=patience)

    async def drain(self, grace: float) -> None:
        """Take nothing new; let what runs end within ``grace`` seconds and hand the rest back."""
        self._draining = True
        for claim in self._lane.take_all():
            self._own(self._give_back(claim))
        await self._until_idle(grace)
        self.hand_back()
        await self._until_idle(_LONGEST_HAND_BACK)
        if self._tasks:
            log.warning(
                "executions did not end in time; the next start takes them over", count=len(self._tasks)
            )
            left = list(self._tasks)
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=1.0)

    def hand_back(self) -> None:
        """Hand back at once what runs, when the hub stops."""
        self._handing_back = True
        for executor in list(self._running.values()):
            executor.hand_back()

    async def _until_idle(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        # what ends may let others in, which are given back
        while self._tasks and (left := until - loop.time()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left, return_when=asyncio.FIRST_COMPLETED)

    async def recover(self) -> int:
        """Take over what earlier incarnations held. Answers how many executions go on."""
        taken = await self._services.storage.take_over(at=self._services.clock.now())
        if taken:
            log.info("executions recovered", count=taken)
        self.poke()
        return taken

    # claiming

    async def _claim_for_ever(self) -> None:
        while True:
            self._poke.clear()
            try:
                has_more = await self._claim_due()
            except (StorageUnavailable, StorageOverloaded) as error:
                log.warning("storage is away; trying again", error=str(error))
                self._backlog = True
                await asyncio.sleep(_LOOK_AGAIN)
                continue
            if not has_more:
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

    async def _claim_due(self) -> bool:
        """Claim as many as there is room for; answers whether it is worth asking again at once."""
        now = self._services.clock.now()
        is_due = self._next_wake is not None and self._next_wake <= now
        if is_due:
            self._backlog = True
        room = min(self._limit - self._busy, _CLAIM_AT_ONCE)
        if self._draining or room <= 0 or not self._backlog:
            return False
        storage = self._services.storage
        # before asking: what is accepted meanwhile must set it again
        self._backlog = False
        self._next_wake = None
        # owned: what was claimed while the node begins to stop is given back before it ends
        claiming = asyncio.get_running_loop().create_task(self._claim(room, now))
        self._tasks.add(claiming)
        claiming.add_done_callback(self._tasks.discard)
        if await asyncio.shield(claiming) == room:
            self._backlog = True
            return True
        following = await storage.next_wake_at()
        if following is not None:
            self.wake(following)
        return False

    async def _claim(self, limit: int, now: datetime) -> int:
        """Claim and start; answers how many."""
        claims = await self._services.storage.claim(limit=limit, at=now, held=self._held)
        for claim in claims:
            if not claim.fresh and not claim.suspect:
                self._lane.wait_for(claim.execution.id)
            self._launch(claim)
        return len(claims)

    # starting

    def _launch(self, claim: Claim) -> None:
        if self._draining:
            self._own(self._give_back(claim))
        elif claim.suspect:
            self._lane.add(claim)
        else:
            self._spawn(claim)

    def _spawn(self, claim: Claim) -> asyncio.Task[None]:
        self._held[claim.execution.flow.namespace] += 1
        return self._own(self._run_one(claim))

    def _let_go(self, namespace: str) -> None:
        self._held[namespace] -= 1
        if not self._held[namespace]:
            del self._held[namespace]

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._backlog:
            self._poke.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an executor failed; its execution stays claimed", exc_info=error)

    async def _run_one(self, claim: Claim) -> None:
        execution = claim.execution
        try:
            # those who brought it are answered first: answers that follow each other wake their callers together
            await asyncio.sleep(0)
            if claim.suspect_starts >= _MOST_SUSPECT_STARTS:
                reason = f"it took the node down {claim.suspect_starts} times; it is not tried again"
                await self._fail(claim, reason)
                return
            try:
                flow = await self._compiled(execution)
            except StorageError:
                raise
            except HubError as error:
                reason = f"flow {execution.flow} revision {execution.revision}: {error.message}"
                await self._fail(claim, reason)
                return
            await self._execute(claim, flow)
        except StorageError as error:
            # it stays claimed; the next start takes it over
            log.error("execution could not be ended", execution=execution.id, error=str(error))
        finally:
            self._killed_early.pop(execution.id, None)
            self._lane.ended(execution.id)
            self._let_go(execution.flow.namespace)

    async def _compiled(self, execution: Execution) -> CompiledFlow:
        known = self._catalog.known(execution.flow, execution.revision)
        if known is not None:
            return known
        return await persist(
            lambda: self._catalog.compiled(execution.flow, execution.revision),
            execution=execution.id,
            has_given_up=lambda: self._handing_back,
        )

    async def _execute(self, claim: Claim, flow: CompiledFlow) -> None:
        executor = Executor(claim, flow, self._services, self)
        execution_id = claim.execution.id
        self._running[execution_id] = executor
        early = self._killed_early.pop(execution_id, None)
        if early is not None:
            executor.kill(early)
        if self._handing_back:
            executor.hand_back()
        try:
            await executor.run()
        finally:
            # released, it may have been claimed and begun again before this came to its end
            if self._running.get(execution_id) is executor:
                del self._running[execution_id]

    async def _fail(self, claim: Claim, reason: str) -> None:
        """End an execution that cannot be run at all."""
        execution = claim.execution
        log.error("execution cannot run", execution=execution.id, error=reason)
        await self.kill_children(execution.id, reason, lambda _: True)
        brought = await self.end_of(execution, ExecutionState.FAILED, error=reason)
        recorded = await self._record(
            claim,
            state=ExecutionState.FAILED,
            error=reason,
            arrivals=(brought,) if brought is not None else (),
        )
        if brought is not None and brought.notices:
            self._services.owed.set()
        self._services.watches.end(execution.id, ())
        seconds = (self._services.clock.now() - execution.created_at).total_seconds()
        self._services.bus.tell(
            "execution", execution.id, state="FAILED", flow=str(execution.flow), seconds=seconds
        )
        tell_end(self._services, execution, ExecutionState.FAILED, reason, brought, recorded)
        self.take(recorded)
        self.tell_parents(recorded.woken, execution.id)

    async def _give_back(self, claim: Claim) -> None:
        """Let go of what was claimed while the node stops, as if it had not been."""
        try:
            await self._record(claim, release=True)
            # a pause may be over before this is stored
            self.wake(self._services.clock.now())
        except StorageError as error:
            log.warning("execution stays claimed", execution=claim.execution.id, error=str(error))

    async def _record(self, claim: Claim, **changes: Any) -> Recorded:
        step = Transition(claim.execution.id, claim.fence, self._services.clock.now(), **changes)
        return await persist(
            lambda: self._services.storage.record(step),
            execution=claim.execution.id,
            has_given_up=lambda: self._handing_back,
        )
