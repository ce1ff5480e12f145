"""The functions, filters and tests of expressions: an allow-list, each over plain JSON values.

A built-in one is given the evaluation it works for and pays for its work before it does it.
"""

from __future__ import annotations

# hints look for near names: loaded here, so that no evaluation imports it
import difflib  # noqa: F401
import html
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hub.clock import iso
from hub.errors import ExpressionError, ExpressionLimit, MissingMember
from hub.expressions.dates import format_moment, in_zone, load_zones, moment_of
from hub.expressions.frame import Frame, Request
from hub.expressions.shapes import ANY, BOOLEAN, NUMBER, TEXT, ListShape, ObjectShape, Shape
from hub.expressions.values import bounded_list, bounded_text, finite, kind_of, member, number_text
from hub.model import jsontext

MISSING = object()
"""What ``default`` is given for a value that is not there."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function or filter: how many arguments it takes, and what it gives.

    A filter's first argument is what stands before the ``|``; ``least`` and ``most`` do not count it.
    """

    name: str
    call: Callable[..., Any]
    least: int = 0
    most: int | None = 0
    named: tuple[str, ...] = ()
    """The arguments that may be given by name."""
    gives: Shape = ANY
    order: tuple[str, ...] = ()
    """The names of the arguments by place, where any may be given by name."""
    asks: bool = False
    """Its answer comes from outside: evaluation stops, the caller finds it and evaluates again."""
    summary: str = ""
    is_metered: bool = False
    """It is given the evaluation first, and charges what it costs; a plugin's has a fixed price."""
    takes: tuple[type[Shape] | Shape, ...] = ()
    """What a filter's value may be, where it cannot be anything."""


class NeedsAnswer(Exception):
    """Evaluation needs the answer to ``request``; find it and evaluate again."""

    def __init__(self, request: Request) -> None:
        super().__init__(request.function)
        self.request = request


@dataclass(frozen=True, eq=False)
class FunctionTable:
    """What expressions may call. Tables are compared by identity, so that templates can be cached by theirs."""

    functions: Mapping[str, Function]
    filters: Mapping[str, Function] = field(default_factory=lambda: FILTERS)

    def with_functions(self, more: Mapping[str, Callable[..., object]]) -> FunctionTable:
        """This table and plugins' functions; a built-in name is never replaced."""
        added = {name: _of_plugin(name, call) for name, call in more.items() if name not in self.functions}
        return FunctionTable({**self.functions, **added}, self.filters) if added else self


def builtin_functions(now: Callable[[], datetime]) -> FunctionTable:
    """The built-in functions over a clock."""
    # now, not at the first use: no evaluation opens a file
    load_zones()

    def now_text(frame: Frame, timezone: Any = None) -> str:
        frame.charge(20 if timezone is None else 30)
        moment = now()
        if timezone is None:
            return iso(moment)
        return in_zone(moment, _text(timezone, "now's timezone")).isoformat(timespec="milliseconds")

    return FunctionTable(
        {
            "now": Function(
                "now",
                now_text,
                0,
                1,
                ("timezone",),
                TEXT,
                ("timezone",),
                summary="The present moment as ISO 8601 text.",
                is_metered=True,
            ),
            "secret": Function("secret", _never, 1, 1, gives=TEXT, asks=True, summary="A secret's value."),
            "fromJson": Function(
                "fromJson", from_json, 1, 1, summary="The value of a JSON text.", is_metered=True
            ),
        }
    )


def _never(*_: object) -> object:
    raise AssertionError("an asking function is answered by the caller")


def _of_plugin(name: str, call: Callable[..., object]) -> Function:
    least, most, named = 0, None, []
    order: list[str] = []
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    else:
        most = 0
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                most = None if most is None else most + 1
                least += parameter.default is parameter.empty
                order.append(parameter.name)
            elif parameter.kind is parameter.VAR_POSITIONAL:
                most = None
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                named.append(parameter.name)

    def plain(*arguments: Any, **named: Any) -> Any:
        # whatever a plugin returns, expressions go on with plain data
        return jsontext.loads(jsontext.dump_bytes(call(*arguments, **named)))

    return Function(
        name,
        plain,
        least,
        most,
        tuple(named),
        order=tuple(order),
        summary=(inspect.getdoc(call) or "").split("\n")[0],
    )


