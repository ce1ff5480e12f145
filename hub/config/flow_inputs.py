"""Inputs and outputs of a flow, from YAML to declarations."""

from __future__ import annotations

from hub.config.inputs import convert
from hub.config.reading import Reading, all_of, kind_of
from hub.config.yaml import Node
from hub.model import jsontext
from hub.model.flow import InputDeclaration, InputType, OutputDeclaration

_INPUT_KEYS = ("id", "type", "required", "defaults", "description", "values")
_OUTPUT_KEYS = ("id", "type", "value", "description")


class InputReader:
    """Builds the declarations of what goes into one flow, and of what comes out."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def read_input(self, node: Node, ids: dict[str, Node]) -> InputDeclaration | None:
        """One input, or None where its name or type is missing."""
        self._reading.only(node, _INPUT_KEYS, "input")
        name = self._reading.new_id(node, "input", ids)
        type_node = node.get("type")
        if type_node is None:
            self._reading.problem(
                '"type" is required in an input', node.position, f"one of {all_of(InputType)}"
            )
            return None
        kind = self._reading.choice(InputType, type_node)
        if kind is None or name is None:
            return None
        choices = self._choices(node.get("values"))
        if kind is InputType.SELECT and not (node.value["values"].value if "values" in node.value else None):
            self._reading.problem("a SELECT input needs values", node.position, "add values: [one, other]")
        defaults = node.get("defaults")
        default = defaults.plain() if defaults is not None else None
        if defaults is not None and default is not None and (kind is not InputType.SELECT or choices):
            try:
                convert(kind, default, choices)
            except ValueError as error:
                self._reading.at(defaults, f'defaults of input "{name}": {error}')
            else:
                self._reading.never_rendered(defaults, f'defaults of input "{name}"')
        return InputDeclaration(
            id=name,
            type=kind,
            required=self._reading.flag(node, "required", True),
            defaults=default,
            description=self._reading.text(node, "description"),
            values=choices,
        )

    def _choices(self, values: Node | None) -> tuple[str, ...]:
        """What a SELECT chooses from, spelled as JSON spells it, as values from outside are."""
        if values is None:
            return ()
        if values.kind != "list":
            self._reading.at(values, f'"values" is a list, got {kind_of(values)}', "write [one, other]")
            return ()
        found: dict[str, None] = {}
        for one in values.value:
            if one.kind != "scalar" or one.value is None:
                self._reading.at(one, f"each of the values is text, got {kind_of(one)}")
                continue
            text = one.value if isinstance(one.value, str) else jsontext.dumps(one.value)
            if text in found:
                self._reading.at(one, f'duplicate value "{text}"')
            found[text] = None
        return tuple(found)

    def read_output(self, node: Node, ids: dict[str, Node]) -> OutputDeclaration | None:
        """One output, or None where its name, type or value is missing."""
        self._reading.only(node, _OUTPUT_KEYS, "output")
        name = self._reading.new_id(node, "output", ids)
        type_node = node.get("type")
        kind = InputType.JSON if type_node is None else self._reading.choice(InputType, type_node)
        if "value" not in node.value:
            self._reading.problem('"value" is required in an output', node.position)
            return None
        if kind is InputType.SELECT:
            self._reading.at(type_node or node, "an output is no SELECT", "write STRING")
            return None
        if name is None or kind is None:
            return None
        declaration = OutputDeclaration(
            name, kind, self._reading.plain(node, "value"), self._reading.text(node, "description")
        )
        self._reading.nodes[id(declaration)] = node
        return declaration
