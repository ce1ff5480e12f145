"""Find flows that would be started by their own ends, through a chain of flows that wait for each other's.

Asked before a flow is saved, by the hub and by ``hub validate``. Only what is written in the flows counts: a
trigger with a ``when`` or with an expression in its fields may end a chain, so it is taken to do so. What is
not known here is cut by the engine, twenty flows deep.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from hub.errors import Position, Problem
from hub.model.ends import FLOW_FINISHED, end_event
from hub.model.execution import TERMINAL, Execution, ExecutionState
from hub.model.flow import TriggerDeclaration
from hub.model.ids import FlowKey
from hub.plugin.trigger import EventTrigger, type_pattern
from hub.registry import Registry

_AT = datetime(2000, 1, 1, tzinfo=UTC)
_GOOD = ExecutionState.SUCCESS
_STATES = sorted(TERMINAL)
_HINT = "give one of them a when: that ends the chain, or let it wait for other flows or states"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A flow and its triggers that are known to wait for ends."""

    key: FlowKey
    labels: Mapping[str, str]
    triggers: tuple[tuple[str, EventTrigger], ...]
    """Each with its id."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One flow's end starts another flow."""

    trigger: str
    states: frozenset[ExecutionState]


def waiting(
    key: FlowKey, labels: Mapping[str, str], triggers: Iterable[TriggerDeclaration], registry: Registry
) -> Waiting:
    """What is known of a flow: those of its triggers that wait for ends, whatever else happens."""
    found: list[tuple[str, EventTrigger]] = []
    for declaration in triggers:
        component = registry.triggers.get(declaration.type)
        if component is None or not issubclass(component, EventTrigger):
            continue
        if declaration.disabled or declaration.when not in (None, True):
            continue
        if _holds_expression(declaration.properties):
            continue
        try:
            trigger = component.model_validate(declaration.properties)
        except ValidationError:
            continue
        if any(type_pattern(text).fullmatch(FLOW_FINISHED) for text in trigger.event_types):
            found.append((declaration.id, trigger))
    return Waiting(key, labels, tuple(found))


class Chains:
    """The flows that wait for each other's ends."""

    def __init__(self) -> None:
        self._flows: dict[FlowKey, Waiting] = {}
        # by the flow that ends, the flows that this starts
        self._steps: dict[FlowKey, dict[FlowKey, _Step]] = {}

    def put(self, flow: Waiting) -> None:
        """Know a flow as it is now. One that waits for no end is in no chain that could close."""
        self.drop(flow.key)
        if not flow.triggers:
            return
        self._steps[flow.key] = self._from(flow)
        for key, step in self._to(flow).items():
            self._steps[key][flow.key] = step
        self._flows[flow.key] = flow

    def drop(self, key: FlowKey) -> None:
        """Forget a flow."""
        if self._flows.pop(key, None) is not None:
            del self._steps[key]
            for steps in self._steps.values():
                steps.pop(key, None)

    def problem(self, flow: Waiting, positions: Mapping[str, Position], file: str | None) -> Problem | None:
        """What is wrong with a flow beside the others; its own trigger that closes the chain is the place."""
        for id, trigger in flow.triggers:
            if _wants_itself_alone(flow, trigger):
                message = f'trigger "{id}" waits for the ends of its own flow, which never start it'
                return Problem(message, positions[id], "name another flow", file=file)
        found = self._shortest(flow, only_good=True) or self._shortest(flow, only_good=False)
        if found is None:
            return None
        chain, closing = found
        is_certain = all(_GOOD in step.states for _, step in chain)
        shown = " → ".join([*(_link(key, step) for key, step in chain), str(flow.key)])
        verb = "would be" if is_certain else "may be"
        return Problem(
            f"flow {flow.key} {verb} started by its own ends, on and on: {shown}",
            positions[closing],
            f"{_HINT}; as it is the chain is cut after 20 flows",
            "error" if is_certain else "warning",
            file=file,
        )

    def _shortest(self, flow: Waiting, *, only_good: bool) -> tuple[list[tuple[FlowKey, _Step]], str] | None:
        """The shortest chain from a flow's end back to it, and the trigger of it that closes the chain."""

        def counts(step: _Step) -> bool:
            return _GOOD in step.states or not only_good

        last = {key: step for key, step in self._to(flow).items() if counts(step)}
        first = self._from(flow) if last else {}
        before: dict[FlowKey, tuple[FlowKey, _Step]] = {}
        queue: deque[FlowKey] = deque()

        def reach(key: FlowKey, whence: FlowKey, step: _Step) -> None:
            if counts(step) and key != flow.key and key not in before:
                before[key] = (whence, step)
                queue.append(key)

        for key, step in first.items():
            reach(key, flow.key, step)
        while queue:
            here = queue.popleft()
            if here in last:
                chain = [(here, last[here])]
                while here != flow.key:
                    here, step = before[here]
                    chain.append((here, step))
                return chain[::-1], last[chain[0][0]].trigger
            for key, step in self._steps[here].items():
                reach(key, here, step)
        return None

    def _from(self, flow: Waiting) -> dict[FlowKey, _Step]:
        """The other flows that the ends of a flow start."""
        found = ((key, _step(flow, other)) for key, other in self._flows.items() if key != flow.key)
        return {key: step for key, step in found if step is not None}

    def _to(self, flow: Waiting) -> dict[FlowKey, _Step]:
        """The other flows whose ends start a flow."""
        found = ((key, _step(other, flow)) for key, other in self._flows.items() if key != flow.key)
        return {key: step for key, step in found if step is not None}


def _step(ending: Waiting, started: Waiting) -> _Step | None:
    """How the ends of one flow start another; by the trigger that takes the most states."""
    best: _Step | None = None
    for id, trigger in started.triggers:
        states = _states_wanted(trigger, ending.key, ending.labels)
        if states and (
            best is None or (_GOOD in states, len(states)) > (_GOOD in best.states, len(best.states))
        ):
            best = _Step(id, states)
    return best


def _states_wanted(
    trigger: EventTrigger, flow: FlowKey, labels: Mapping[str, str]
) -> frozenset[ExecutionState]:
    return frozenset(state for state in _STATES if _wants(trigger, flow, labels, state))


def _wants(trigger: EventTrigger, flow: FlowKey, labels: Mapping[str, str], state: ExecutionState) -> bool:
    ended = Execution("", flow, 1, state, _AT, labels=labels)
    try:
        return trigger.wants(end_event(ended, state, at=_AT))
    except Exception:  # a plugin's: what it cannot say of a made-up end is not known
        return False


def _wants_itself_alone(flow: Waiting, trigger: EventTrigger) -> bool:
    """Whether of all flows a trigger takes the ends of its own, which the engine never gives it."""
    namespace, id = flow.key
    others = (
        FlowKey(namespace, f"{id}0"),
        FlowKey(namespace, f"0{id}"),
        FlowKey(f"{namespace}.x", id),
        FlowKey(f"x.{namespace}", id),
    )
    if not _states_wanted(trigger, flow.key, flow.labels):
        return False
    return not any(_states_wanted(trigger, other, flow.labels) for other in others)


def _holds_expression(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    below = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return any(map(_holds_expression, below))


def _link(flow: FlowKey, step: _Step) -> str:
    """A flow of the chain, with the ends that count where success is none of them."""
    if _GOOD in step.states:
        return str(flow)
    return f"{flow} ({', '.join(sorted(step.states))})"
