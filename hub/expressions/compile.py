"""Turn a template's tree into closures over plain data, with a budget for every evaluation.

A closure is given the frame of one evaluation: the names, the answers so far and what is left of the budget.
A template's own size bounds what runs once; loops and work on large values are charged before they happen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from hub.errors import ExpressionError, ExpressionLimit, MissingMember, did_you_mean
from hub.expressions import nodes
from hub.expressions.frame import Frame, Request
from hub.expressions.functions import (
    MISSING,
    TEST_NAMES,
    TEST_OPERATORS,
    TESTS,
    Function,
    FunctionTable,
    NeedsAnswer,
)
from hub.expressions.nodes import Node
from hub.expressions.parse import parse_template
from hub.expressions.values import BINARY, compare, finite, kind_of, member, missing
from hub.model import jsontext

_NO_ANSWERS: Mapping[Request, object] = {}
_A_CALL = 5
_A_PLUGINS_CALL = 100
_A_MISSING_MEMBER = 20
"""What an exception costs, raised and caught."""


Evaluate = Callable[[Frame], Any]
Emit = Callable[[Frame, list[str]], None]


class Template:
    """A compiled template."""

    __slots__ = ("_evaluate", "_path", "is_constant", "is_single", "source")

    def __init__(self, tree: nodes.TemplateTree, functions: FunctionTable) -> None:
        self.source = tree.source
        compiler = _Compiler(functions)
        single = tree.single
        self.is_single = single is not None
        """Whether it is exactly one expression, whose value keeps its type."""
        self.is_constant = all(isinstance(part, nodes.Text) for part in tree.parts)
        path = nodes.constant_path(single) if single is not None else None
        self._path: tuple[Any, ...] = path or ()
        if single is not None:
            self._evaluate = compiler.output(single)
        else:
            emit = compiler.block(tree.parts)

            def text(frame: Frame) -> str:
                parts: list[str] = []
                emit(frame, parts)
                return "".join(parts)

            self._evaluate = text

    def evaluate(self, scope: Mapping[str, Any], answers: Mapping[Request, object] = _NO_ANSWERS) -> Any:
        """The value over ``scope``. Raises ``ExpressionError``, and ``NeedsAnswer`` for what must be asked."""
        path = self._path
        if path:
            # the commonest template: a plain path costs a few look-ups and no frame
            value: Any = scope
            for key in path:
                if type(value) is not dict or key not in value:
                    break
                value = value[key]
            else:
                return value
        try:
            return self._evaluate(Frame(scope, answers))
        except ExpressionError as error:
            raise _at(error, nodes.Node(0, len(self.source))) from error.__cause__
        except RecursionError:
            raise ExpressionLimit("the value is nested too deep", end=len(self.source)) from None
        except UnicodeError:
            raise ExpressionError("the text holds half a character", end=len(self.source)) from None


@lru_cache(maxsize=4096)
def compile_template(source: str, functions: FunctionTable) -> Template:
    """The template of a text. Raises ``ExpressionError`` with the place in it."""
    return Template(parse_template(source), functions)


class _Compiler:
    def __init__(self, functions: FunctionTable) -> None:
        self._functions = functions

    # -- parts

    def block(self, parts: tuple[Node, ...]) -> Emit:
        """Parts one after another."""
        compiled = [self._part(part) for part in parts]
        if len(compiled) == 1:
            return compiled[0]

        def emit(frame: Frame, out: list[str]) -> None:
            for one in compiled:
                one(frame, out)

        return emit

    def _part(self, part: Node) -> Emit:
        match part:
            case nodes.Text(text=text):
                return lambda frame, out: frame.append(out, text)
            case nodes.Output(value=value):
                evaluate = self.output(value)

                def emit(frame: Frame, out: list[str]) -> None:
                    try:
                        frame.append(out, frame.text(evaluate(frame)))
                    except ExpressionError as error:
                        raise _at(error, part) from error.__cause__

                return emit
            case nodes.If():
                return self._if(part)
            case nodes.For():
                return self._for(part)
        raise AssertionError(type(part))

    def _if(self, node: nodes.If) -> Emit:
        branches = [(self.expression(test), self.block(body)) for test, body in node.branches]
        otherwise = self.block(node.otherwise)

        def emit(frame: Frame, out: list[str]) -> None:
            for test, body in branches:
                if test(frame):
                    body(frame, out)
                    return
            otherwise(frame, out)

        return emit

    def _for(self, node: nodes.For) -> Emit:
        values = self.expression(node.values)
        condition = self.expression(node.condition) if node.condition is not None else None
        body = self.block(node.body)
        otherwise = self.block(node.otherwise)
        targets, place = node.targets, node.values
        assign, name, single = _assignment(targets), targets[0], len(targets) == 1
        uses_loop = "loop" in nodes.names_in(node.body)
        price = _price_of(node.body) + (_A_CALL if uses_loop else 0)
        condition_price = _price_of((node.condition,)) if node.condition is not None else 0

        def emit(frame: Frame, out: list[str]) -> None:
            outer = frame.names
            try:
                value = values(frame)
                if isinstance(value, str | list | tuple | Mapping):
                    frame.charge(len(value) * (condition_price or price))
                items = _items(value, targets, place)
            except ExpressionLimit as error:
                raise _at(error, node) from None
            # one mapping for all rounds: each round overwrites the names of the one before
            inner = dict(outer)
            frame.names = inner
            try:
                if condition is not None:
                    items = [item for item in items if _holds(frame, assign, item, condition)]
                    frame.charge(len(items) * price)
                count = len(items)
                for index, item in enumerate(items):
                    if single:
                        inner[name] = item
                    else:
                        assign(inner, item)
                    if uses_loop:
                        inner["loop"] = _loop(index, count)
                    body(frame, out)
            except ExpressionLimit as error:
                raise _at(error, node) from None
            finally:
                frame.names = outer
            if not items:
                otherwise(frame, out)

        return emit

    # -- expressions

    def output(self, node: Node) -> Evaluate:
        """A closure for what a tag puts out: a condition that does not hold and has no ``else`` gives nothing."""
        if not isinstance(node, nodes.Condition) or _is_complete(node):
            return self.expression(node)
        test, then = self.expression(node.test), self.output(node.then)
        otherwise = self.output(node.otherwise) if node.otherwise is not None else lambda frame: ""
        return lambda frame: then(frame) if test(frame) else otherwise(frame)

    def optional(self, node: Node) -> Evaluate:
        """A closure for an expression that may be missing: it gives ``MISSING`` then, and costs no exception."""
        path = nodes.constant_path(node)
        if path is not None:
            return lambda frame: _read_if_there(frame.names, path)
        if isinstance(node, nodes.Member):
            of, key = self.optional(node.of), self.expression(node.key)
            evaluate: Evaluate = lambda frame: _member_if_there(of(frame), key(frame), node)  # noqa: E731
        else:
            evaluate = self.expression(node)

        def read(frame: Frame) -> Any:
            try:
                return evaluate(frame)
            except MissingMember:
                frame.charge(_A_MISSING_MEMBER)
                return MISSING

        return read

    def expression(self, node: Node) -> Evaluate:
        """A closure for an expression; its errors name the place in the template."""
        match node:
            case nodes.Literal(value=value):
                return lambda frame: value
            case nodes.Name() | nodes.Member():
                return self._path(node)
            case nodes.SliceOf():
                return self._slice(node)
            case nodes.ListOf(items=items):
                parts = [self.expression(item) for item in items]
                return lambda frame: frame.made([part(frame) for part in parts])
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
                return self._coalesce(node)
            case nodes.Condition():
                return self._condition(node)
            case nodes.Call():
                return self._call(node)
            case nodes.Filter():
                return self._filter(node)
            case nodes.Test():
                return self._test(node)
        raise AssertionError(type(node))

    def _path(self, node: Node) -> Evaluate:
        path = nodes.constant_path(node)
        if path is None:
            assert isinstance(node, nodes.Member)
            return self._computed(node)
        start, end = node.start, node.end

        def read(frame: Frame) -> Any:
            value: Any = frame.names
            for key in path:
                if type(value) is dict and key in value:
                    value = value[key]
                else:
                    return _read_slowly(frame.names, path, start, end)
            return value

        return read

    def _computed(self, node: nodes.Member) -> Evaluate:
        of, key = self.expression(node.of), self.expression(node.key)

        def read(frame: Frame) -> Any:
            value, name = of(frame), _key(key(frame), node)
            try:
                return member(value, name)
            except KeyError as error:
                spelled = spell(node.of)
                whole = f"{spelled}[{jsontext.dumps(name)[:60]}]"
                raise missing(whole, spelled, name, error.args[0], node.start, node.end) from None

        return read

    def _slice(self, node: nodes.SliceOf) -> Evaluate:
        of = self.expression(node.of)
        bounds = [self.expression(b) if b is not None else None for b in (node.first, node.last, node.step)]

        def cut(frame: Frame) -> Any:
            value = of(frame)
            first, last, step = (bound(frame) if bound is not None else None for bound in bounds)
            if not isinstance(value, str | list | tuple):
                raise _at(ExpressionError(f"{kind_of(value)} cannot be cut"), node)
            for bound in (first, last, step):
                if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool)):
                    raise _at(ExpressionError(f"a bound is a whole number, got {kind_of(bound)}"), node)
            if step == 0:
                raise _at(ExpressionError("the step is 0"), node)
            if isinstance(value, str):
                frame.charge(len(value) // (2000 if step in (None, 1) else 200))
                return value[first:last:step]
            frame.charge(len(value) // 30)
            return frame.made(value[first:last:step])

        return cut

    def _mapping(self, node: nodes.MappingOf) -> Evaluate:
        entries = [(self.expression(key), self.expression(value)) for key, value in node.entries]

        def make(frame: Frame) -> Any:
            made: dict[str, Any] = {}
            for key, value in entries:
                name = key(frame)
                if not isinstance(name, str):
                    raise _at(ExpressionError(f"a mapping's key is text, got {kind_of(name)}"), node)
                made[name] = value(frame)
            return frame.made(made)

        return make

    def _unary(self, node: nodes.Unary) -> Evaluate:
        operand = self.expression(node.operand)
        if node.operator == "not":
            return lambda frame: not operand(frame)
        negative = node.operator == "-"

        def sign(frame: Frame) -> Any:
            value = operand(frame)
            if not isinstance(value, int | float):
                raise _at(ExpressionError(f'"{node.operator}" takes a number, got {kind_of(value)}'), node)
            return -value if negative else +value

        return sign

    def _binary(self, node: nodes.Binary) -> Evaluate:
        left, right, operate = self.expression(node.left), self.expression(node.right), BINARY[node.operator]

        def compute(frame: Frame) -> Any:
            try:
                result = operate(frame, left(frame), right(frame))
            except ExpressionError as error:
                raise _at(error, node) from error.__cause__
            except OverflowError:
                raise _at(ExpressionError("the result is not a finite number"), node) from None
            return result

        return compute

    def _logic(self, node: nodes.Logic) -> Evaluate:
        left, right = self.expression(node.left), self.expression(node.right)
        if node.operator == "and":
            return lambda frame: left(frame) and right(frame)
        return lambda frame: left(frame) or right(frame)

    def _compare(self, node: nodes.Compare) -> Evaluate:
        first = self.expression(node.first)
        rest = [(operator, self.expression(operand), operand) for operator, operand in node.rest]

        def decide(frame: Frame) -> bool:
            left = first(frame)
            for operator, operand, place in rest:
                right = operand(frame)
                try:
                    if not compare(frame, operator, left, right):
                        return False
                except ExpressionError as error:
                    raise _at(error, nodes.Node(node.start, place.end)) from None
                left = right
            return True

        return decide

    def _coalesce(self, node: nodes.Coalesce) -> Evaluate:
        left, right = self.optional(node.left), self.expression(node.right)

        def choose(frame: Frame) -> Any:
            value = left(frame)
            return right(frame) if value is None or value is MISSING else value

        return choose

    def _condition(self, node: nodes.Condition) -> Evaluate:
        test, then = self.expression(node.test), self.expression(node.then)
        otherwise = self.expression(node.otherwise) if node.otherwise is not None else None

        def choose(frame: Frame) -> Any:
            if test(frame):
                return then(frame)
            if otherwise is None:
                raise MissingMember(
                    'the condition does not hold and there is no "else"', start=node.start, end=node.end
                )
            return otherwise(frame)

        return choose

    def _call(self, node: nodes.Call) -> Evaluate:
        function = self._functions.functions.get(node.name)
        if function is None:
            raise ExpressionError(
                f'unknown function "{node.name}"',
                start=node.start,
                end=node.name_end,
                hint=did_you_mean(node.name, list(self._functions.functions)),
            )
        arguments = [self.expression(argument) for argument in node.arguments]
        named = {name: self.expression(argument) for name, argument in node.named}
        check_arguments(function, len(arguments), [name for name, _ in node.named], node)
        if function.asks:
            return _asking(function, arguments, node)
        return _calling(function, arguments, named, node)

    def _filter(self, node: nodes.Filter) -> Evaluate:
        function = self._functions.filters.get(node.name)
        if function is None:
            raise ExpressionError(
                f'unknown filter "{node.name}"',
                start=node.name_start,
                end=node.name_start + len(node.name),
                hint=did_you_mean(node.name, list(self._functions.filters)),
            )
        of = self.optional(node.of) if node.name == "default" else self.expression(node.of)
        arguments = [self.expression(argument) for argument in node.arguments]
        named = {name: self.expression(argument) for name, argument in node.named}
        check_arguments(function, len(arguments), [name for name, _ in node.named], node)
        return _calling(function, [of, *arguments], named, node)

    def _test(self, node: nodes.Test) -> Evaluate:
        negated = node.negated
        check_test(node)
        if node.name in ("defined", "undefined"):
            maybe, wanted = self.optional(node.of), (node.name == "defined") is not negated
            return lambda frame: (maybe(frame) is not MISSING) is wanted
        of = self.expression(node.of)
        arguments = [self.expression(argument) for argument in node.arguments]
        test = _test_of(node)

        def decide(frame: Frame) -> bool:
            try:
                return test(frame, of(frame), *[argument(frame) for argument in arguments]) is not negated
            except ExpressionError as error:
                raise _at(error, node) from None
            except OverflowError:
                raise _at(ExpressionError("the number is too large"), node) from None

        return decide


def check_test(node: nodes.Test) -> None:
    """Whether a test exists and its arguments fit. Raises ``ExpressionError``."""
    if node.name not in TEST_NAMES:
        raise ExpressionError(
            f'unknown test "{node.name}"',
            start=node.name_start,
            end=node.name_start + len(node.name),
            hint=did_you_mean(node.name, TEST_NAMES),
        )
    count = 1 if node.name in TEST_OPERATORS else TESTS[node.name][1] if node.name in TESTS else 0
    if len(node.arguments) != count:
        raise ExpressionError(
            f'the test "{node.name}" takes {count} argument{"s" if count != 1 else ""}',
            start=node.start,
            end=node.end,
        )


def _test_of(node: nodes.Test) -> Callable[..., bool]:
    operator = TEST_OPERATORS.get(node.name)
    if operator is None:
        test = TESTS[node.name][0]
        return lambda frame, *values: test(*values)
    return lambda frame, value, other: compare(frame, operator, value, other)


def check_arguments(function: Function, count: int, named: list[str], node: Node) -> None:
    """Whether a call's arguments fit. Raises ``ExpressionError``."""
    for name in named:
        if name not in function.named:
            raise ExpressionError(
                f'"{function.name}" has no argument "{name}"',
                start=node.start,
                end=node.end,
                hint=did_you_mean(name, function.named),
            )
        if named.count(name) > 1 or (name in function.order and function.order.index(name) < count):
            raise ExpressionError(
                f'"{function.name}" is given "{name}" twice', start=node.start, end=node.end
            )
    needed = all(
        place < count or (function.order[place : place + 1] and function.order[place] in named)
        for place in range(function.least)
    )
    if not needed or (function.most is not None and count > function.most):
        wanted = str(function.least)
        if function.most is None:
            wanted = f"at least {function.least}"
        elif function.most != function.least:
            wanted = f"{function.least} to {function.most}"
        plural = "" if wanted == "1" else "s"
        raise ExpressionError(
            f'"{function.name}" takes {wanted} argument{plural}, got {count + len(named)}',
            start=node.start,
            end=node.end,
        )


