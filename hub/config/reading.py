"""The reading of one flow file: the problems found so far, and simple properties with their places.

What reads and checks the parts of a flow (``hub.config.flows`` and those beside it) shares one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel

from hub.config.components import holds_expression, spelled
from hub.config.yaml import MOST_PROBLEMS, Document, Node
from hub.errors import Position, Problem, did_you_mean
from hub.expressions import FunctionTable
from hub.model.ids import is_id
from hub.plugin.component import naming_fields
from hub.registry import Registry

E = TypeVar("E", bound=Enum)

_MOST_COMPARED = 20_000
ID_HINT = "letters, digits, - and _, beginning with a letter or digit"


@dataclass
class Reading:
    """What the reading of one file has found so far."""

    document: Document
    registry: Registry
    functions: FunctionTable
    problems: list[Problem] = field(default_factory=list)
    nodes: dict[int, Node] = field(default_factory=dict)
    """The node behind a declaration, by the declaration's ``id()``."""
    compared: int = 0
    """How many names were looked at for hints."""

    @property
    def is_full(self) -> bool:
        """Whether there are as many problems as are shown: hints for more would be thrown away."""
        return len(self.problems) >= MOST_PROBLEMS

    def near(self, name: str, known: Sequence[str]) -> str | None:
        """A hint with the nearest of the known names, as long as the file has not asked for too many."""
        if self.is_full or self.compared > _MOST_COMPARED:
            return None
        self.compared += len(known)
        return did_you_mean(name, known)

    def problem(
        self,
        message: str,
        position: Position,
        hint: str | None = None,
        *,
        length: int = 1,
        severity: str = "error",
    ) -> None:
        """Note one."""
        self.problems.append(
            Problem(message, position, hint, severity, file=self.document.file, length=max(length, 1))
        )

    def at(self, node: Node, message: str, hint: str | None = None) -> None:
        """Note one at a node."""
        length = node.end - node.start if node.kind == "scalar" and node.style not in ("|", ">") else 1
        self.problem(message, node.position, hint, length=min(length, 80))

    # properties of a mapping

    def required_text(self, node: Node, name: str, what: str) -> str | None:
        """A text that has to be there; a number is its own text."""
        found = node.get(name)
        if found is None:
            self.problem(f'"{name}" is required in {with_article(what)}', node.position)
            return None
        if (
            found.text is not None
            and isinstance(found.value, int | float)
            and not isinstance(found.value, bool)
        ):
            return found.text
        if not isinstance(found.value, str) or not found.value:
            self.at(found, f'"{name}" is text, got {kind_of(found)}')
            return None
        return found.value

    def text(self, node: Node, name: str) -> str | None:
        """A text, if it is there."""
        found = node.get(name)
        if found is None or found.value is None:
            return None
        if found.kind != "scalar":
            self.at(found, f'"{name}" is text, got {kind_of(found)}')
            return None
        text: str = found.value if found.text is None else found.text
        return text

    def flag(self, node: Node, name: str, default: bool = False) -> bool:
        """True or false."""
        found = node.get(name)
        if found is None:
            return default
        if isinstance(found.value, bool):
            return found.value
        hint = "YAML 1.2 knows true and false only" if found.value in ("yes", "no", "on", "off") else None
        self.at(found, f'"{name}" is true or false, got {spelled(found.plain())}', hint)
        return default

    def plain(self, node: Node, name: str) -> Any:
        """A value as plain data, expressions and all."""
        found = node.get(name)
        return found.plain() if found is not None else None

    def choice(self, kind: type[E], node: Node | None, text: Any = None) -> E | None:
        """One of an enum's values, in either case."""
        given = node.value if node is not None else text
        by_name = {str(member.value).lower(): member for member in kind}
        found = by_name.get(given.lower()) if isinstance(given, str) else None
        if found is None and node is not None:
            known = [str(member.value) for member in kind]
            hint = self.near(str(given), known) or f"one of {all_of(kind)}"
            self.at(node, f"{spelled(node.plain())} is not known here", hint)
        return found

    def new_id(self, node: Node, what: str, ids: dict[str, Node]) -> str | None:
        """The id of a thing, which nothing in ``ids`` has; None where it is missing."""
        name = self.required_text(node, "id", what)
        if name is None:
            return None
        place = node.value["id"]
        if not is_id(name):
            self.at(place, f'"{name}" cannot be an id', ID_HINT)
        elif name in ids:
            self.at(place, f'duplicate {what} id "{name}"', f"the first is on line {ids[name].line}")
        ids.setdefault(name, place)
        return name

    def entries(self, root: Node, name: str, read: Callable[[Node, dict[str, Node]], Any]) -> tuple[Any, ...]:
        """What ``read`` makes of each entry of a list; a second id of its own kind is a problem."""
        node = root.get(name)
        if node is None:
            return ()
        if node.kind != "list":
            self.at(node, f'"{name}" is a list, got {kind_of(node)}', "begin each entry with -")
            return ()
        ids: dict[str, Node] = {}
        found = []
        for item in node.value:
            if item.kind != "mapping":
                self.at(item, f'each of "{name}" is a mapping, got {kind_of(item)}')
                continue
            one = read(item, ids)
            if one is not None:
                found.append(one)
        return tuple(found)

    def only(self, node: Node, allowed: Sequence[str], what: str) -> None:
        """Note every property that is none of the allowed ones."""
        for name, key in node.keys.items():
            if name not in allowed:
                hint = self.near(name, allowed) or f"{with_article(what)} has {', '.join(allowed)}"
                self.at(key, f'unknown property "{name}"', hint)

    # what is warned about in several places

    def never_rendered(self, node: Node, what: str) -> None:
        """Warn of an expression where none is looked for."""
        if holds_expression(node, whole=True):
            self.problem(
                f"{what} is never rendered: it stays as it is written",
                node.position,
                "put the expression where it is used, or under variables:",
                length=node.end - node.start if node.kind == "scalar" else 1,
                severity="warning",
            )

    def check_notifier_names(self, model: type[BaseModel], node: Node) -> None:
        """Warn of a name that ``hub.yaml`` does not have: it may get it before anybody is to be told."""
        known = self.registry.notifier_names
        if known is None or node.kind != "mapping":
            return
        for key in naming_fields(model):
            named = node.get(key)
            for item in (named.value if named.kind == "list" else [named]) if named is not None else ():
                name = item.value
                if isinstance(name, str) and name not in known and "{" not in name:
                    hint = self.near(name, sorted(known))
                    self.problem(
                        f'no notifier is called "{name[:60]}" in hub.yaml',
                        item.position,
                        hint or f"add it there: notifiers: {{{name[:60]}: {{type: …}}}}",
                        length=min(item.end - item.start, 80),
                        severity="warning",
                    )

    def unknown_type(
        self, node: Node, kind: str, name: str, owner: str | None, known: Mapping[str, object]
    ) -> None:
        """Note a type that no plugin brings, with what is known of it."""
        hint = self.registry.explain(kind, name) or self.near(name, list(known))
        other = self.registry.triggers if kind == "task" else self.registry.tasks
        if hint is None and name in other:
            hint = f"{name} is a {'trigger' if kind == 'task' else 'task'}"
        if hint is None:
            hint = "hub plugins list shows what is installed"
        self.at(node, f'unknown {kind} type "{name}"' + (f' in {kind} "{owner}"' if owner else ""), hint)


def kind_of(node: Node) -> str:
    """What a node is, in words."""
    if node.kind == "mapping":
        return "a mapping"
    if node.kind == "list":
        return "a list"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return "a boolean"
    if isinstance(node.value, int | float):
        return "a number"
    return "text" if node.value else "empty text"


def with_article(what: str) -> str:
    """A noun with its article."""
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def all_of(kind: type[Enum]) -> str:
    """Every value of an enum."""
    return ", ".join(str(member.value) for member in kind)
