"""Accept events: find what wants one and store it with the executions it starts.

Called by the triggers through ``emit`` (``bus.publish``). Returns only when the storage has the event, so a
trigger may acknowledge its source as soon as it returns. Starting the executions is the dispatcher's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hub.config.inputs import resolve_inputs
from hub.engine.catalog import FlowCatalog
from hub.engine.compiled import CompiledFlow, CompiledTrigger
from hub.engine.services import Services
from hub.engine.task_runner import is_true
from hub.errors import HubError, InvalidInput, NotFound
from hub.model.event import Event, Occurrence, Receipt, Verdict
from hub.model.execution import Execution, NewExecution, Queue
from hub.model.ids import FlowKey, TriggerKey, new_id
from hub.plugin.storage import Accepted, Arrival, DeliveryKey, TriggerMove, TriggerState
from hub.plugin.trigger import HttpTrigger


class Intake:
    """The gate of the bus."""

    def __init__(
        self,
        services: Services,
        catalog: FlowCatalog,
        *,
        dispatch: Callable[[Accepted], None],
        has_room: Callable[[], bool],
    ) -> None:
        self._services = services
        self._catalog = catalog
        self._dispatch = dispatch
        self._has_room = has_room
        self._states: dict[TriggerKey, TriggerState] = {}

    async def open(self) -> None:
        """Learn where the triggers stand."""
        self._states = await self._services.storage.trigger_states()

    def state(self, key: TriggerKey) -> Mapping[str, Any]:
        """A trigger's stored state, empty at first."""
        known = self._states.get(key)
        return known.state if known else {}

    async def __call__(
        self,
        source: TriggerKey,
        occurrences: Sequence[Occurrence],
        state: Mapping[str, Any] | None,
        event_type: str,
    ) -> list[Receipt]:
        """Store events and the trigger's new state in one transaction; one receipt each.

        Raises ``NotFound`` when the trigger is not in use, ``StorageUnavailable``, ``StorageOverloaded`` and
        ``FenceRefused``: nothing was stored then.
        """
        flow = await self._catalog.compiled(source.flow_key)
        trigger = flow.triggers.get(source.trigger)
        if trigger is None:
            raise NotFound(f"flow {source.flow_key} has no trigger {source.trigger}")
        now = self._services.clock.now()
        arrivals = [
            await self._arrival(flow, trigger, source, occurrence, now, event_type)
            for occurrence in occurrences
        ]
        move = None
        if state is not None:
            known = self._states.get(source, TriggerState())
            move = TriggerMove(source, state, known.version)
        accepted = await self._services.storage.accept(arrivals, at=now, move=move, claim=self._has_room())
        if move is not None:
            self._states[source] = TriggerState(move.state, move.expected + 1)
        for item in accepted:
            self._dispatch(item)
        if self._services.bus.has_listeners:
            for item in accepted:
                self._services.bus.tell(
                    "event", item.receipt.event_id, source=str(source), executions=item.receipt.execution_ids
                )
        return [item.receipt for item in accepted]

    async def start(
        self,
        key: FlowKey,
        *,
        inputs: Mapping[str, Any],
        labels: Mapping[str, str],
        trigger: str | None = None,
        data: Any = None,
    ) -> Execution:
        """Start a flow by hand, as if ``trigger`` had brought ``data`` when these are given.

        Raises ``NotFound``, ``InvalidInput``.
        """
        flow = await self._catalog.compiled(key)
        if flow.flow.disabled:
            raise InvalidInput(f"flow {key} is disabled", hint="set disabled: false in its source")
        if trigger is not None and trigger not in flow.triggers:
            raise NotFound(f'flow {key} has no trigger "{trigger}"')
        now = self._services.clock.now()
        event = None
        if data is not None:
            if trigger is None and len(flow.triggers) == 1:
                trigger = next(iter(flow.triggers))
            data = self._as_seen(flow, trigger, data)
            source = TriggerKey(*key, trigger or "manual")
            event = self._event(source, Occurrence(data), new_id(), now, "hub.manual.started")
        new = NewExecution(
            id=new_id(),
            flow=key,
            revision=flow.revision,
            created_at=now,
            trigger=trigger,
            inputs=resolve_inputs(flow.flow.inputs, inputs),
            labels={**flow.flow.labels, **labels},
            queue=await self._queue(flow, inputs, data or {}),
        )
        [accepted] = await self._services.storage.accept(
            [Arrival(executions=(new,), event=event)], at=now, claim=self._has_room()
        )
        self._dispatch(accepted)
        return await self._services.storage.execution(new.id)

    def _as_seen(self, flow: CompiledFlow, trigger: str | None, data: Any) -> Mapping[str, Any]:
        """Data as ``trigger`` shows it: a webhook's body alone gets the rest of a request around it."""
        component = None
        if trigger is not None:
            component = self._services.registry.triggers.get(flow.triggers[trigger].declaration.type)
        if component is not None and issubclass(component, HttpTrigger):
            request: dict[str, Any] = {"body": None, "headers": {}, "parameters": {}, "method": "POST"}
            whole = isinstance(data, Mapping) and bool(data) and data.keys() <= request.keys()
            return {**request, **data} if whole else {**request, "body": data}
        if not isinstance(data, Mapping):
            raise InvalidInput("data is a mapping: what expressions see as trigger")
        return data

    async def _arrival(
        self,
        flow: CompiledFlow,
        trigger: CompiledTrigger,
        source: TriggerKey,
        occurrence: Occurrence,
        now: datetime,
        event_type: str,
    ) -> Arrival:
        event_id = new_id()
        verdict, executions = await self._judge(flow, trigger, source, occurrence, now)
        packed = await self._services.payloads.pack(f"event-{event_id}", occurrence.data)
        event = self._event(source, occurrence, event_id, now, event_type, packed)
        delivery = None
        if occurrence.delivery is not None:
            given = occurrence.delivery
            delivery = DeliveryKey(str(source), given.key, given.body_hash, now + given.window)
        return Arrival(
            executions=executions, event=event, delivery=delivery, verdicts=(verdict,) if verdict else ()
        )

    def _event(
        self,
        source: TriggerKey,
        occurrence: Occurrence,
        event_id: str,
        now: datetime,
        event_type: str,
        data: Mapping[str, Any] | None = None,
    ) -> Event:
        return Event(
            id=event_id,
            source=f"/{source}",
            type=occurrence.type or event_type,
            time=occurrence.time or now,
            namespace=source.namespace,
            flow=source.flow,
            trigger=source.trigger,
            data=occurrence.data if data is None else data,
            subject=occurrence.subject,
        )

    async def _judge(
        self,
        flow: CompiledFlow,
        trigger: CompiledTrigger,
        source: TriggerKey,
        occurrence: Occurrence,
        now: datetime,
    ) -> tuple[Verdict | None, tuple[NewExecution, ...]]:
        """Whether the event starts the flow; a verdict says why not."""
        scope = {
            "trigger": occurrence.data,
            "flow": flow.names,
            "labels": flow.names["labels"],
            "vars": {},
            "inputs": {},
        }
        try:
            if flow.flow.variables:
                scope["vars"] = await flow.variables.render(scope, self._services.vault)
            if trigger.when is not None and not is_true(
                await trigger.when.render(scope, self._services.vault)
            ):
                return Verdict(*source, "refused", f"when is false: {trigger.declaration.when}"), ()
            given = await trigger.inputs.render(scope, self._services.vault) if trigger.inputs else {}
            inputs = resolve_inputs(flow.flow.inputs, given) if given or flow.flow.inputs else {}
            queue = await self._queue(flow, inputs, occurrence.data)
        except HubError as error:
            reason = self._services.vault.mask(error.message)
            return Verdict(*source, "invalid", reason), ()
        new = NewExecution(
            id=new_id(),
            flow=source.flow_key,
            revision=flow.revision,
            created_at=now,
            trigger=source.trigger,
            inputs=inputs,
            labels=flow.flow.labels,
            queue=queue,
        )
        return None, (new,)

    async def _queue(
        self, flow: CompiledFlow, inputs: Mapping[str, Any], data: Mapping[str, Any]
    ) -> Queue | None:
        concurrency = flow.flow.concurrency
        if concurrency is None:
            return None
        key = str(flow.flow.key)
        if flow.queue_key is not None:
            scope = {"inputs": inputs, "trigger": data, "flow": flow.names, "labels": flow.names["labels"]}
            key += f"#{await flow.queue_key.render(scope, self._services.vault)}"
        return Queue(key, concurrency.limit, concurrency.behavior)
