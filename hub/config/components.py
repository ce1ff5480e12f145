"""Check a component's fields with its own model, and say what is wrong in words and places of the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from hub.config.yaml import Node
from hub.errors import InvalidInput, did_you_mean
from hub.model import jsontext
from hub.model.durations import format_duration
from hub.plugin.component import Component

if TYPE_CHECKING:
    from hub.config.flows import Reading

M = TypeVar("M", bound=BaseModel)


class ComponentChecker:
    """Validates components and small models of one file."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def check(
        self,
        component: type[Component],
        node: Node,
        properties: Mapping[str, Any],
        common: Collection[str],
        children: Mapping[str, Any],
        owner: str,
    ) -> None:
        """Every problem with a component's properties; what holds an expression is left to be checked later.

        ``children`` has something empty for each field of child tasks: those are checked by themselves.
        """
        given = {**properties, **children}
        try:
            component.model_validate(given)
        except ValidationError as error:
            known = [*field_names(component), *common]
            for one in error.errors(include_url=False, include_context=True):
                self._report(one, node, known, owner)

    def model(self, model: type[M], node: Node, owner: str, *, wrap: str | None = None) -> M | None:
        """A small model out of a node, or None after its problems were noted."""
        if wrap is None and node.kind != "mapping":
            self._reading.at(node, f'"{owner}" is a mapping', f"it has {', '.join(field_names(model))}")
            return None
        data = node.plain()
        try:
            return model.model_validate(data if wrap is None else {wrap: data})
        except ValidationError as error:
            for one in error.errors(include_url=False, include_context=True):
                if wrap is not None:
                    one["loc"] = one["loc"][1:]
                self._report(one, node, field_names(model), owner)
            return None

    def _report(self, error: Any, node: Node, known: Collection[str], owner: str) -> None:
        place, path = _follow(node, error["loc"])
        kind = error["type"]
        if (
            kind != "extra_forbidden"
            and kind != "missing"
            and _holds_expression(place, whole=place is not node)
        ):
            return
        name = ".".join(str(part) for part in path)
        if kind == "extra_forbidden":
            self._unknown(place, node, path, known)
        elif kind == "missing":
            missing = str(error["loc"][-1])
            self._reading.problem(f'"{missing}" is required in {owner}', place.position)
        else:
            # a rule over several fields cannot be judged while one of them is an expression
            if place is node and _holds_expression(node, whole=True):
                return
            self._reading.at(place, f"{name + ': ' if name else ''}{message_of(error)}")

    def _unknown(self, place: Node, node: Node, path: list[Any], known: Collection[str]) -> None:
        name = str(path[-1])
        parent = _follow(node, tuple(path[:-1]))[0]
        key = parent.keys.get(name, place)
        hint = None
        if len(path) == 1:
            hint = did_you_mean(name, list(known)) or f"there are {', '.join(sorted(known))}"
        self._reading.at(key, f'unknown property "{name}"', hint)


@cache
def field_names(model: type[BaseModel]) -> tuple[str, ...]:
    """The YAML names of a model's fields."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _follow(node: Node, location: tuple[Any, ...]) -> tuple[Node, list[Any]]:
    """The deepest node a location of pydantic's leads to, and the steps that were taken."""
    path: list[Any] = []
    for step in location:
        if node.kind == "mapping" and str(step) in node.value:
            node = node.value[str(step)]
        elif node.kind == "list" and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            continue  # the name of a union's branch, or a key's own mark
        path.append(step)
    return node, path


def _holds_expression(node: Node, *, whole: bool) -> bool:
    """Whether the text at a node, or anywhere below it, holds an expression."""
    if node.kind == "scalar":
        return isinstance(node.value, str) and ("{{" in node.value or "{%" in node.value)
    if not whole:
        return False
    below = node.value.values() if node.kind == "mapping" else node.value
    return any(_holds_expression(child, whole=True) for child in below)


_WANTED = {
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
}


def message_of(error: Any) -> str:
    """What pydantic found, in the user's words."""
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "value_error":
        return str(context.get("error") or error["msg"].removeprefix("Value error, "))
    shown = spelled(error.get("input"))
    if kind in _WANTED:
        return f"{_WANTED[kind]}, got {shown}"
    if kind in ("literal_error", "enum"):
        return f"expected {context.get('expected')}, got {shown}"
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
        [(key, bound)] = [(key, context[key]) for key in words if key in context]
        limit = format_duration(bound) if isinstance(bound, timedelta) else bound
        return f"expected {words[key]} {limit}, got {shown}"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}, got {shown}"


def spelled(value: Any) -> str:
    """A value as JSON, cut to what fits into a message."""
    try:
        text = jsontext.dumps(value)
    except (TypeError, ValueError, InvalidInput):
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "…"
