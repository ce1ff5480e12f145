"""Run the triggers of the flows in use, each in a supervisor; hand requests to those that receive them.

A trigger that fails is shown and started again with back-off. A flow that changes has its triggers replaced.
"""

from __future__ import annotations

import asyncio
import hmac
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel

from hub.bus import Bus, Subscription
from hub.engine.attempt import problem_of
from hub.engine.catalog import FlowCatalog
from hub.engine.compiled import build_trigger, component_class
from hub.engine.faults import note_of_trigger
from hub.engine.intake import Intake, bookmarks_of
from hub.engine.owned_files import OwnedFiles
from hub.engine.rendering import Field
from hub.engine.routes import Routes
from hub.engine.services import Services
from hub.engine.waiting_events import HEARD, WaitingHere, is_batched, topic_of
from hub.errors import Conflict, HubError, InvalidInput, NotFound, StorageError, TriggerUnusable
from hub.model import jsontext
from hub.model.event import Occurrence, Origin, Receipt
from hub.model.execution import Execution, ExecutionState
from hub.model.flow import TriggerDeclaration
from hub.model.ids import FlowKey, TriggerKey
from hub.model.naming import spelled
from hub.model.task_run import TaskRun, TaskRunState
from hub.plugin.context import Bookmark, Emit, EndNews, SourceStatus, TaskFiles, TriggerContext, WaitingEvents
from hub.plugin.storage import Page
from hub.plugin.trigger import EventTrigger, HttpTrigger, Trigger, collide

log = structlog.get_logger("hub.triggers")

T = TypeVar("T")

KEY_TAKEN = "another trigger of this flow has its key and a method of it"
"""Why a webhook is broken that no secret heals."""
_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 60.0
_LEASE_AGAIN_AFTER = 2.0
"""Seconds between two asks for a trigger that another hub runs."""
_BUILT_AGAIN_AFTER = 1.0
"""Seconds between two tries to build a trigger that a request may be for."""


@dataclass(slots=True)
class TriggerStatus:
    """How a trigger does, for lists."""

    state: str = "starting"
    """``starting``, ``running``, ``failing``, ``disabled``, ``broken`` (it cannot be built) or ``standby`` (another
    hub over the same storage runs it)."""
    error: str | None = None
    failures: int = 0
    source: SourceStatus | None = None
    """What it reported of itself, where it reads a source part by part."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A trigger that receives requests, ready to."""

    trigger: HttpTrigger
    ctx: TriggerContext
    emit: Emit


@dataclass(slots=True)
class Receiving:
    """The triggers of one flow that receive requests."""

    listening: list[Listening]
    broken: list[TriggerDeclaration]
    """Those that could not be built: a secret is missing, say."""
    stale_at: float
    """When the broken ones may be built again."""