def _calling(
    function: Function, arguments: list[Evaluate], named: Mapping[str, Evaluate], node: Node
) -> Evaluate:
    call, is_metered = function.call, function.is_metered
    price = _A_CALL if is_metered else _A_PLUGINS_CALL

    def run(frame: Frame) -> Any:
        given = [argument(frame) for argument in arguments]
        more = {name: argument(frame) for name, argument in named.items()} if named else {}
        try:
            frame.charge(price)
            if is_metered:
                return call(frame, *given, **more)
            result = call(*given, **more)
            if isinstance(result, int | float):
                finite(result)
        except ExpressionError as error:
            raise _at(error, node) from error.__cause__
        except (NeedsAnswer, RecursionError):
            raise
        except Exception as error:
            # a plugin's function may fail in any way; the expression says so
            raise ExpressionError(
                f'"{function.name}" failed: {type(error).__name__}: {error}', start=node.start, end=node.end
            ) from error
        return result

    return run


def _asking(function: Function, arguments: list[Evaluate], node: Node) -> Evaluate:
    def ask(frame: Frame) -> Any:
        given = [argument(frame) for argument in arguments]
        if not all(isinstance(one, str) for one in given):
            raise ExpressionError(f'"{function.name}" takes text', start=node.start, end=node.end)
        request = Request(function.name, tuple(given))
        if request not in frame.answers:
            raise NeedsAnswer(request)
        return frame.answers[request]

    return ask


