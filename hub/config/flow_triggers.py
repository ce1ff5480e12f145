"""Triggers of a flow, from YAML to declarations, and what several of them cannot be together."""

from __future__ import annotations

from pydantic import ValidationError

from hub.config.components import ComponentChecker
from hub.config.reading import Reading, kind_of
from hub.config.yaml import Node
from hub.model.flow import Flow, TriggerDeclaration
from hub.plugin.trigger import HttpTrigger, collide

TRIGGER_KEYS = ("id", "type", "when", "inputs", "description", "disabled")


class TriggerReader:
    """Builds the trigger declarations of one flow."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._components = ComponentChecker(reading)

    def read(self, node: Node, ids: dict[str, Node]) -> TriggerDeclaration | None:
        """One trigger."""
        trigger_id = self._reading.new_id(node, "trigger", ids)
        type_name = self._reading.required_text(node, "type", "trigger")
        component = self._reading.registry.triggers.get(type_name) if type_name else None
        if type_name and component is None:
            known = self._reading.registry.triggers
            self._reading.unknown_type(node.value["type"], "trigger", type_name, trigger_id, known)
        given = node.get("inputs")
        if given is not None and given.kind != "mapping":
            self._reading.at(given, f'"inputs" of a trigger is a mapping, got {kind_of(given)}')
            given = None
        properties = {name: child.plain() for name, child in node.value.items() if name not in TRIGGER_KEYS}
        declaration = TriggerDeclaration(
            id=trigger_id or "",
            type=type_name or "",
            properties=properties,
            when=self._reading.plain(node, "when"),
            inputs=given.plain() if given is not None else {},
            description=self._reading.text(node, "description"),
            disabled=self._reading.flag(node, "disabled"),
        )
        self._reading.nodes[id(declaration)] = node
        if component is not None:
            owner = f'trigger "{trigger_id}"' if trigger_id else "a trigger"
            self._components.check(component, node, properties, TRIGGER_KEYS, {}, owner)
        return declaration

    def distinct(self, triggers: tuple[TriggerDeclaration, ...]) -> tuple[TriggerDeclaration, ...]:
        """Find triggers that would never receive a request, because an earlier one has their address."""
        known: list[tuple[TriggerDeclaration, HttpTrigger]] = []
        for declaration in triggers:
            trigger = self._receiver(declaration)
            if trigger is None:
                continue
            first = next((one for one, other in known if collide(other, trigger)), None)
            if first is not None:
                self._reading.at(
                    self._reading.nodes[id(declaration)].value["key"],
                    f'trigger "{declaration.id}" has the key of trigger "{first.id}"',
                    "give it another key, or methods of its own",
                )
            known.append((declaration, trigger))
        return triggers

    def in_one_line(self, flow: Flow) -> None:
        """Find triggers that put executions in order, where the flow's own limit has them in another line."""
        if flow.concurrency is None:
            return
        for declaration in flow.triggers:
            component = self._reading.registry.triggers.get(declaration.type)
            if component is not None and component.orders(declaration.properties):
                self._reading.at(
                    self._reading.nodes[id(declaration)],
                    f'trigger "{declaration.id}" puts executions in order and the flow has a concurrency limit:'
                    " an execution stands in one line",
                    "take out concurrency:, or the trigger's order",
                )

    def _receiver(self, declaration: TriggerDeclaration) -> HttpTrigger | None:
        """An enabled trigger that receives requests at an address that is known already."""
        component = self._reading.registry.triggers.get(declaration.type)
        key = str(declaration.properties.get("key", "{{"))
        if declaration.disabled or component is None or not issubclass(component, HttpTrigger):
            return None
        if "{{" in key or "{%" in key:
            return None
        try:
            return component.model_validate(declaration.properties)
        except ValidationError:
            return None  # said already, or an expression that is judged later
