"""Check a template before it ever runs: names, members, functions, filters and what is known of types."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from hub.errors import ExpressionError, did_you_mean
from hub.expressions import nodes
from hub.expressions.compile import check_arguments, check_test, spell
from hub.expressions.dates import pattern_parts, zone_of
from hub.expressions.functions import Function, FunctionTable
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
from hub.expressions.tokens import closing_of, raw_spans

Near = Callable[[str, Sequence[str]], str | None]

_MOST_FINDINGS = 50
_SHOWN_NAMES = 8
_MOST_ASKED = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong between two offsets of a template."""

    message: str
    start: int
    end: int
    hint: str | None = None
    severity: str = "error"


def check_template(
    tree: TemplateTree,
    names: Mapping[str, Shape],
    functions: FunctionTable,
    near: Near | None = did_you_mean,
) -> list[Finding]:
    """Every finding in a template, in its order.

    ``near`` looks for what an unknown name was meant to be; without it unknown names have no hints.
    """
    checker = _Checker(tree.source, names, functions, near)
    checker.block(tree.parts)
    found = checker.found()
    return sorted(found, key=lambda finding: finding.start) if len(found) > 1 else found


def shape_of_template(tree: TemplateTree, names: Mapping[str, Shape], functions: FunctionTable) -> Shape:
    """What is known of the value a template gives."""
    single = tree.single
    if single is None:
        return TEXT
    return _Checker(tree.source, names, functions, None).shape(single)


# -- scripts

_LONGEST_IN_A_SCRIPT = 4_000
_MOST_FOUND_IN_A_SCRIPT = 20
_MOST_READ_IN_A_SCRIPT = 1_000
_MOST_MARKS_IN_A_SCRIPT = 50_000


def find_expressions_naming(text: str, names: frozenset[str]) -> list[tuple[int, int, str]]:
    """Where ``{{…}}`` in a text parses and names one of ``names``: start, end and the name.

    Other languages use double braces too, so what does not parse as ours is none of ours. A text of nothing
    but braces is given up after a while: it is never rendered anyway.
    """
    if "{{" not in text:
        return []
    found: list[tuple[int, int, str]] = []
    named = re.compile(rf"\b(?:{'|'.join(names)})\b")
    read = past = 0
    for start, end in _output_tags(text):
        tag = text[start:end]
        if start < past or named.search(tag) is None:
            continue
        read += 1
        name = _first_named(tag, names)
        if name is not None:
            found.append((start, end, name))
            past = end
        if len(found) >= _MOST_FOUND_IN_A_SCRIPT or read >= _MOST_READ_IN_A_SCRIPT:
            break
    return found


def _output_tags(text: str) -> Iterator[tuple[int, int]]:
    """Every ``{{…}}`` outside of raw text, one that begins inside of another too where that one is not ours."""
    raws = iter(raw_spans(text))
    raw_start, raw_end = next(raws, (len(text), len(text)))
    position = marks = 0
    while marks < _MOST_MARKS_IN_A_SCRIPT and (start := text.find("{{", position)) >= 0:
        while start >= raw_end < len(text):
            raw_start, raw_end = next(raws, (len(text), len(text)))
        if start >= raw_start:
            position = raw_end
            continue
        position = start + 2
        window = text[start : start + _LONGEST_IN_A_SCRIPT]
        try:
            end, seen = closing_of(window, 2, "}}")
        except ExpressionError:
            marks += len(window) // 10
            continue
        marks += seen + 1
        if end >= 0:
            yield start, start + end + 2


def _first_named(tag: str, names: frozenset[str]) -> str | None:
    try:
        tree = parse_template(tag)
    except ExpressionError:
        return None
    return next((name for name in nodes.names_in(tree.parts) if name in names), None)


# -- dashes

_DASHES = re.compile(r"(?:-\w++)++")
_REST = re.compile(r"(?:\.\w++|\[[^\[\]]*+\])*+")


