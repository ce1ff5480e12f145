"""Accept events: find what wants them and store them with the executions they start.

Called by the triggers through ``emit`` (``bus.publish``), by tasks that emit, and by the API. Returns only when
the storage has the event, so a trigger may acknowledge its source as soon as it returns. Starting the
executions is the dispatcher's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

import structlog

from hub.config.inputs import resolve_inputs
from hub.engine.catalog import FlowCatalog
from hub.engine.compiled import CompiledFlow
from hub.engine.outbox import Outbox
from hub.engine.owned import OwnedAnswers
from hub.engine.routes import DEEPEST, Routes
from hub.engine.services import Services
from hub.engine.telling import tell_accepted
from hub.engine.verdicts import Candidate, Judge, Judged
from hub.engine.waiting_events import is_batched, topic_of
from hub.errors import FenceRefused, InvalidFlow, InvalidInput, NotFound, PluginError, StorageError
from hub.model.ends import FLOW_FINISHED, end_event
from hub.model.event import BATCHED, Event, Occurrence, Origin, Receipt, Verdict
from hub.model.execution import Execution, ExecutionState, NewExecution, Parent
from hub.model.flow import TriggerDeclaration
from hub.model.ids import FlowKey, TriggerKey, new_id
from hub.model.task_run import TaskRun
from hub.plugin.context import Bookmark
from hub.plugin.storage import Accepted, Arrival, DeliveryKey, Ends, Storage, TriggerMove, TriggerState
from hub.plugin.trigger import HttpTrigger

log = structlog.get_logger("hub.engine")

_PART = "#"
_TOO_DEEP = f"more than {DEEPEST} flows started each other, one after another"


class Dispatching(Protocol):
    """Who starts what is stored here."""

    def reserve(self, wanted: int, /) -> int:
        """Keep places free while new executions are stored; answers how many of them may be born claimed."""

    def free(self, kept: int, /) -> None:
        """Keep places free no longer."""

    def take(self, accepted: Accepted, /) -> None:
        """Run what was claimed."""


class Intake:
    """The gate of the bus."""

    def __init__(
        self,
        services: Services,
        catalog: FlowCatalog,
        routes: Routes,
        outbox: Outbox,
        *,
        dispatcher: Dispatching,
    ) -> None:
        self._services = services
        self._catalog = catalog
        self._routes = routes
        self.outbox = outbox
        self._judge = Judge(services)
        self._dispatcher = dispatcher
        # what is being stored, by the flow that it comes from
        self._storing: OwnedAnswers[FlowKey | None] = OwnedAnswers()
        self._states: dict[TriggerKey, TriggerState] = {}

    async def open(self) -> None:
        """Learn where the triggers stand."""
        self._states = await self._services.storage.trigger_states()

    async def learn(self, key: TriggerKey) -> None:
        """Learn where a trigger stands that another hub may have moved on."""
        states = await self._services.storage.trigger_states()
        self._states[key] = states.get(key, TriggerState())

    def state(self, key: TriggerKey) -> Mapping[str, Any]:
        """A trigger's stored state, empty at first."""
        known = self._states.get(key)
        return known.state if known else {}

    # events

    async def __call__(
        self,
        origin: Origin,
        occurrences: Sequence[Occurrence],
        state: Mapping[str, Any] | None,
        event_type: str,
        bookmark: Bookmark | None = None,
    ) -> list[Receipt]:
        """Store events and the trigger's new state in one transaction; one receipt each.

        Raises ``NotFound`` when the trigger is not in use, ``StorageUnavailable``, ``StorageOverloaded`` and
        ``FenceRefused``: nothing was stored then.
        """
        own = await self._own_trigger(origin)
        now = self._services.clock.now()
        arrivals = [
            await self._arrival(origin, own, occurrence, now, event_type) for occurrence in occurrences
        ]
        move = None
        if state is not None and origin.key is not None:
            if bookmark is None:
                known = self._states.get(origin.key, TriggerState())
                move = TriggerMove(origin.key, state, known.version)
            else:
                # from where its reader stood, not from where another may have moved it meanwhile
                move = TriggerMove(part_key(origin.key, bookmark.part), state, bookmark.version)
        accepted = await self._accept(origin.flow, arrivals, now, move)
        if self._services.bus.has_listeners:
            for item, arrival in zip(accepted, arrivals, strict=True):
                self._services.bus.tell(
                    "event", item.receipt.event_id, source=origin.uri, executions=item.receipt.execution_ids
                )
                if arrival.waits and origin.key is not None:
                    self._services.bus.tell(topic_of(origin.key), item.receipt.event_id)
        return [item.receipt for item in accepted]

    async def settled(self, flow: FlowKey | None = None) -> None:
        """Return once nothing is being stored any more that came from a flow's triggers, or from anywhere."""
        await self._storing.settled(lambda key: flow in (None, key))

    async def _accept(
        self,
        source: FlowKey | None,
        arrivals: Sequence[Arrival],
        now: datetime,
        move: TriggerMove | None = None,
    ) -> list[Accepted]:
        """Store, and hand on what that began: once it is stored that happens, whoever has gone meanwhile."""
        wanted = sum(len(arrival.executions) for arrival in arrivals)
        namespace = source.namespace if source is not None else ""

        async def accept() -> list[Accepted]:
            room = self._dispatcher.reserve(wanted)
            try:
                work = self._services.storage.accept(arrivals, at=now, move=move, room=room)
                return await self._storing.finish(
                    source, work, lambda done: self._stored(arrivals, move, done)
                )
            finally:
                self._dispatcher.free(room)

        try:
            return await self._services.turns.write(namespace, accept)
        except FenceRefused:
            if move is not None and bookmark_of(move.key) is None:
                await self.learn(move.key)
            raise

    def _stored(
        self, arrivals: Sequence[Arrival], move: TriggerMove | None, accepted: Sequence[Accepted]
    ) -> None:
        if move is not None and bookmark_of(move.key) is None:
            self._states[move.key] = TriggerState(move.state, move.expected + 1)
        for arrival, item in zip(arrivals, accepted, strict=True):
            # before it runs: its birth comes first
            tell_accepted(self._services, arrival, item)
            self._dispatcher.take(item)
        if any(_owes(arrival) for arrival in arrivals):
            self._services.owed.set()

    async def _own_trigger(self, origin: Origin) -> Candidate | None:
        if origin.flow is None or origin.trigger is None:
            return None
        flow = await self._catalog.compiled(origin.flow)
        trigger = flow.triggers.get(origin.trigger)
        if trigger is None:
            raise NotFound(f"flow {origin.flow} has no trigger {origin.trigger}")
        return Candidate(flow, trigger)

    async def _arrival(
        self,
        origin: Origin,
        own: Candidate | None,
        occurrence: Occurrence,
        now: datetime,
        event_type: str,
    ) -> Arrival:
        event = Event(
            id=occurrence.id or new_id(),
            source=origin.uri,
            type=occurrence.type or event_type,
            time=occurrence.time or now,
            namespace=origin.flow.namespace if origin.flow else None,
            flow=origin.flow.id if origin.flow else None,
            trigger=origin.trigger,
            data=occurrence.data,
            subject=occurrence.subject,
            depth=origin.depth,
            replay_of=origin.replay_of,
        )
        if occurrence.dead is not None:
            return await self._dead(event, own, occurrence.dead)
        waits = occurrence.waits and own is not None
        arrival = await self._judged(event, None if waits else own, now, occurrence.order)
        if arrival.dead is not None and occurrence.raw is not None:
            arrival = replace(arrival, event=await self._packed(replace(event, data=occurrence.raw())))
        if waits and own is not None:
            joins = Verdict(*own.key, BATCHED, "it waits to start the flow together with others")
            arrival = replace(arrival, waits=True, verdicts=(joins, *arrival.verdicts))
        if occurrence.takes:
            arrival = replace(arrival, takes=occurrence.takes)
        if occurrence.delivery is None:
            return arrival
        given = occurrence.delivery
        scope = occurrence.scope or str(origin.key)
        return replace(arrival, delivery=DeliveryKey(scope, given.key, given.body_hash, now + given.window))

    async def _dead(self, event: Event, own: Candidate | None, reason: str) -> Arrival:
        """A dead letter: stored, and no trigger is asked."""
        verdicts = () if own is None else (Verdict(*own.key, "invalid", reason),)
        return Arrival(event=await self._packed(event), verdicts=verdicts, dead=reason)

    async def _packed(self, event: Event) -> Event:
        packed = await self._services.payloads.pack(event.id, "event", event.data)
        return replace(event, data=packed) if packed is not event.data else event

    async def _judged(
        self, event: Event, own: Candidate | None, now: datetime, order: str | None = None
    ) -> Arrival:
        """An event with what it starts, and why it does not start what it might have."""
        found: list[Judged] = []
        if own is not None:
            found.append(await self._judge.one(own, event, now, order))
        if not self._routes.is_empty:
            for route in self._routes.wanting(event):
                if route.disabled:
                    found.append(Judged(verdict=Verdict(*route.key, "disabled", "the trigger is disabled")))
                elif (candidate := await self._candidate(route.key)) is not None:
                    found.append(await self._judge.one(candidate, event, now))
        if event.depth > DEEPEST:
            found = [one.refused("tooDeep", _TOO_DEEP) for one in found]
        executions = tuple(one.execution for one in found if one.execution is not None)
        verdicts = tuple(one.verdict for one in found if one.verdict is not None)
        wrong = [f"{v.flow}: {v.reason}" for v in verdicts if v.outcome in ("invalid", "tooDeep")]
        return Arrival(
            executions,
            await self._packed(event),
            verdicts=verdicts,
            dead="; ".join(wrong) or None,
            ends=await self._born_ends(executions),
        )

    async def _candidate(self, key: TriggerKey) -> Candidate | None:
        try:
            flow = await self._catalog.compiled(key.flow_key)
        except NotFound:
            return None  # retired since the route was asked for
        trigger = flow.triggers.get(key.trigger)
        return Candidate(flow, trigger) if trigger is not None else None

    # ends

    def hears_ends(self, flow: CompiledFlow) -> bool:
        """Whether an end of the flow may be an event that anybody wants, or owe a notice."""
        return self.outbox.is_about(flow) or self._routes_ends

    @property
    def _routes_ends(self) -> bool:
        return not self._routes.is_empty and bool(self._routes.of_type(FLOW_FINISHED))

    async def end_of(
        self,
        execution: Execution,
        state: ExecutionState,
        *,
        outputs: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Arrival | None:
        """What an execution's end brings: the event that it is, where anybody wants it, with what it starts, and
        the notices that it owes.

        A flow is never started by its own end.
        """
        notices = await self.outbox.of_end(
            await self._flow_of(execution), execution, state, outputs=outputs, error=error
        )
        try:
            arrival = await self._end_event(execution, state, outputs, error)
        except StorageError:
            raise
        except Exception:
            # an end that others cannot be told of is an end all the same
            log.exception("the end of an execution is no event", execution=execution.id)
            arrival = None
        return replace(arrival or Arrival(), notices=notices) if notices else arrival

    async def _flow_of(self, execution: Execution) -> CompiledFlow | None:
        """The revision that an execution runs; None where it cannot be read any more."""
        try:
            return await self._catalog.compiled(execution.flow, execution.revision)
        except (NotFound, InvalidFlow, PluginError):
            return None

    async def _end_event(
        self,
        execution: Execution,
        state: ExecutionState,
        outputs: Mapping[str, Any] | None,
        error: str | None,
    ) -> Arrival | None:
        if not self._routes_ends:
            return None
        now = self._services.clock.now()
        flow = execution.flow
        event = end_event(execution, state, at=now, outputs=outputs, error=error)
        wanting = self._routes.wanting(event)
        if not any(route.key.flow_key != flow and not route.disabled for route in wanting):
            return None
        arrival = await self._judged(event, None, now)
        others = tuple(new for new in arrival.executions if new.flow != flow)
        return replace(arrival, executions=others)

    async def ends_of(self, execution: Execution, reason: str) -> Ends:
        """What an execution brings by being killed."""
        states = (ExecutionState.KILLED, ExecutionState.CANCELLED)
        found = {state: await self.end_of(execution, state, error=reason) for state in states}
        return {state: arrival for state, arrival in found.items() if arrival is not None}

    async def _born_ends(self, executions: Sequence[NewExecution]) -> dict[str, Ends]:
        """What those bring that may be ended at birth: over their limit, or too late for what started them."""
        found: dict[str, Ends] = {}
        for new in executions:
            if new.queue is None and new.parent is None:
                continue
            reasons: dict[ExecutionState, str] = {}
            if new.queue is not None and (state := new.queue.behavior.end) is not None:
                reasons[state] = new.queue.over_limit
            if new.parent is not None:
                reasons.setdefault(ExecutionState.CANCELLED, new.parent.is_over)
            for state, reason in reasons.items():
                execution = Execution(
                    new.id,
                    new.flow,
                    new.revision,
                    state,
                    new.created_at,
                    inputs=new.inputs,
                    labels=new.labels,
                    depth=new.depth,
                )
                arrival = await self.end_of(execution, state, error=reason)
                if arrival is not None:
                    found[new.id] = {**found.get(new.id, {}), state: arrival}
        return found

    # by hand

    async def start(
        self,
        key: FlowKey,
        *,
        inputs: Mapping[str, Any],
        labels: Mapping[str, str],
        trigger: str | None = None,
        data: Any = None,
        revision: int | None = None,
        execution_id: str | None = None,
        parent: Parent | None = None,
        depth: int = 0,
        replay_of: str | None = None,
        event_replay_of: str | None = None,
        task_runs: Sequence[TaskRun] = (),
    ) -> Execution:
        """Start a flow by hand, as if ``trigger`` had brought ``data`` when these are given.

        ``execution_id`` is an id made from what starts it: one that is known starts nothing. Raises
        ``NotFound``, ``InvalidInput``.
        """
        flow = await self._catalog.compiled(key, revision)
        if flow.flow.disabled:
            raise InvalidInput(f"flow {key} is disabled", hint="set disabled: false in its source")
        if trigger is not None and trigger not in flow.triggers:
            raise NotFound(f'flow {key} has no trigger "{trigger}"')
        now = self._services.clock.now()
        event = None
        if data is not None:
            if trigger is None and len(flow.triggers) == 1:
                trigger = next(iter(flow.triggers))
            data = self._as_seen(flow.triggers[trigger].declaration if trigger else None, data)
            event = await self._manual_event(
                TriggerKey(*key, trigger or "manual"), data, now, event_replay_of
            )
        given = resolve_inputs(flow.flow.inputs, inputs)
        new = NewExecution(
            id=execution_id or new_id(),
            flow=key,
            revision=flow.revision,
            created_at=now,
            trigger=trigger,
            inputs=given,
            labels={**flow.flow.labels, **labels},
            queue=await self._judge.queue(flow, given, data or {}),
            depth=depth,
            parent=parent,
            replay_of=replay_of,
            is_derived=execution_id is not None,
            task_runs=tuple(task_runs),
        )
        arrival = Arrival(executions=(new,), event=event, ends=await self._born_ends([new]))
        await self._accept(key, [arrival], now)
        return await self._services.storage.execution(new.id)

    async def _manual_event(
        self, source: TriggerKey, data: Mapping[str, Any], now: datetime, replay_of: str | None
    ) -> Event:
        event_id = new_id()
        return Event(
            id=event_id,
            source=f"/{source}",
            type="hub.manual.started",
            time=now,
            namespace=source.namespace,
            flow=source.flow,
            trigger=source.trigger,
            data=await self._services.payloads.pack(event_id, "event", data),
            replay_of=replay_of,
        )

    def _as_seen(self, declaration: TriggerDeclaration | None, data: Any) -> Mapping[str, Any]:
        """Data as a trigger shows it: a webhook's body alone gets the rest of a request around it."""
        registry = self._services.registry
        component = registry.triggers.get(declaration.type) if declaration else None
        is_http = component is not None and issubclass(component, HttpTrigger)
        # a batch is no request
        if is_http and declaration is not None and not is_batched(registry, declaration):
            request: dict[str, Any] = {"body": None, "headers": {}, "parameters": {}, "method": "POST"}
            whole = isinstance(data, Mapping) and bool(data) and data.keys() <= request.keys()
            return {**request, **data} if whole else {**request, "body": data}
        if not isinstance(data, Mapping):
            raise InvalidInput("data is a mapping: what expressions see as trigger")
        return data


def part_key(key: TriggerKey, part: str) -> TriggerKey:
    """Under which name the state of one part of a trigger's source is stored: no trigger can have it."""
    return key._replace(trigger=f"{key.trigger}{_PART}{part}")


def bookmark_of(stored: TriggerKey, key: TriggerKey | None = None) -> str | None:
    """Which part of a source a stored state is of, of that trigger where one is named; None for a whole one."""
    trigger, mark, part = stored.trigger.partition(_PART)
    if not mark or (key is not None and stored._replace(trigger=trigger) != key):
        return None
    return part


async def bookmarks_of(storage: Storage, key: TriggerKey) -> dict[str, Bookmark]:
    """Where a trigger stands in each part of its source, read now."""
    states = await storage.trigger_states()
    parts = {part: one for name, one in states.items() if (part := bookmark_of(name, key)) is not None}
    return {part: Bookmark(part, one.state, one.version) for part, one in parts.items()}


def _owes(arrival: Arrival) -> bool:
    """Whether notices come, or may come, with an arrival."""
    return bool(arrival.notices) or any(
        one.notices for ends in arrival.ends.values() for one in ends.values()
    )
