"""Check the fields of triggers whose expressions name constants only: their values are known when a flow is saved.

A trigger is built from the flow's variables and names, so ``timezone: "{{ vars.zone }}"`` with a constant
``zone`` can be judged at once; otherwise it would fail for ever once it runs. What needs a secret, or a variable
that is an expression itself, is left to the trigger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hub.config.components import message_of
from hub.config.expressions import nested_deferred
from hub.errors import ExpressionError
from hub.expressions import NeedsAnswer, compile_template
from hub.model.flow import Flow, TriggerDeclaration
from hub.plugin.component import field_roles
from hub.plugin.fields import DEFERRED, SCRIPT, STATIC
from hub.plugin.trigger import Trigger

if TYPE_CHECKING:
    from hub.config.reading import Reading


class ConstantChecker:
    """Renders what can be rendered, and asks the component."""

    def __init__(self, reading: Reading, flow: Flow) -> None:
        self._reading = reading
        self._flow = flow
        constants = {name: value for name, value in flow.variables.items() if not _holds_expression(value)}
        self._scope = {"flow": {"id": flow.id, "namespace": flow.namespace}, "vars": constants}

    def check(self) -> None:
        for trigger in self._flow.triggers:
            component = self._reading.registry.triggers.get(trigger.type)
            if component is not None:
                self._trigger(trigger, component)

    def _trigger(self, trigger: TriggerDeclaration, component: type[Trigger]) -> None:
        open_fields = {name for name, raw in trigger.properties.items() if _holds_expression(raw)}
        rendered = {
            name: value
            for name in open_fields
            if _is_rendered(component, name)
            and (value := self._value(trigger.properties[name])) is not _UNKNOWN
        }
        if not rendered:
            return
        try:
            component.model_validate({**trigger.properties, **rendered}, by_alias=True, by_name=False)
        except ValidationError as error:
            node = self._reading.nodes[id(trigger)]
            for one in error.errors(include_url=False, include_context=True):
                # the others were judged as they stand, or cannot be yet
                if one["loc"] and one["loc"][0] in rendered:
                    name = str(one["loc"][0])
                    self._reading.at(node.value[name], f"{name}: {message_of(one)}")
                elif not one["loc"] and open_fields == rendered.keys():
                    self._reading.problem(message_of(one), node.position)

    def _value(self, raw: Any) -> Any:
        try:
            return self._rendered(raw)
        except (ExpressionError, NeedsAnswer):
            return _UNKNOWN

    def _rendered(self, raw: Any) -> Any:
        if isinstance(raw, str) and "{" in raw:
            return compile_template(raw, self._reading.functions).evaluate(self._scope)
        if isinstance(raw, Mapping):
            return {key: self._rendered(value) for key, value in raw.items()}
        if isinstance(raw, list | tuple):
            return [self._rendered(value) for value in raw]
        return raw


_UNKNOWN = object()


def _is_rendered(component: type[Trigger], name: str) -> bool:
    role = field_roles(component).get(name)
    return role not in (STATIC, SCRIPT, DEFERRED) and not nested_deferred(component, name)


def _holds_expression(raw: Any) -> bool:
    if isinstance(raw, str):
        return "{{" in raw or "{%" in raw
    if isinstance(raw, Mapping):
        return any(map(_holds_expression, raw.values()))
    return isinstance(raw, list | tuple) and any(map(_holds_expression, raw))
