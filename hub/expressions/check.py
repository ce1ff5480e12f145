"""Check a template before it ever runs: names, members, functions, filters and what is known of types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.errors import ExpressionError, did_you_mean
from hub.expressions import nodes
from hub.expressions.compile import check_arguments, check_test, spell
from hub.expressions.functions import FunctionTable
from hub.expressions.nodes import Node, TemplateTree
from hub.expressions.parse import parse_template
from hub.expressions.shapes import (
    ANY,
    BOOLEAN,
    NULL,
    NUMBER,
    TEXT,
    ListShape,
    ObjectShape,
    ScalarShape,
    Shape,
    merge,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong between two offsets of a template."""

    message: str
    start: int
    end: int
    hint: str | None = None


def check_template(tree: TemplateTree, names: Mapping[str, Shape], functions: FunctionTable) -> list[Finding]:
    """Every finding in a template, in its order."""
    checker = _Checker(names, functions)
    checker.block(tree.parts)
    return sorted(checker.findings, key=lambda finding: finding.start)


def shape_of_template(tree: TemplateTree, names: Mapping[str, Shape], functions: FunctionTable) -> Shape:
    """What is known of the value a template gives."""
    single = tree.single
    return _Checker(names, functions).shape(single) if single is not None else TEXT


def find_expressions_naming(text: str, names: frozenset[str]) -> list[tuple[int, int, str]]:
    """Where ``{{…}}`` in a text parses and names one of ``names``: start, end and the name.

    Other languages use double braces too, so what does not parse as ours is none of ours.
    """
    from hub.expressions.tokens import LONGEST_TEMPLATE, tag_end

    if "{{" not in text:
        return []
    found: list[tuple[int, int, str]] = []
    position = 0
    while (start := text.find("{{", position)) >= 0:
        position = start + 2
        raw = text.rfind("{%", 0, start)
        if raw >= 0 and _is_inside_raw(text, start):
            continue
        end = tag_end(text[: start + LONGEST_TEMPLATE], start)
        if end < 0:
            continue
        try:
            tree = parse_template(text[start:end])
        except ExpressionError:
            continue
        for part in tree.parts:
            named = next(
                (
                    node.name
                    for node in nodes.walk(part)
                    if isinstance(node, nodes.Name | nodes.Call) and node.name in names
                ),
                None,
            )
            if named is not None:
                found.append((start, end, named))
                position = end
                break
    return found


def _is_inside_raw(text: str, position: int) -> bool:
    from hub.expressions.tokens import _END_RAW, _RAW

    opened = None
    for hit in _RAW.finditer(text, 0, position):
        opened = hit.end()
    return opened is not None and _END_RAW.search(text, opened, position) is None