def _items(value: Any, targets: tuple[str, ...], place: Node) -> list[Any]:
    """What a loop goes over: values, or as many at a time as it has names."""
    count = len(targets)
    if count == 1:
        if isinstance(value, str | list | tuple | Mapping):
            return list(value)
    elif count == 2 and isinstance(value, Mapping):
        return list(value.items())
    elif isinstance(value, list | tuple):
        if all(isinstance(item, list | tuple) and len(item) == count for item in value):
            return list(value)
        wanted = "a pair" if count == 2 else f"a list of {count}"
        raise _at(ExpressionError(f"each item must be {wanted}"), place)
    raise _at(ExpressionError(f"{kind_of(value)} cannot be looped over"), place)


Assign = Callable[[dict[str, Any], Any], None]


def _assignment(targets: tuple[str, ...]) -> Assign:
    """How a loop's names get their values."""
    if len(targets) == 1:
        name = targets[0]
        return lambda names, item: names.__setitem__(name, item)
    return lambda names, item: names.update(zip(targets, item, strict=True))


def _holds(frame: Frame, assign: Assign, item: Any, condition: Evaluate) -> bool:
    assert isinstance(frame.names, dict)
    assign(frame.names, item)
    return bool(condition(frame))


def _loop(index: int, count: int) -> dict[str, Any]:
    return {
        "index": index + 1,
        "index0": index,
        "revindex": count - index,
        "revindex0": count - index - 1,
        "first": index == 0,
        "last": index == count - 1,
        "length": count,
        # of a loop that calls itself, which ours never do
        "depth": 1,
        "depth0": 0,
    }


