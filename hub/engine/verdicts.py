"""Judge whether an event starts a flow through one of its triggers, and with what.

Called by the intake for each trigger that may want an event. A refusal says which values led to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from hub.config.inputs import resolve_inputs
from hub.engine.attempt import is_true
from hub.engine.compiled import CompiledFlow, CompiledTrigger
from hub.engine.services import Services
from hub.errors import ExpressionError, HubError
from hub.expressions import values_read
from hub.model import jsontext
from hub.model.event import Event, Verdict
from hub.model.execution import NewExecution, Queue, QueueBehavior
from hub.model.frozen import dataclass
from hub.model.ids import TriggerKey, new_id

_LONGEST_VALUE = 80
_MOST_VALUES = 10


class Candidate(NamedTuple):
    """A trigger that may start its flow."""

    flow: CompiledFlow
    trigger: CompiledTrigger

    @property
    def key(self) -> TriggerKey:
        return TriggerKey(*self.flow.flow.key, self.trigger.declaration.id)


@dataclass(frozen=True, slots=True)
class Judged:
    """An execution that starts, or why none does."""

    execution: NewExecution | None = None
    verdict: Verdict | None = None

    def refused(self, outcome: str, reason: str) -> Judged:
        """The same, but nothing starts."""
        if self.execution is None or self.execution.trigger is None:
            return self
        return Judged(verdict=Verdict(*self.execution.flow, self.execution.trigger, outcome, reason))


class Judge:
    """Renders ``when``, inputs and the concurrency key over an event."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def one(
        self, candidate: Candidate, event: Event, now: datetime, order: str | None = None
    ) -> Judged:
        """Whether ``event`` starts the candidate's flow; after those of the same ``order``, where it has one."""
        flow, trigger = candidate
        vault = self._services.vault
        scope: dict[str, Any] = {
            "trigger": event.data,
            "flow": flow.names,
            "labels": flow.names["labels"],
            "vars": {},
            "inputs": {},
        }
        try:
            if flow.flow.variables:
                scope["vars"] = await flow.variables.render(scope, vault)
            if trigger.when is not None and not is_true(await trigger.when.render(scope, vault)):
                return Judged(verdict=Verdict(*candidate.key, "refused", self._why(trigger, scope)))
            given = await trigger.inputs.render(scope, vault) if trigger.inputs else {}
            inputs = resolve_inputs(flow.flow.inputs, given) if given or flow.flow.inputs else {}
            queue = await self.queue(flow, inputs, event.data) if flow.flow.concurrency else None
            if order is not None and queue is None:
                queue = Queue(f"{flow.flow.key}/{trigger.declaration.id}#{order}", 1, QueueBehavior.QUEUE)
        except HubError as error:
            return Judged(verdict=Verdict(*candidate.key, "invalid", vault.mask(error.message)))
        return Judged(
            NewExecution(
                id=new_id(),
                flow=flow.flow.key,
                revision=flow.revision,
                created_at=now,
                trigger=trigger.declaration.id,
                inputs=inputs,
                labels=flow.flow.labels,
                queue=queue,
                depth=event.depth,
                replay_of=event.replay_of,
            )
        )

    async def queue(
        self, flow: CompiledFlow, inputs: Mapping[str, Any], data: Mapping[str, Any]
    ) -> Queue | None:
        """The line that an execution of the flow stands in, None where there is none."""
        concurrency = flow.flow.concurrency
        if concurrency is None:
            return None
        key = str(flow.flow.key)
        if flow.queue_key is not None:
            scope: dict[str, Any] = {
                "inputs": inputs,
                "trigger": data,
                "flow": flow.names,
                "labels": flow.names["labels"],
                "vars": {},
            }
            if flow.flow.variables:
                scope["vars"] = await flow.variables.render(scope, self._services.vault)
            key += f"#{await flow.queue_key.render(scope, self._services.vault)}"
        return Queue(key, concurrency.limit, concurrency.behavior)

    def _why(self, trigger: CompiledTrigger, scope: Mapping[str, Any]) -> str:
        """A refusal with the values that led to it, secrets masked."""
        source = str(trigger.declaration.when)
        reason = f"when is false: {source}"
        try:
            read = values_read(source, scope)[:_MOST_VALUES]
        except ExpressionError:
            read = []
        if read:
            reason += " with " + ", ".join(f"{path} = {_shown(value)}" for path, value in read)
        return self._services.vault.mask(reason)


def _shown(value: Any) -> str:
    text = jsontext.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