# -- filters

_MOST_TRIMMED = 100
_NEAR_AN_END = 256


def from_json(frame: Frame, value: Any) -> Any:
    """The value of a JSON text; anything else is a value already."""
    if not isinstance(value, str):
        raise ExpressionError(f"fromJson takes text, got {kind_of(value)}")
    frame.charge(30 + len(value) // (40 if value.isascii() else 20))
    # each of these signs makes the parser make something
    frame.charge(3 * value.count("[") + 2 * value.count("{") + 2 * value.count(":") + value.count(",") // 4)
    try:
        return jsontext.loads_bounded(value)
    except ValueError as error:
        raise ExpressionError(f"the text is not JSON: {str(error).split(':')[0]}") from error


def _to_json(frame: Frame, value: Any) -> str:
    return frame.json(value)


def _length(frame: Frame, value: Any) -> int:
    if isinstance(value, str | list | tuple | Mapping):
        return len(value)
    raise ExpressionError(f"{kind_of(value)} has no length")


def _first(frame: Frame, value: Any) -> Any:
    return _end(value, 0, "first")


def _last(frame: Frame, value: Any) -> Any:
    return _end(value, -1, "last")


def _end(value: Any, index: int, name: str) -> Any:
    if not isinstance(value, str | list | tuple):
        raise ExpressionError(f"{kind_of(value)} has no {name} item")
    if not value:
        raise MissingMember(
            f"there is no {name} item: {'the text' if isinstance(value, str) else 'the list'} is empty"
        )
    return value[index]


def _join(frame: Frame, value: Any, d: Any = "", attribute: Any = None) -> str:
    if not isinstance(value, str | list | tuple | Mapping):
        raise ExpressionError(f"join takes a list, got {kind_of(value)}")
    between = _text(d, "join's separator")
    if attribute is not None:
        value = _each(frame, value, attribute)
    frame.charge(len(value) // 6)
    texts: list[str] = list(value)
    if not isinstance(value, str | Mapping) and set(map(type, texts)) != {str}:
        frame.charge(3 * len(value) // 2)
        texts = [frame.text(item) for item in value]
    length = sum(map(len, texts)) + len(between) * max(len(texts) - 1, 0)
    bounded_text(length)
    frame.charge(length // 2000)
    return between.join(texts)


def _each(frame: Frame, value: Any, attribute: Any) -> list[Any]:
    """One member of each item, named with dots: ``author.name``."""
    path = _text(attribute, "join's attribute").split(".")
    frame.charge(2 * len(value) * len(path))
    found = []
    for item in value:
        one = item
        for name in path:
            try:
                one = member(one, int(name) if name.isdecimal() and not isinstance(one, Mapping) else name)
            except KeyError:
                raise MissingMember(f'an item of the list has no "{attribute}"') from None
        found.append(one)
    return found


def _split(frame: Frame, value: Any, separator: Any = None, limit: Any = None) -> list[str]:
    text = _text(value, "split")
    if separator is not None and not _text(separator, "split's separator"):
        raise ExpressionError("split's separator is empty")
    most = -1 if limit is None else _whole(limit, "split's limit") - 1
    frame.charge(len(text) // 30)
    if separator is not None:
        parts = text.count(separator) + 1
        bounded_list(parts if most < 0 else min(parts, most + 1))
        frame.charge(parts // 8)
    result = text.split(separator, most)
    bounded_list(len(result))
    return result


def _lower(frame: Frame, value: Any) -> str:
    text = _text(value, "lower")
    frame.charge(_price_of_case(text))
    return text.lower()


def _upper(frame: Frame, value: Any) -> str:
    text = _text(value, "upper")
    frame.charge(_price_of_case(text))
    return text.upper()


def _price_of_case(text: str) -> int:
    # beyond ASCII each character is looked up, and one may become three
    return len(text) // 150 if text.isascii() else len(text) // 5


def _escape(frame: Frame, value: Any) -> str:
    text = _text(value, "escape")
    # the longest name of one character has six
    bounded_text(len(text) + 5 * sum(map(text.count, "&<>\"'")))
    frame.charge(len(text) // 50)
    return html.escape(text)


def _trim(frame: Frame, value: Any, chars: Any = None) -> str:
    text = _text(value, "trim")
    if chars is None:
        frame.charge(len(text) // 200)
        return text.strip()
    unwanted = _text(chars, "trim")
    if len(unwanted) > _MOST_TRIMMED:
        raise ExpressionLimit(f"trim takes at most {_MOST_TRIMMED} characters to trim")
    ends = text[:_NEAR_AN_END].lstrip(unwanted), text[-_NEAR_AN_END:].rstrip(unwanted)
    frame.charge(20 if all(ends) else len(text) // 5)
    return text.strip(unwanted)


def _replace(frame: Frame, value: Any, old: Any, new: Any = None, count: Any = None) -> str:
    text = _text(value, "replace")
    if isinstance(old, Mapping) and new is None:
        for one, other in old.items():
            text = _replace(frame, text, one, other)
        return text
    before, after = _text(old, "replace"), _text(new, "replace")
    most = -1 if count is None else _whole(count, "replace's count")
    frame.charge(2 + len(text) // (200 if len(before) < 2 else 50))
    found = text.count(before) if most < 0 else min(text.count(before), most)
    length = len(text) + found * (len(after) - len(before))
    bounded_text(length)
    frame.charge(found // (10 if len(before) != 1 or len(after) != 1 else 100) + length // 2000)
    return text.replace(before, after, most)


def _keys(frame: Frame, value: Any) -> list[Any]:
    if not isinstance(value, Mapping):
        raise ExpressionError(f"keys takes a mapping, got {kind_of(value)}")
    frame.charge(len(value) // 10)
    return list(value)


def _values(frame: Frame, value: Any) -> list[Any]:
    if not isinstance(value, Mapping):
        raise ExpressionError(f"values takes a mapping, got {kind_of(value)}")
    frame.charge(len(value) // 10)
    made: list[Any] = frame.made(list(value.values()))
    return made


def _abs(frame: Frame, value: Any) -> Any:
    return abs(_number(value, "abs"))


def _round(frame: Frame, value: Any, precision: Any = 0, method: Any = "common") -> Any:
    number, places = _number(value, "round"), _whole(precision, "round's precision")
    if method not in ("common", "ceil", "floor"):
        shown = frame.text(method)[:40]
        raise ExpressionError(f'round goes "common", "ceil" or "floor", got "{shown}"')
    if abs(places) > 30:
        raise ExpressionError(f"round's precision is between -30 and 30, got {places}")
    try:
        if method == "common":
            return finite(round(number, places))
        rounded = (math.ceil if method == "ceil" else math.floor)(number * 10.0**places)
        return finite(rounded / 10.0**places)
    except OverflowError:
        raise ExpressionError("the result is not a finite number") from None


def _date(
    frame: Frame, value: Any, format: Any = "yyyy-MM-dd'T'HH:mm:ss.SSSXXX", timezone: Any = None
) -> str:
    pattern = _text(format, "date's format")
    frame.charge(15 + len(pattern))
    moment = moment_of(value)
    if timezone is not None:
        moment = in_zone(moment, _text(timezone, "date's timezone"))
    return format_moment(moment, pattern)


def _default(frame: Frame, value: Any, default_value: Any = "", boolean: Any = False) -> Any:
    if value is MISSING or (boolean and not value):
        return default_value
    return value


def _text(value: Any, who: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    raise ExpressionError(f"{who} takes text, got {kind_of(value)}")


def _number(value: Any, who: str) -> Any:
    if isinstance(value, int | float):
        return value
    raise ExpressionError(f"{who} takes a number, got {kind_of(value)}")


def _whole(value: Any, who: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ExpressionError(f"{who} is a whole number, got {kind_of(value)}")


def _filter(
    name: str,
    call: Callable[..., Any],
    summary: str,
    *arguments: str,
    least: int = 0,
    gives: Shape = ANY,
    takes: tuple[type[Shape] | Shape, ...] = (),
) -> tuple[str, Function]:
    made = Function(
        name,
        call,
        least,
        len(arguments),
        arguments,
        gives,
        arguments,
        summary=summary,
        is_metered=True,
        takes=takes,
    )
    return name, made


_SPELLED = (TEXT, NUMBER, BOOLEAN)
_SOME = (TEXT, ListShape, ObjectShape)
FILTERS: Mapping[str, Function] = dict(
    [
        _filter(
            "default", _default, "The value, or another where it is missing.", "default_value", "boolean"
        ),
        _filter("toJson", _to_json, "The value as JSON text.", gives=TEXT),
        _filter("fromJson", from_json, "The value of a JSON text.", takes=(TEXT,)),
        _filter("length", _length, "How many items or characters it has.", gives=NUMBER, takes=_SOME),
        _filter("first", _first, "The first item.", takes=(TEXT, ListShape)),
        _filter("last", _last, "The last item.", takes=(TEXT, ListShape)),
        _filter("join", _join, "The items as one text.", "d", "attribute", gives=TEXT, takes=_SOME),
        _filter(
            "split",
            _split,
            "The text cut at a separator.",
            "separator",
            "limit",
            gives=ListShape(TEXT),
            takes=_SPELLED,
        ),
        _filter("lower", _lower, "In lower case.", gives=TEXT, takes=_SPELLED),
        _filter("upper", _upper, "In upper case.", gives=TEXT, takes=_SPELLED),
        _filter(
            "escape", _escape, "As HTML writes it, so that none of it is markup.", gives=TEXT, takes=_SPELLED
        ),
        _filter("trim", _trim, "Without blanks around it.", "chars", gives=TEXT, takes=_SPELLED),
        _filter(
            "replace",
            _replace,
            "One text in place of another.",
            "old",
            "new",
            "count",
            least=1,
            gives=TEXT,
            takes=_SPELLED,
        ),
        _filter(
            "date",
            _date,
            "A date by a pattern, `yyyy-MM-dd`.",
            "format",
            "timezone",
            gives=TEXT,
            takes=(TEXT, NUMBER),
        ),
        _filter("keys", _keys, "A mapping's keys.", gives=ListShape(TEXT), takes=(ObjectShape,)),
        _filter("values", _values, "A mapping's values.", gives=ListShape(ANY), takes=(ObjectShape,)),
        _filter("abs", _abs, "Without its sign.", gives=NUMBER, takes=(NUMBER, BOOLEAN)),
        _filter(
            "round",
            _round,
            "To a number of places.",
            "precision",
            "method",
            gives=NUMBER,
            takes=(NUMBER, BOOLEAN),
        ),
    ]
)


# -- tests


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | tuple | Mapping) and not value)


def _divisible(value: Any, by: Any) -> bool:
    number = _number(by, "divisibleby")
    if number == 0:
        raise ExpressionError("division by zero")
    return bool(_number(value, "divisibleby") % number == 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


TESTS: Mapping[str, tuple[Callable[..., bool], int]] = {
    "none": (lambda value: value is None, 0),
    "null": (lambda value: value is None, 0),
    "empty": (_is_empty, 0),
    "string": (lambda value: isinstance(value, str), 0),
    "number": (_is_number, 0),
    "integer": (lambda value: isinstance(value, int) and not isinstance(value, bool), 0),
    "float": (lambda value: isinstance(value, float), 0),
    "boolean": (lambda value: isinstance(value, bool), 0),
    "true": (lambda value: value is True, 0),
    "false": (lambda value: value is False, 0),
    "mapping": (lambda value: isinstance(value, Mapping), 0),
    "sequence": (lambda value: isinstance(value, str | list | tuple | Mapping), 0),
    "iterable": (lambda value: isinstance(value, str | list | tuple | Mapping), 0),
    "odd": (lambda value: _number(value, "odd") % 2 == 1, 0),
    "even": (lambda value: _number(value, "even") % 2 == 0, 0),
    "divisibleby": (_divisible, 1),
    "lower": (lambda value: isinstance(value, str) and value.islower(), 0),
    "upper": (lambda value: isinstance(value, str) and value.isupper(), 0),
}
"""By name: the test and how many arguments it takes. ``defined`` and ``undefined`` are the compiler's."""

TEST_OPERATORS = {
    "eq": "==", "equalto": "==", "ne": "!=", "lt": "<", "lessthan": "<", "le": "<=",
    "gt": ">", "greaterthan": ">", "ge": ">=", "in": "in",
}  # fmt: skip
TEST_NAMES = ("defined", "undefined", *TESTS, *TEST_OPERATORS)