class TriggerSupervisor:
    """Owns the triggers of this node."""

    def __init__(self, services: Services, catalog: FlowCatalog, intake: Intake, routes: Routes) -> None:
        self._services = services
        self._catalog = catalog
        self._intake = intake
        self._routes = routes
        self._tasks: dict[TriggerKey, asyncio.Task[None]] = {}
        self._receiving: dict[FlowKey, Receiving] = {}
        self._status: dict[TriggerKey, TriggerStatus] = {}
        self._changed: set[FlowKey] = set()
        self._settling = asyncio.Lock()
        # triggers that this hub alone runs, of the several over one storage
        self._leased: set[TriggerKey] = set()
        self._is_shared = not services.storage.single_process
        self._poke = asyncio.Event()

    async def run(self) -> None:
        """Keep every flow's triggers running, until cancelled."""
        try:
            while True:
                await self._poke.wait()
                self._poke.clear()
                await self.settle()
        finally:
            await self.stop()

    async def settle(self) -> None:
        """Bring the running triggers in line with the flows that changed."""
        # one at a time: two that replaced the same flow would both start its triggers
        async with self._settling:
            while self._changed:
                key = self._changed.pop()
                await self._replace(key)

    def leases_lost(self) -> None:
        """This hub was taken for dead: others may run what it ran alone."""
        for name in [*self._leased]:
            self._leased.discard(name)
            self.refresh(name.flow_key)

    def refresh(self, key: FlowKey) -> None:
        """A flow was put or retired."""
        self._receiving.pop(key, None)
        self._changed.add(key)
        self._poke.set()

    async def stop(self) -> None:
        """Cancel every trigger and wait for it."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._intake.settled()
        await self._give_back([*self._leased])

    def status(self, key: TriggerKey) -> TriggerStatus:
        """How a trigger does; one that only receives requests is running when its flow is in use."""
        return self._status.get(key, TriggerStatus("running"))

    def sources(self) -> dict[TriggerKey, SourceStatus]:
        """What triggers that read a source part by part report of themselves."""
        return {key: one.source for key, one in self._status.items() if one.source is not None}

    async def receiver(self, key: FlowKey, secret: str, method: str) -> Listening | None:
        """The trigger of a flow whose URL key is ``secret``, compared in constant time.

        Of several, the one that takes ``method``. Raises ``TriggerUnusable`` where one that cannot be built
        now may be meant.
        """
        receiving = self._receiving.get(key)
        if receiving is None or (receiving.broken and time.monotonic() > receiving.stale_at):
            receiving = await self._receive(key)
        wanted = secret.encode()
        matching = [one for one in receiving.listening if _is(one.trigger.key, wanted)]
        if matching:
            return next((one for one in matching if one.trigger.takes(method)), matching[0])
        for declaration in receiving.broken:
            literal = str(declaration.properties.get("key", ""))
            if "{{" in literal or "{%" in literal or _is(literal, wanted):
                raise TriggerUnusable(
                    "this webhook cannot be used now", hint="hub triggers list says why; send it again later"
                )
        return None

    async def look_again(self, key: FlowKey) -> None:
        """Build what could not be built before, so that its status is of now."""
        receiving = self._receiving.get(key)
        if receiving is None or receiving.broken:
            await self._receive(key)

    async def _receive(self, key: FlowKey) -> Receiving:
        """Build the triggers of a flow that receive requests; remembered unless the flow changes meanwhile."""
        record = await self._catalog.find(key)
        receiving = Receiving([], [], time.monotonic() + _BUILT_AGAIN_AFTER)
        for declaration in self._catalog.triggers(key):
            component = self._services.registry.triggers.get(declaration.type)
            if declaration.disabled or component is None or not issubclass(component, HttpTrigger):
                continue
            name = TriggerKey(*key, declaration.id)
            try:
                trigger = await self.build(key, declaration)
            except HubError as error:
                self._break(name, error)
                receiving.broken.append(declaration)
                continue
            assert isinstance(trigger, HttpTrigger)
            if any(collide(one.trigger, trigger) for one in receiving.listening):
                self._break(name, InvalidInput(KEY_TAKEN))
                continue
            self._status.pop(name, None)
            receiving.listening.append(
                Listening(trigger, self._context(name, trigger), self._emit(name, trigger))
            )
        if record is not None and self._catalog.get(key) is record:
            self._receiving[key] = receiving
        return receiving

    async def build(self, key: FlowKey, declaration: TriggerDeclaration) -> Trigger:
        """A trigger with its fields rendered. Raises ``HubError``."""
        return await build_declared(self._services, self._catalog, key, declaration)

    async def ready(self, name: TriggerKey) -> tuple[Trigger, TriggerContext, Emit]:
        """A trigger of its own, with what it needs to run: for a test. Raises ``NotFound``, ``Conflict``, ``HubError``."""
        for declaration in self._catalog.triggers(name.flow_key):
            if declaration.id == name.trigger:
                if declaration.disabled:
                    raise Conflict(f"trigger {name} is disabled", hint="set disabled: false in its flow")
                trigger = await self.build(name.flow_key, declaration)
                return trigger, self._context(name, trigger), self._emit(name, trigger)
        raise NotFound(f"no trigger {name} in use", hint="hub triggers list names them")

    async def _replace(self, key: FlowKey) -> None:
        old = [name for name in self._tasks if name.flow_key == key]
        stopping = [self._tasks.pop(name) for name in old]
        for task in stopping:
            task.cancel()
        await asyncio.gather(*stopping, return_exceptions=True)
        # what an old one has just emitted is known before a new one asks where it stands
        await self._intake.settled(key)
        await self._give_back([name for name in self._leased if name.flow_key == key])
        for name in [name for name in self._status if name.flow_key == key]:
            del self._status[name]
        self._routes.drop(key)
        for declaration in self._catalog.triggers(key):
            await self._begin(key, declaration)

    async def _begin(self, key: FlowKey, declaration: TriggerDeclaration) -> None:
        name = TriggerKey(*key, declaration.id)
        component = self._services.registry.triggers.get(declaration.type)
        if component is not None and issubclass(component, EventTrigger):
            await self._open_route(name, declaration)
        elif declaration.disabled:
            self._status[name] = TriggerStatus("disabled")
        elif component is None:
            self._status[name] = TriggerStatus(
                "broken", f'no installed plugin brings the type "{declaration.type}"'
            )
        elif issubclass(component, HttpTrigger):
            if key not in self._receiving and "{{" in str(declaration.properties):
                # what it lacks, a secret as a rule, is said before somebody calls it
                await self._receive(key)
            if is_batched(self._services.registry, declaration):
                self._start(name, declaration)
        else:
            self._start(name, declaration)

    def _start(self, name: TriggerKey, declaration: TriggerDeclaration) -> None:
        self._status[name] = TriggerStatus("starting")
        self._tasks[name] = asyncio.get_running_loop().create_task(self._supervise(name, declaration))

    async def _open_route(self, name: TriggerKey, declaration: TriggerDeclaration) -> None:
        try:
            trigger = await self.build(name.flow_key, declaration)
        except HubError as error:
            self._break(name, error)
            return
        assert isinstance(trigger, EventTrigger)
        self._routes.put(name, trigger, disabled=declaration.disabled)
        self._status[name] = TriggerStatus("disabled" if declaration.disabled else "running")

    async def _supervise(self, name: TriggerKey, declaration: TriggerDeclaration) -> None:
        """Run one trigger for ever: what it raises is shown, then it is started again."""
        # one that receives requests too may be given another status meanwhile
        status = self._status[name]
        backoff = _FIRST_BACKOFF
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                trigger = await self.build(name.flow_key, declaration)
                if self._is_shared and not trigger.anywhere:
                    await self._until_leased(name, status)
                status.state, status.error = "running", None
                await trigger.run(self._context(name, trigger), self._emit(name, trigger))
                raise HubError("the trigger stopped by itself")
            except Exception as error:
                # a trigger's failure must not become the hub's
                note_of_trigger(self._services, str(name), declaration.type, error)
                self._status[name] = status
                status.state, status.failures = "failing", status.failures + 1
                status.error = self._services.vault.mask(problem_of(error).reason)
                log.warning("trigger failed; starting it again", trigger=str(name), error=status.error)
            if loop.time() - began >= _LONGEST_BACKOFF:
                backoff = _FIRST_BACKOFF  # it had been well for longer than it would have to wait
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    async def _until_leased(self, name: TriggerKey, status: TriggerStatus) -> None:
        """Wait until this hub is the one that runs a trigger: at once, or when the one that does has ended."""
        storage = self._services.storage
        while not await storage.lease(name):
            status.state, status.error = "standby", None
            await asyncio.sleep(_LEASE_AGAIN_AFTER * random.uniform(0.8, 1.2))
        self._leased.add(name)
        # where the one before it left off
        await self._intake.learn(name)

    async def _give_back(self, names: Sequence[TriggerKey]) -> None:
        for name in names:
            self._leased.discard(name)
            with suppress(StorageError):  # it ends with this hub's own lease
                await self._services.storage.give_back(name)

    def _break(self, name: TriggerKey, error: HubError) -> None:
        reason = self._services.vault.mask(error.message)
        known = self._status.get(name)
        if known is None or known.error != reason:
            log.warning("trigger cannot be used", trigger=str(name), error=reason)
        self._status[name] = TriggerStatus("broken", reason)

    def _context(self, name: TriggerKey, trigger: Trigger) -> RunningTrigger:
        since = self._catalog.enabled_since(name.flow_key, name.trigger)
        return RunningTrigger(
            name,
            trigger.type,
            self._intake.state(name),
            datetime.fromisoformat(since) if since else self._services.clock.now(),
            self._services.registry.settings_of(type(trigger)),
            self._services,
            self._catalog,
            lambda source: self._report(name, source),
        )

    def _report(self, name: TriggerKey, source: SourceStatus) -> None:
        """A trigger that runs says how it does."""
        status = self._status.get(name)
        if status is None:
            return
        status.source = source
        status.error = None if source.error is None else self._services.vault.mask(source.error)
        status.state = "running" if source.error is None else "failing"

    def _emit(self, name: TriggerKey, trigger: Trigger) -> Emit:
        return BusEmit(self._services.bus, name, trigger)


async def build_declared(
    services: Services, catalog: FlowCatalog, key: FlowKey, declaration: TriggerDeclaration
) -> Trigger:
    """A flow's trigger with its fields rendered. Raises ``HubError``."""
    component = component_class(services.registry.triggers, declaration.type)
    scope: dict[str, Any] = {"flow": {"id": key.id, "namespace": key.namespace}, "vars": {}}
    if any("vars" in str(value) for value in declaration.properties.values()):
        flow = await catalog.compiled(key)
        scope["vars"] = await flow.variables.render(scope, services.vault)
    return await build_trigger(declaration, component, services.functions, services.vault, scope)


