"""Check a component's fields with its own model, and say what is wrong in words and places of the file."""

from __future__ import annotations

import re
import typing
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from hub.config.yaml import Node
from hub.errors import InvalidInput
from hub.model import jsontext
from hub.model.durations import format_duration
from hub.plugin.component import Component

if TYPE_CHECKING:
    from hub.config.reading import Reading

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
            # by the names of YAML only: a plugin's tests may use Python's
            component.model_validate(given, by_alias=True, by_name=False)
        except ValidationError as error:
            known = [*field_names(component), *common]
            _Report(self._reading, component, node, known, owner).add(error)

    def model(
        self,
        model: type[M],
        node: Node,
        owner: str,
        *,
        wrap: str | None = None,
        but: Collection[str] = (),
    ) -> M | None:
        """A small model out of a node, or None after its problems were noted; ``but`` are judged elsewhere.

        What it holds is read when the flow is saved: an expression cannot stand in it.
        """
        if wrap is None and node.kind != "mapping":
            self._reading.at(node, f'"{owner}" is a mapping', f"it has {', '.join(field_names(model))}")
            return None
        data = node.plain()
        try:
            return model.model_validate(data if wrap is None else {wrap: data}, by_alias=True, by_name=False)
        except ValidationError as error:
            report = _Report(self._reading, model, node, field_names(model), owner, is_rendered=False)
            report.add(error, skip=1 if wrap is not None else 0, but=but)
            return None


class _Report:
    """What a model found wrong with a node, told in words and places of the file."""

    def __init__(
        self,
        reading: Reading,
        model: type[BaseModel],
        node: Node,
        known: Collection[str],
        owner: str,
        *,
        is_rendered: bool = True,
    ) -> None:
        self._reading = reading
        self._model = model
        self._node = node
        self._known = known
        self._owner = owner
        self._is_rendered = is_rendered

    def add(self, found: ValidationError, *, skip: int = 0, but: Collection[str] = ()) -> None:
        """Note every error, one where a value fits none of several kinds."""
        wanted: dict[int, tuple[Node, str, Any, list[str]]] = {}
        for error in found.errors(include_url=False, include_context=True):
            location = error["loc"][skip:]
            if location and location[0] in but:
                continue
            place, path = _follow(self._node, location)
            name = ".".join(str(part) for part in path)
            if error["type"] == "extra_forbidden":
                self._unknown(place, path)
            elif error["type"] == "missing":
                self._reading.problem(f'"{location[-1]}" is required in {self._owner}', place.position)
            elif self._waits(place):
                continue
            elif error["type"] in _WANTED:
                entry = wanted.setdefault(id(place), (place, name, error.get("input"), []))
                entry[3].append(_WANTED[error["type"]])
            else:
                self._reading.at(place, _named(name, message_of(error)), self._value_hint(error))
        for place, name, given, kinds in wanted.values():
            expected = " or ".join(dict.fromkeys(kinds))
            self._reading.at(place, _named(name, f"expected {expected}, got {spelled(given)}"))

    def _waits(self, place: Node) -> bool:
        """Whether a value is known only after rendering; where nothing is rendered that is said."""
        # a rule over several fields cannot be judged while one of them is an expression
        if not holds_expression(place, whole=True):
            return False
        if not self._is_rendered:
            self._reading.at(
                place,
                f"an expression cannot stand here: {self._owner} is read when the flow is saved",
                "write the value itself",
            )
        return True

    def _unknown(self, place: Node, path: list[Any]) -> None:
        name = str(path[-1])
        parent = _follow(self._node, tuple(path[:-1]))[0]
        key = parent.keys.get(name, place)
        known = self._known if len(path) == 1 else names_at(self._model, path[:-1])
        hint = self._reading.near(name, list(known))
        if hint is None and known:
            hint = f"there are {', '.join(sorted(known))}"
        self._reading.at(key, f'unknown property "{name}"', hint)

    def _value_hint(self, error: Any) -> str | None:
        if error["type"] not in ("literal_error", "enum"):
            return None
        known = re.findall(r"'([^']*)'", str((error.get("ctx") or {}).get("expected")))
        return self._reading.near(str(error.get("input"))[:60], known)


def _named(name: str, message: str) -> str:
    return f"{name}: {message}" if name else message


def names_at(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """The YAML names that a nested model has, where a path of names and places leads to one."""
    here = [model]
    for step in path:
        below = [
            found
            for one in here
            for name, field in one.model_fields.items()
            if step == (field.alias or name)
            for found in _models_in(field.annotation)
        ]
        # a place in a list and a key of a mapping stay at the model of what they hold
        here = below or here
    return [name for one in here for name in field_names(one)] if here != [model] else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in typing.get_args(annotation) for found in _models_in(argument)]


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


def holds_expression(node: Node, *, whole: bool) -> bool:
    """Whether the text at a node, or anywhere below it, holds an expression."""
    if node.kind == "scalar":
        return isinstance(node.value, str) and ("{{" in node.value or "{%" in node.value)
    if not whole:
        return False
    below = node.value.values() if node.kind == "mapping" else node.value
    return any(holds_expression(child, whole=True) for child in below)


_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "time_delta_type": "a duration such as PT30S or 30s",
    "time_delta_parsing": "a duration such as PT30S or 30s",
}


def message_of(error: Any) -> str:
    """What pydantic found, in the user's words."""
    kind, context = error["type"], error.get("ctx") or {}
    if kind == "value_error":
        return str(context.get("error") or error["msg"].removeprefix("Value error, "))
    shown = spelled(error.get("input"))
    if kind in _WANTED:
        return f"expected {_WANTED[kind]}, got {shown}"
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