def _price_of(parts: tuple[Node, ...]) -> int:
    """What one round costs at least: a step for each thing that is done, and a path is one."""
    return 1 + sum(
        not isinstance(node, nodes.Literal | nodes.Member) for part in parts for node in nodes.walk(part)
    )


def _is_complete(node: Node) -> bool:
    """Whether a condition has an ``else``, and those in it too."""
    while isinstance(node, nodes.Condition):
        if node.otherwise is None or not _is_complete(node.then):
            return False
        node = node.otherwise
    return True


def _key(key: Any, node: nodes.Member) -> Any:
    if isinstance(key, bool | list | dict) or key is None:
        raise ExpressionError(
            f"a key is text or a number, got {kind_of(key)}", start=node.key.start, end=node.key.end
        )
    return key


def _read_if_there(names: Mapping[str, Any], path: tuple[Any, ...]) -> Any:
    value: Any = names
    for key in path:
        if type(value) is dict:
            value = value.get(key, MISSING) if type(key) is str else _member_if_there(value, key, None)
        else:
            value = _member_if_there(value, key, None)
        if value is MISSING:
            break
    return value


def _member_if_there(value: Any, key: Any, node: nodes.Member | None) -> Any:
    if node is not None:
        if value is MISSING:
            return MISSING
        key = _key(key, node)
    if not isinstance(value, _WITH_MEMBERS):
        return MISSING
    try:
        return member(value, key)
    except KeyError:
        return MISSING


_WITH_MEMBERS = (Mapping, list, tuple, str)


def _read_slowly(names: Mapping[str, Any], path: tuple[Any, ...], start: int, end: int) -> Any:
    """A path through anything but plain dictionaries, and the error where it breaks."""
    value: Any = names
    for depth, key in enumerate(path):
        try:
            value = member(value, key)
        except KeyError as error:
            spelled = spell_path(path[: depth + 1])
            before = spell_path(path[:depth]) if depth else None
            raise missing(spelled, before, key, error.args[0], start, end) from None
    return value


def spell_path(path: tuple[Any, ...]) -> str:
    """A path as users write it."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        elif key.isidentifier() or not text:
            text += f".{key}" if text else key
        else:
            text += f"[{jsontext.dumps(key)}]" if "'" in key else f"['{key}']"
    return text


def spell(node: Node) -> str:
    """A short name for what an expression reads."""
    path = nodes.constant_path(node)
    return spell_path(path) if path else "the value"


def _at(error: ExpressionError, node: Node) -> ExpressionError:
    """The error with its place, where it has none yet."""
    if error.end == 0:
        error.start, error.end = node.start, node.end
    return error