class _Checker:
    def __init__(
        self, source: str, names: Mapping[str, Shape], functions: FunctionTable, near: Near | None
    ) -> None:
        self._source = source
        self._names = dict(names)
        self._functions = functions
        self._look_for = near
        self._findings: list[Finding] = []
        # where a dash was meant as part of a name, all else that is found there comes from reading it as a minus
        self._dashed: list[tuple[int, int]] = []
        self._optional = 0
        self._asked: list[tuple[Any, ...]] = []
        self._proven: tuple[tuple[Any, ...], ...] = ()

    def found(self) -> list[Finding]:
        """What was found, less what comes from something else that was."""
        if not self._dashed:
            return self._findings
        return [one for one in self._findings if not self._is_explained(one)]

    def _is_explained(self, one: Finding) -> bool:
        if one.message.startswith(_DASH_MESSAGE) or (one.start, one.end) in self._dashed:
            return False
        return any(one.start < end and start < one.end for start, end in self._dashed)

    def _find(
        self, message: str, start: int, end: int, hint: str | None = None, severity: str = "error"
    ) -> None:
        if len(self._findings) < _MOST_FINDINGS:
            self._findings.append(Finding(message, start, end, hint, severity))

    def _near(self, name: str, known: Iterable[str]) -> str | None:
        if self._look_for is None or len(self._findings) >= _MOST_FINDINGS:
            return None
        return self._look_for(name, list(known))

    # -- parts

    def block(self, parts: tuple[Node, ...]) -> None:
        for part in parts:
            self._part(part)

    def _part(self, part: Node) -> None:
        match part:
            case nodes.Output(value=value):
                self.shape(value)
            case nodes.If(branches=branches, otherwise=otherwise):
                before = self._proven
                for test, body in branches:
                    asked = len(self._asked)
                    self.shape(test)
                    self._prove(asked)
                    self.block(body)
                self.block(otherwise)
                self._proven = before
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

    # -- what may be missing

    def _accepted(self, node: Node) -> Shape:
        """The shape of what may be missing without a mistake: ``??``, ``default`` and ``is defined``."""
        self._optional += 1
        shape = self.shape(node)
        self._optional -= 1
        return shape

    def _prove(self, asked: int) -> None:
        """Take what has been asked for with ``is defined``, from the ``asked``th on, as looked after."""
        if len(self._asked) > asked:
            self._proven = (*self._proven, *self._asked[asked:])

    def _may_be_missing(self, node: Node) -> bool:
        if self._optional:
            return True
        path = nodes.constant_path(node)
        return path is not None and any(proven[: len(path)] == path for proven in self._proven)

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
                return self._slice(node)
            case nodes.ListOf(items=items):
                return _list_of([self.shape(item) for item in items])
            case nodes.MappingOf():
                return self._mapping(node)
            case nodes.Unary():
                return self._unary(node)
            case nodes.Binary():
                return self._binary(node)
            case nodes.Logic():
                return self._logic(node)
            case nodes.Compare():
                return self._compare(node)
            case nodes.Coalesce():
                return merge(self._accepted(node.left), self.shape(node.right))
            case nodes.Condition():
                return self._condition(node)
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
            if isinstance(found, ObjectShape) and found.sometimes and not self._may_be_missing(node):
                self._find(
                    f'"{node.name}" is there only {found.sometimes}',
                    node.start,
                    node.end,
                    "say what to do without it: … ?? 'none', or: when: \"{{ " + node.name + ' is defined }}"',
                    "warning",
                )
            return found
        hint = self._near(node.name, self._names)
        if node.name in self._functions.functions:
            hint = f"call it: {node.name}(…)"
        self._find(f'unknown name "{node.name}"', node.start, node.end, hint or self._names_hint())
        return ANY

    def _names_hint(self) -> str | None:
        return "there are " + ", ".join(sorted(self._names)) if self._look_for is not None else None

    def _member(self, node: nodes.Member) -> Shape:
        of = self.shape(node.of)
        if not isinstance(node.key, nodes.Literal):
            self.shape(node.key)
            if isinstance(of, ListShape):
                return of.item
            return ANY
        key = node.key.value
        is_followed = self._source[node.key.end : node.key.end + 1] == "-"
        if is_followed and isinstance(key, str) and self._is_dashed(node, key, of):
            return ANY
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
        if name in of.absent:
            if not self._may_be_missing(node):
                self._find(of.absent[name], node.start, node.end, "say what to take instead: … ?? 'other'")
            return ANY
        if name in of.reasons:
            self._find(of.reasons[name], node.start, node.end)
            return ANY
        if of.noun in ("input", "variable", "task"):
            message = f'unknown {of.noun} "{name}"'
        else:
            message = f'"{spell(node.of)}" has no {of.noun} "{name}"'
        self._find(message, node.key.start, node.key.end, self._member_hint(of, name))
        return ANY

    def _member_hint(self, of: ObjectShape, name: str) -> str | None:
        near = self._near(name, of.members) or self._near(name, [*of.absent, *of.reasons])
        if near is not None or of.hint is not None or self._look_for is None:
            return near or of.hint
        known = nsmallest(_SHOWN_NAMES + 1, of.members)
        if not known:
            return None
        more = ", …" if len(known) > _SHOWN_NAMES else ""
        return f"there {'is' if len(known) == 1 else 'are'} {', '.join(known[:_SHOWN_NAMES])}{more}"

    # -- dashes

    def _is_dashed(self, node: nodes.Member, key: str, of: Shape) -> bool:
        """``outputs.my-task.x``: a dash without blanks is read as minus; say how the name is written."""
        end = node.key.end
        run = _DASHES.match(self._source, end) if self._source[node.key.start - 1] == "." else None
        if run is None:
            return False
        name = key + run[0]
        meant = self._meant(name, key, run[0], run.end(), of)
        if meant is None:
            return False
        rest = _REST.match(self._source, run.end())
        end = rest.end() if rest else run.end()
        spelled = f"write {self._source[node.of.start : node.of.end]}['{meant}']{rest[0] if rest else ''}"
        message = _DASH_MESSAGE
        if isinstance(of, ObjectShape) and not of.is_open and key not in of.members:
            message += f': unknown {of.noun} "{key}"'
        self._dashed.append((node.start, end))
        self._find(message, node.start, end, spelled)
        return True

    def _meant(self, name: str, key: str, run: str, end: int, of: Shape) -> str | None:
        """The name that was meant, or None where the dash may be a minus."""
        word = run[1:].split("-")[0]
        is_number = word.isdecimal()
        # 1.value is no more a number than an unknown name is
        makes_no_sense = (
            self._source[end : end + 1] == "." and not self._source[end + 1 : end + 2].isdecimal()
            if is_number
            else word not in self._names and word not in self._functions.functions
        )
        if not isinstance(of, ObjectShape) or of.is_open:
            is_open = isinstance(of, ObjectShape) or of == ANY
            return name if is_open and makes_no_sense else None
        plain = of.members.get(key)
        if name in of.members or name in of.reasons or name in of.absent:
            may_be_minus = plain == NUMBER or (plain == ANY and not makes_no_sense)
            return None if plain is not None and may_be_minus else name
        if plain is not None:
            return None
        dashed = [one for one in (*of.members, *of.absent, *of.reasons) if "-" in one]
        return _named_in(self._near(name, dashed))

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

    # -- operators

    def _slice(self, node: nodes.SliceOf) -> Shape:
        for bound in (node.first, node.last, node.step):
            if bound is not None:
                self.shape(bound)
        of = self.shape(node.of)
        if isinstance(of, ObjectShape) or (isinstance(of, ScalarShape) and of != TEXT):
            self._find(f"{_noun(of)} cannot be cut", node.start, node.end)
            return ANY
        return of

    def _unary(self, node: nodes.Unary) -> Shape:
        operand = self.shape(node.operand)
        if node.operator == "not":
            return BOOLEAN
        self._want_number(operand, node.operand, node.operator)
        return NUMBER

    def _binary(self, node: nodes.Binary) -> Shape:
        left, right = self.shape(node.left), self.shape(node.right)
        if node.operator == "~":
            return TEXT
        if node.operator in ("-", "/", "//", "%", "**"):
            self._want_number(left, node.left, node.operator)
            self._want_number(right, node.right, node.operator)
            return NUMBER
        if not (_fits_plus if node.operator == "+" else _fits_times)(left, right):
            hint = "join texts with ~" if node.operator == "+" and TEXT in (left, right) else None
            message = f'"{node.operator}" cannot take {_noun(left)} and {_noun(right)}'
            self._find(message, node.start, node.end, hint)
            return ANY
        return left if left == right else ANY

    def _want_number(self, shape: Shape, node: Node, operator: str) -> None:
        if shape in (TEXT, NULL) or isinstance(shape, ObjectShape | ListShape):
            noun = shape.noun if isinstance(shape, ScalarShape) else "a list or mapping"
            self._find(f'"{operator}" takes numbers, got {noun}', node.start, node.end)

    def _compare(self, node: nodes.Compare) -> Shape:
        left, start = self.shape(node.first), node.first.start
        for operator, operand in node.rest:
            right = self.shape(operand)
            message = _mismatch(operator, left, right)
            if message is not None:
                self._find(message, start, operand.end)
            left, start = right, operand.start
        return BOOLEAN

    def _logic(self, node: nodes.Logic) -> Shape:
        before, asked = self._proven, len(self._asked)
        left = self.shape(node.left)
        self._prove(asked)
        right = self.shape(node.right)
        self._proven = before
        return merge(left, right)

    def _condition(self, node: nodes.Condition) -> Shape:
        before, asked = self._proven, len(self._asked)
        self.shape(node.test)
        self._prove(asked)
        shape = self.shape(node.then)
        if node.otherwise is not None:
            shape = merge(shape, self.shape(node.otherwise))
        self._proven = before
        return shape

    # -- functions, filters and tests

    def _call(self, node: nodes.Call) -> Shape:
        for argument in (*node.arguments, *(value for _, value in node.named)):
            self.shape(argument)
        function = self._functions.functions.get(node.name)
        if function is None:
            hint = self._near(node.name, self._functions.functions)
            if hint is None:
                hint = self._filter_hint(node.name)
            self._find(f'unknown function "{node.name}"', node.start, node.name_end, hint)
            return ANY
        self._arguments(function, node)
        return function.gives

    def _filter_hint(self, name: str) -> str | None:
        """What to write where a filter is called like a function."""
        if name in self._functions.filters:
            return f"it is a filter: value | {name}"
        meant = _named_in(self._near(name, self._functions.filters))
        return f"did you mean the filter: value | {meant}" if meant else None

    def _filter(self, node: nodes.Filter) -> Shape:
        of = self._accepted(node.of) if node.name == "default" else self.shape(node.of)
        given = [self.shape(argument) for argument in node.arguments]
        for _, value in node.named:
            self.shape(value)
        function = self._functions.filters.get(node.name)
        if function is None:
            self._find(
                f'unknown filter "{node.name}"',
                node.name_start,
                node.name_start + len(node.name),
                self._near(node.name, self._functions.filters),
            )
            return ANY
        self._arguments(function, node)
        if function.takes and of != ANY and not any(_is(of, kind) for kind in function.takes):
            self._find(f"{node.name} cannot take {_noun(of)}", node.start, node.end)
        if node.name == "default":
            return merge(of, given[0]) if given else of
        if node.name in ("first", "last"):
            return of.item if isinstance(of, ListShape) else of if of == TEXT else ANY
        return function.gives

    def _arguments(self, function: Function, node: nodes.Call | nodes.Filter) -> None:
        try:
            check_arguments(function, len(node.arguments), [name for name, _ in node.named], node)
        except ExpressionError as error:
            self._find(error.message, error.start, error.end, error.hint)
            return
        if function.is_metered and function.name in ("now", "date"):
            given = {**dict(zip(function.order, node.arguments, strict=False)), **dict(node.named)}
            self._literal_argument(given.get("timezone"), zone_of)
            if function.name == "date":
                self._literal_argument(given.get("format"), pattern_parts)

    def _literal_argument(self, node: Node | None, read: Callable[[str], object]) -> None:
        """What an argument that is written out would come to when it runs."""
        if isinstance(node, nodes.Literal) and isinstance(node.value, str):
            try:
                read(node.value)
            except ExpressionError as error:
                self._find(error.message, node.start, node.end, error.hint)

    def _test(self, node: nodes.Test) -> Shape:
        if node.name in ("defined", "undefined"):
            self._accepted(node.of)
            path = nodes.constant_path(node.of)
            if path is not None and len(self._asked) < _MOST_ASKED:
                self._asked.append(path)
        else:
            self.shape(node.of)
        for argument in node.arguments:
            self.shape(argument)
        try:
            check_test(node)
        except ExpressionError as error:
            self._find(error.message, error.start, error.end, error.hint)
        return BOOLEAN