class _Checker:
    def __init__(self, names: Mapping[str, Shape], functions: FunctionTable) -> None:
        self._names = dict(names)
        self._functions = functions
        self.findings: list[Finding] = []

    def _find(self, message: str, start: int, end: int, hint: str | None = None) -> None:
        self.findings.append(Finding(message, start, end, hint))

    # -- parts

    def block(self, parts: tuple[Node, ...]) -> None:
        for part in parts:
            self._part(part)

    def _part(self, part: Node) -> None:
        match part:
            case nodes.Output(value=value):
                self.shape(value)
            case nodes.If(branches=branches, otherwise=otherwise):
                for test, body in branches:
                    self.shape(test)
                    self.block(body)
                self.block(otherwise)
            case nodes.For():
                self._for(part)

    def _for(self, node: nodes.For) -> None:
        values = self.shape(node.values)
        if isinstance(values, ScalarShape) and values != TEXT:
            self._find(f"{values.noun} cannot be looped over", node.values.start, node.values.end)
        item = values.item if isinstance(values, ListShape) else ANY
        outer = self._names
        if len(node.targets) == 1:
            self._names = {**outer, node.targets[0]: item}
        else:
            self._names = {**outer, **dict.fromkeys(node.targets, ANY)}
        if node.condition is not None:
            self.shape(node.condition)
        self._names["loop"] = _LOOP
        self.block(node.body)
        self._names = outer
        self.block(node.otherwise)

    # -- expressions

    def shape(self, node: Node) -> Shape:
        """What is known of an expression's value; findings are collected on the way."""
        match node:
            case nodes.Literal(value=value):
                return _literal(value)
            case nodes.Name():
                return self._name(node)
            case nodes.Member():
                return self._member(node)
            case nodes.SliceOf():
                for bound in (node.first, node.last, node.step):
                    if bound is not None:
                        self.shape(bound)
                return self.shape(node.of)
            case nodes.ListOf(items=items):
                return _list_of([self.shape(item) for item in items])
            case nodes.MappingOf():
                return self._mapping(node)
            case nodes.Unary():
                return self._unary(node)
            case nodes.Binary():
                return self._binary(node)
            case nodes.Logic():
                return merge(self.shape(node.left), self.shape(node.right))
            case nodes.Compare():
                self.shape(node.first)
                for _, operand in node.rest:
                    self.shape(operand)
                return BOOLEAN
            case nodes.Coalesce():
                return merge(self.shape(node.left), self.shape(node.right))
            case nodes.Condition():
                self.shape(node.test)
                then = self.shape(node.then)
                return then if node.otherwise is None else merge(then, self.shape(node.otherwise))
            case nodes.Call():
                return self._call(node)
            case nodes.Filter():
                return self._filter(node)
            case nodes.Test():
                return self._test(node)
        return ANY

    def _name(self, node: nodes.Name) -> Shape:
        found = self._names.get(node.name)
        if found is not None:
            return found
        hint = did_you_mean(node.name, list(self._names))
        if node.name in self._functions.functions:
            hint = f"call it: {node.name}(…)"
        self._find(f'unknown name "{node.name}"', node.start, node.end, hint or self._names_hint())
        return ANY

    def _names_hint(self) -> str:
        return "there are " + ", ".join(sorted(self._names))

    def _member(self, node: nodes.Member) -> Shape:
        of = self.shape(node.of)
        if not isinstance(node.key, nodes.Literal):
            self.shape(node.key)
            if isinstance(of, ListShape):
                return of.item
            return ANY
        key = node.key.value
        if isinstance(of, ObjectShape):
            return self._known_member(node, of, key)
        if isinstance(of, ListShape):
            if isinstance(key, int):
                return of.item
            self._find(
                f'"{spell(node.of)}" is a list; it has no "{key}"',
                node.key.start,
                node.key.end,
                "take one by its place, [0], or loop over it",
            )
            return ANY
        if isinstance(of, ScalarShape) and not (of == TEXT and isinstance(key, int)):
            what = "it" if spell(node.of) == "the value" else f'"{spell(node.of)}"'
            self._find(f'{what} is {of.noun}; it has no member "{key}"', node.key.start, node.key.end)
            return ANY
        return ANY if not isinstance(of, ScalarShape) else of

    def _known_member(self, node: nodes.Member, of: ObjectShape, key: Any) -> Shape:
        name = key if isinstance(key, str) else str(key)
        found = of.members.get(name)
        if found is not None:
            return found
        if of.is_open:
            return ANY
        if name in of.reasons:
            self._find(of.reasons[name], node.start, node.end)
            return ANY
        hint = did_you_mean(name, list(of.members)) or did_you_mean(name, list(of.reasons))
        if hint is None:
            known = sorted(of.members)
            hint = f"there {'is' if len(known) == 1 else 'are'} {', '.join(known[:8])}" if known else None
            if hint and len(known) > 8:
                hint += ", …"
            hint = of.hint or hint
        if of.noun in ("input", "variable", "task"):
            message = f'unknown {of.noun} "{name}"'
        else:
            message = f'"{spell(node.of)}" has no {of.noun} "{name}"'
        self._find(message, node.key.start, node.key.end, hint)
        return ANY

    def _mapping(self, node: nodes.MappingOf) -> Shape:
        members: dict[str, Shape] = {}
        is_open = False
        for key, value in node.entries:
            if isinstance(key, nodes.Literal) and isinstance(key.value, str):
                members[key.value] = self.shape(value)
            else:
                self.shape(key)
                self.shape(value)
                is_open = True
        return ObjectShape(members, is_open=is_open)

    def _unary(self, node: nodes.Unary) -> Shape:
        operand = self.shape(node.operand)
        if node.operator == "not":
            return BOOLEAN
        self._want_number(operand, node.operand, node.operator)
        return NUMBER

    def _binary(self, node: nodes.Binary) -> Shape:
        if node.operator == "-" and self._dashed(node):
            return ANY
        left, right = self.shape(node.left), self.shape(node.right)
        if node.operator == "~":
            return TEXT
        if node.operator in ("-", "/", "//", "%", "**"):
            self._want_number(left, node.left, node.operator)
            self._want_number(right, node.right, node.operator)
            return NUMBER
        if node.operator == "+":
            for one, other in ((left, right), (right, left)):
                if one == TEXT and other in (NUMBER, BOOLEAN, NULL):
                    assert isinstance(other, ScalarShape)
                    self._find(
                        f'"+" cannot take text and {other.noun}', node.start, node.end, "join texts with ~"
                    )
                    return ANY
        return left if left == right else ANY

    def _want_number(self, shape: Shape, node: Node, operator: str) -> None:
        if shape in (TEXT, NULL) or isinstance(shape, ObjectShape | ListShape):
            noun = shape.noun if isinstance(shape, ScalarShape) else "a list or mapping"
            self._find(f'"{operator}" takes numbers, got {noun}', node.start, node.end)

    def _dashed(self, node: nodes.Binary) -> bool:
        """``outputs.my-task.x``: a dash without blanks is read as minus; say how the name is written."""
        words: list[str] = []
        rest: tuple[Any, ...] = ()
        first: Node = node
        end = node.end
        while isinstance(first, nodes.Binary) and first.operator == "-":
            right = _leftmost(first.right) if not words else first.right
            name = _first_name(right)
            path = nodes.constant_path(right)
            end = right.end if not words else end
            if name is None or path is None or name.start != first.left.end + 1 or (words and len(path) > 1):
                return False
            rest = path[1:] if not words else rest
            words.insert(0, name.name)
            first = first.left
        if not isinstance(first, nodes.Member) or not isinstance(first.key, nodes.Literal):
            return False
        if nodes.constant_path(first.of) is None:
            return False
        parent = _Checker(self._names, self._functions).shape(first.of)
        if not isinstance(parent, ObjectShape) or str(first.key.value) in parent.members:
            return False
        name_ = "-".join([str(first.key.value), *words])
        if name_ not in parent.members and name_ not in parent.reasons:
            return False
        spelled = f"{spell(first.of)}['{name_}']" + "".join(f".{key}" for key in rest)
        self._find(
            f'a dash is a minus here: unknown {parent.noun} "{first.key.value}"',
            node.start,
            end,
            f"write {spelled}",
        )
        return True

    def _call(self, node: nodes.Call) -> Shape:
        for argument in (*node.arguments, *(value for _, value in node.named)):
            self.shape(argument)
        function = self._functions.functions.get(node.name)
        if function is None:
            hint = did_you_mean(node.name, list(self._functions.functions))
            if hint is None and node.name in self._functions.filters:
                hint = f"it is a filter: value | {node.name}"
            self._find(f'unknown function "{node.name}"', node.start, node.name_end, hint)
            return ANY
        self._arguments(function, node)
        return function.gives

    def _filter(self, node: nodes.Filter) -> Shape:
        of = self.shape(node.of)
        given = [self.shape(argument) for argument in node.arguments]
        for _, value in node.named:
            self.shape(value)
        function = self._functions.filters.get(node.name)
        if function is None:
            self._find(
                f'unknown filter "{node.name}"',
                node.name_start,
                node.name_start + len(node.name),
                did_you_mean(node.name, list(self._functions.filters)),
            )
            return ANY
        self._arguments(function, node)
        if node.name == "default":
            return merge(of, given[0]) if given else of
        if node.name in ("first", "last"):
            return of.item if isinstance(of, ListShape) else of if of == TEXT else ANY
        return function.gives

    def _arguments(self, function: Any, node: nodes.Call | nodes.Filter) -> None:
        try:
            check_arguments(function, len(node.arguments), [name for name, _ in node.named], node)
        except ExpressionError as error:
            self._find(error.message, error.start, error.end, error.hint)

    def _test(self, node: nodes.Test) -> Shape:
        self.shape(node.of)
        for argument in node.arguments:
            self.shape(argument)
        try:
            check_test(node)
        except ExpressionError as error:
            self._find(error.message, error.start, error.end, error.hint)
        return BOOLEAN


_LOOP = ObjectShape(
    {
        "index": NUMBER,
        "index0": NUMBER,
        "revindex": NUMBER,
        "revindex0": NUMBER,
        "first": BOOLEAN,
        "last": BOOLEAN,
        "length": NUMBER,
    },
    "member",
)


def _leftmost(node: Node) -> Node:
    """What an expression begins with, below the filters, tests and operators that follow it."""
    while True:
        if isinstance(node, nodes.Filter | nodes.Test):
            node = node.of
        elif isinstance(node, nodes.Coalesce | nodes.Binary):
            node = node.left
        else:
            return node


def _first_name(node: Node) -> nodes.Name | None:
    while isinstance(node, nodes.Member):
        node = node.of
    return node if isinstance(node, nodes.Name) else None


def _literal(value: Any) -> Shape:
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int | float):
        return NUMBER
    return TEXT


def _list_of(items: list[Shape]) -> Shape:
    if not items:
        return ListShape(ANY)
    shape = items[0]
    for item in items[1:]:
        shape = merge(shape, item)
    return ListShape(shape)