def _is(key: str, wanted: bytes) -> bool:
    return hmac.compare_digest(key.encode(), wanted)


class BusEmit:
    """``Emit`` for one trigger."""

    def __init__(self, bus: Bus, source: TriggerKey, trigger: Trigger) -> None:
        self._bus = bus
        self._origin = Origin.of_trigger(source)
        self._event_type = trigger.event_type or f"hub.{trigger.type}"
        self._model = trigger.Data

    async def __call__(
        self,
        occurrences: Sequence[Occurrence] | Occurrence,
        *,
        state: Mapping[str, Any] | None = None,
        bookmark: Bookmark | None = None,
    ) -> list[Receipt]:
        several = [occurrences] if isinstance(occurrences, Occurrence) else list(occurrences)
        if self._model is not None:
            several = [self._spelled(one, self._model) for one in several]
        return await self._bus.publish(
            self._origin, several, state, event_type=self._event_type, bookmark=bookmark
        )

    @staticmethod
    def _spelled(one: Occurrence, model: type[BaseModel]) -> Occurrence:
        data = spelled(one.data, model)
        return one if data is one.data else replace(one, data=data)


class RunningTrigger(TriggerContext):
    """``TriggerContext`` for one trigger of a flow in use."""

    def __init__(
        self,
        key: TriggerKey,
        type_name: str,
        state: Mapping[str, Any],
        enabled_since: datetime,
        settings: Any,
        services: Services,
        catalog: FlowCatalog,
        report: Callable[[SourceStatus], None] | None = None,
    ) -> None:
        self.key = key
        self._type = type_name
        self.state = state
        self.enabled_since = enabled_since
        self.settings = settings
        self._services = services
        self._catalog = catalog
        self._report = report
        self._fields: dict[str, Field] = {}

    def now(self) -> datetime:
        return self._services.clock.now()

    async def sleep_until(self, moment: datetime) -> None:
        await self._services.timer.wait_until(moment)

    def place(self, path: str, *, write: bool = False, below: bool = False) -> Path:
        return self._services.places.resolve(path, write=write, below=below)

    def files(self, event_id: str) -> TaskFiles:
        return OwnedFiles(self._services.payloads.store, event_id)

    async def known(self, keys: Sequence[str]) -> dict[str, str]:
        services = self._services
        return await services.storage.known_deliveries(str(self.key), keys, at=services.clock.now())

    async def outcomes(self, event_ids: Sequence[str]) -> dict[str, ExecutionState | None]:
        found = await self._services.storage.executions_of_events(event_ids, with_replays=True)
        return {id: _outcome(executions) for id, executions in found.items()}

    @contextmanager
    def ends(self) -> Iterator[EndNews]:
        with self._services.bus.subscribe("execution", size=10_000) as news:
            yield _Ends(news)

    async def result(
        self, execution_id: str, *, timeout: float, early: str | None = None
    ) -> tuple[Execution, Mapping[str, Any] | None]:
        services = self._services
        until = asyncio.get_running_loop().time() + timeout
        with services.watches.on(execution_id, task_type=early) as watch:
            # one that answered before anybody watched is found in the storage
            row = await self._earlier(execution_id, early) if early is not None else None
            while True:
                watch.happened.clear()
                row = row or watch.row
                if row is not None:
                    return await self._whole(execution_id), await services.payloads.unpack(row.outputs or {})
                found = await self._whole(execution_id)
                left = until - asyncio.get_running_loop().time()
                if found.state.is_terminal or left <= 0 or services.watches.is_over:
                    return found, None
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, _LOOK_AT_RESULT)):
                        await watch.happened.wait()

    async def _whole(self, execution_id: str) -> Execution:
        found = await self._services.storage.execution(execution_id)
        if found.outputs is None:
            return found
        return replace(found, outputs=await self._services.payloads.unpack(found.outputs))

    async def _earlier(self, execution_id: str, type: str) -> TaskRun | None:
        runs = await self._services.storage.task_runs(
            execution_id, Page(1000), states=(TaskRunState.SUCCESS,)
        )
        return next((run for run in runs.items if run.type == type), None)

    @contextmanager
    def waiting(self) -> Iterator[WaitingEvents]:
        with self._services.bus.subscribe(topic_of(self.key), size=HEARD) as news:
            yield WaitingHere(self._services, self.key, news)

    async def render(self, raw: Any, data: Mapping[str, Any], **names: Any) -> Any:
        text = raw if isinstance(raw, str) else jsontext.dumps(raw)
        field = self._fields.get(text)
        if field is None:
            field = self._fields[text] = Field(raw, self._services.functions)
        scope: dict[str, Any] = {
            **names,
            "trigger": data,
            "flow": {"id": self.key.flow, "namespace": self.key.namespace},
            "vars": {},
        }
        if "vars" in text:
            flow = await self._catalog.compiled(self.key.flow_key)
            scope["vars"] = await flow.variables.render(scope, self._services.vault)
        return await field.render(scope, self._services.vault)

    async def bookmarks(self) -> dict[str, Bookmark]:
        return await bookmarks_of(self._services.storage, self.key)

    def report(self, status: SourceStatus) -> None:
        if self._report is not None:
            self._report(status)

    def log(self, level: str, message: str, **fields: Any) -> None:
        log.log(_LEVELS.get(level.upper(), 20), message, trigger=str(self.key), **fields)

    async def shared(self, key: str, open: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        return await self._services.shared.get(self._type, key, open)


class _Ends:
    """``EndNews`` out of what the bus tells of executions."""

    def __init__(self, news: Subscription) -> None:
        self._news = news

    async def next(self, timeout: float) -> set[str]:
        found: set[str] = set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not found or self._news.has_more:
                    event = (await self._news.next()).details.get("event")
                    if event is not None:
                        found.add(event)
        return found


def _outcome(executions: Sequence[Execution]) -> ExecutionState | None:
    """How an event's executions ended together, or those of its newest replay; None while one has not ended."""
    if not all(one.state.is_terminal for one in executions):
        return None
    states = [one.state for one in executions if one.event_id == executions[-1].event_id]
    return max(states, key=_BADNESS.index, default=ExecutionState.SUCCESS)


_BADNESS = [
    *(state for state in ExecutionState if not state.is_terminal),
    ExecutionState.SUCCESS,
    ExecutionState.WARNING,
    ExecutionState.CANCELLED,
    ExecutionState.KILLED,
    ExecutionState.FAILED,
]

_LOOK_AT_RESULT = 5.0
"""Seconds between looks at an execution that somebody waits for: another node may move it."""

_LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "WARNING": 30, "ERROR": 40}