_DASH_MESSAGE = "a dash is a minus here"


def _named_in(hint: str | None) -> str | None:
    """The name that a hint puts in quotes."""
    return hint.split('"')[1] if hint else None


def _is(shape: Shape, kind: type[Shape] | Shape) -> bool:
    return isinstance(shape, kind) if isinstance(kind, type) else shape == kind


def _noun(shape: Shape) -> str:
    if isinstance(shape, ScalarShape):
        return shape.noun
    return "a list" if isinstance(shape, ListShape) else "a mapping"


_COUNTED = (NUMBER, BOOLEAN)


def _fits_plus(left: Shape, right: Shape) -> bool:
    if ANY in (left, right):
        return (
            NULL not in (left, right)
            and not isinstance(left, ObjectShape)
            and not isinstance(right, ObjectShape)
        )
    both_lists = isinstance(left, ListShape) and isinstance(right, ListShape)
    return both_lists or (left in _COUNTED and right in _COUNTED) or left == right == TEXT


def _fits_times(left: Shape, right: Shape) -> bool:
    for one, other in ((left, right), (right, left)):
        if one == NULL or isinstance(one, ObjectShape):
            return False
        if (one == TEXT or isinstance(one, ListShape)) and other not in (*_COUNTED, ANY):
            return False
    return True


def _mismatch(operator: str, left: Shape, right: Shape) -> str | None:
    """Why two values of these shapes can never be compared so."""
    if operator in ("==", "!="):
        return None
    if operator in ("in", "not in", "contains"):
        container, wanted = (left, right) if operator == "contains" else (right, left)
        if isinstance(container, ScalarShape) and container != TEXT:
            return f"{container.noun} contains nothing; expected a list, a mapping or text"
        if container == TEXT and wanted not in (TEXT, ANY):
            return f"text contains text, not {_noun(wanted)}"
        return None
    if ANY in (left, right) and NULL not in (left, right):
        return None
    both_lists = isinstance(left, ListShape) and isinstance(right, ListShape)
    if both_lists or (left in _COUNTED and right in _COUNTED) or left == right == TEXT:
        return None
    if ANY in (left, right):
        return None
    return f'"{operator}" cannot compare {_noun(left)} with {_noun(right)}'


_LOOP = ObjectShape(
    {
        "index": NUMBER,
        "index0": NUMBER,
        "revindex": NUMBER,
        "revindex0": NUMBER,
        "first": BOOLEAN,
        "last": BOOLEAN,
        "length": NUMBER,
        "depth": NUMBER,
        "depth0": NUMBER,
    },
    "member",
)


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
