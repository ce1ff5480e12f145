"""The functions, filters and tests of expressions: an allow-list, each over plain JSON values."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from hub.clock import iso
from hub.errors import ExpressionError, ExpressionLimit, MissingMember
from hub.expressions.shapes import ANY, NUMBER, TEXT, ListShape, Shape
from hub.expressions.values import LONGEST_TEXT, bounded, kind_of, to_text
from hub.model import jsontext


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


@dataclass(frozen=True, slots=True)
class Request:
    """What an expression asks of the caller."""

    function: str
    arguments: tuple[str, ...]


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

    def now_text(timezone: Any = None) -> str:
        moment = now()
        if timezone is None:
            return iso(moment)
        zone = _zone(_text(timezone, "now's timezone"))
        return moment.astimezone(zone).isoformat(timespec="milliseconds")

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
            ),
            "secret": Function("secret", _never, 1, 1, gives=TEXT, asks=True, summary="A secret's value."),
            "fromJson": Function("fromJson", from_json, 1, 1, summary="The value of a JSON text."),
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
_MOST_READ = 16 * 1024 * 1024
"""Characters that one filter may read, all its passes together."""


def from_json(value: Any) -> Any:
    """The value of a JSON text; anything else is a value already."""
    if not isinstance(value, str):
        raise ExpressionError(f"fromJson takes text, got {kind_of(value)}")
    try:
        return jsontext.loads_bounded(value)
    except ValueError as error:
        raise ExpressionError(f"the text is not JSON: {str(error).split(':')[0]}") from error


def _to_json(value: Any) -> str:
    return str(bounded(jsontext.dumps(value)))


def _length(value: Any) -> int:
    if isinstance(value, str | list | tuple | Mapping):
        return len(value)
    raise ExpressionError(f"{kind_of(value)} has no length")


def _first(value: Any) -> Any:
    return _end(value, 0, "first")


def _last(value: Any) -> Any:
    return _end(value, -1, "last")


def _end(value: Any, index: int, name: str) -> Any:
    if not isinstance(value, str | list | tuple):
        raise ExpressionError(f"{kind_of(value)} has no {name} item")
    if not value:
        raise MissingMember(
            f"there is no {name} item: {'the text' if isinstance(value, str) else 'the list'} is empty"
        )
    return value[index]


def _join(value: Any, separator: Any = "") -> str:
    if isinstance(value, str):
        value = list(value)
    if not isinstance(value, list | tuple):
        raise ExpressionError(f"join takes a list, got {kind_of(value)}")
    texts = [to_text(item) for item in value]
    between = _text(separator, "join's separator")
    if sum(map(len, texts)) + len(between) * len(texts) > LONGEST_TEXT:
        raise ExpressionLimit(f"the text is longer than {LONGEST_TEXT:,} characters")
    return between.join(texts)


def _split(value: Any, separator: Any = None, limit: Any = None) -> list[str]:
    if separator is not None and not _text(separator, "split's separator"):
        raise ExpressionError("split's separator is empty")
    most = -1 if limit is None else _whole(limit, "split's limit") - 1
    result = _text(value, "split").split(separator, most)
    bounded(result)
    return result


def _lower(value: Any) -> str:
    return _text(value, "lower").lower()


def _upper(value: Any) -> str:
    return _text(value, "upper").upper()


def _trim(value: Any, characters: Any = None) -> str:
    if characters is None:
        return _text(value, "trim").strip()
    unwanted = _text(characters, "trim")
    if len(unwanted) > _MOST_TRIMMED:
        raise ExpressionLimit(f"trim takes at most {_MOST_TRIMMED} characters to trim")
    return _text(value, "trim").strip(unwanted)


def _replace(value: Any, old: Any, new: Any = None, count: Any = None) -> str:
    text = _text(value, "replace")
    if isinstance(old, Mapping) and new is None:
        if len(old) * len(text) > _MOST_READ:
            raise ExpressionLimit("the text is too long for so many replacements")
        for one, other in old.items():
            text = _replace(text, one, other)
        return text
    before, after = _text(old, "replace"), _text(new, "replace")
    most = -1 if count is None else _whole(count, "replace's count")
    found = text.count(before) if most < 0 else min(text.count(before), most)
    if len(text) + found * max(len(after) - len(before), 0) > LONGEST_TEXT:
        raise ExpressionLimit(f"the text is longer than {LONGEST_TEXT:,} characters")
    return text.replace(before, after, most)


def _keys(value: Any) -> list[Any]:
    if not isinstance(value, Mapping):
        raise ExpressionError(f"keys takes a mapping, got {kind_of(value)}")
    return list(value)


def _values(value: Any) -> list[Any]:
    if not isinstance(value, Mapping):
        raise ExpressionError(f"values takes a mapping, got {kind_of(value)}")
    return list(value.values())


def _abs(value: Any) -> Any:
    return abs(_number(value, "abs"))


def _round(value: Any, precision: Any = 0, method: Any = "common") -> Any:
    number, places = _number(value, "round"), _whole(precision, "round's precision")
    if method not in ("common", "ceil", "floor"):
        raise ExpressionError(f'round goes "common", "ceil" or "floor", got "{to_text(method)[:40]}"')
    if abs(places) > 30:
        raise ExpressionError(f"round's precision is between -30 and 30, got {places}")
    if method == "common":
        return round(number, places)
    rounded = (math.ceil if method == "ceil" else math.floor)(number * 10.0**places)
    return rounded / 10.0**places


def _date(value: Any, format: Any = "yyyy-MM-dd'T'HH:mm:ss.SSSXXX", timezone: Any = None) -> str:
    moment = moment_of(value)
    if timezone is not None:
        zone = _zone(_text(timezone, "date's timezone"))
        try:
            moment = moment.astimezone(zone)
        except (OverflowError, ValueError):
            raise ExpressionError("the date is outside of the calendar") from None
    return format_moment(moment, _text(format, "date's format"))


def _default(value: Any, other: Any = "", empty_too: Any = False) -> Any:
    if value is None or (empty_too and not value):
        return other
    return value


def _text(value: Any, who: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return to_text(value)
    raise ExpressionError(f"{who} takes text, got {kind_of(value)}")


def _number(value: Any, who: str) -> Any:
    if isinstance(value, int | float):
        return value
    raise ExpressionError(f"{who} takes a number, got {kind_of(value)}")


def _whole(value: Any, who: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ExpressionError(f"{who} is a whole number, got {kind_of(value)}")


# -- dates


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(name: str) -> ZoneInfo:
    # asked by name among the known ones: the library would look for any name on the disk
    if name in _zones():
        return ZoneInfo(name)
    raise ExpressionError(f'unknown time zone "{name[:60]}"', hint="use an IANA name such as Europe/Paris")


def moment_of(value: Any) -> datetime:
    """The moment that ISO 8601 text or a number of seconds since 1970 spells; UTC where no zone is said."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ExpressionError(f"expected a date as ISO 8601 text or seconds since 1970, got {kind_of(value)}")
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        moment = datetime.fromisoformat(value.strip())
    except (ValueError, OverflowError, OSError):
        shown = value[:40] if isinstance(value, str) else value
        raise ExpressionError(
            f'"{shown}" is not a date; expected ISO 8601 such as 2026-01-31T12:00:00Z'
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def format_moment(moment: datetime, pattern: str) -> str:
    """A moment by a pattern of java.time.format.DateTimeFormatter's letters, as Kestra users know them."""
    if len(pattern) > 200:
        raise ExpressionError("the date format is longer than 200 characters")
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        letter = pattern[position]
        if letter == "'":
            end = pattern.find("'", position + 1)
            if end < 0:
                raise ExpressionError("the date format has an open quote")
            parts.append(pattern[position + 1 : end] or "'")
            position = end + 1
            continue
        end = position
        while end < len(pattern) and pattern[end] == letter:
            end += 1
        parts.append(
            _date_part(moment, letter, end - position) if letter.isalpha() else pattern[position:end]
        )
        position = end
    return "".join(parts)


def _date_part(moment: datetime, letter: str, count: int) -> str:
    numbers = {
        "y": moment.year,
        "u": moment.year,
        "d": moment.day,
        "H": moment.hour,
        "h": moment.hour % 12 or 12,
        "k": moment.hour or 24,
        "m": moment.minute,
        "s": moment.second,
        "D": moment.timetuple().tm_yday,
        "w": moment.isocalendar().week,
        "Y": moment.isocalendar().year,
        "Q": (moment.month - 1) // 3 + 1,
    }
    if letter in "yuY" and count == 2:
        return f"{numbers[letter] % 100:02d}"
    if letter in numbers:
        return str(numbers[letter]).rjust(count, "0")
    if letter in "ML":
        if count >= 3:
            return moment.strftime("%b" if count == 3 else "%B")
        return str(moment.month).rjust(count, "0")
    if letter in "Ee":
        return moment.strftime("%a" if count <= 3 else "%A")
    if letter == "a":
        return "AM" if moment.hour < 12 else "PM"
    if letter in "SA":
        return f"{moment.microsecond:06d}".ljust(count, "0")[:count]
    if letter in "XxZ":
        return _offset(moment, letter, count)
    if letter in "zV":
        return moment.tzname() or "UTC"
    raise ExpressionError(
        f'unknown letter "{letter}" in the date format', hint=f"quote text: '{letter * count}'"
    )


def _offset(moment: datetime, letter: str, count: int) -> str:
    offset = moment.utcoffset() or timedelta()
    if letter == "X" and not offset:
        return "Z"
    minutes = int(offset.total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    if letter in "Xx" and count == 1 and not rest:
        return f"{sign}{hours:02d}"
    colon = ":" if letter in "Xx" and count >= 3 else ""
    return f"{sign}{hours:02d}{colon}{rest:02d}"


def _filter(
    name: str,
    call: Callable[..., Any],
    least: int = 0,
    most: int = 0,
    named: tuple[str, ...] = (),
    gives: Shape = ANY,
    summary: str = "",
    order: tuple[str, ...] = (),
) -> tuple[str, Function]:
    return name, Function(name, call, least, most, named, gives, order or named, summary=summary)


FILTERS: Mapping[str, Function] = dict(
    [
        _filter("default", _default, 0, 2, (), ANY, "The value, or another where it is missing or null."),
        _filter("toJson", _to_json, gives=TEXT, summary="The value as JSON text."),
        _filter("fromJson", from_json, summary="The value of a JSON text."),
        _filter("length", _length, gives=NUMBER, summary="How many items or characters it has."),
        _filter("first", _first, summary="The first item."),
        _filter("last", _last, summary="The last item."),
        _filter("join", _join, 0, 1, (), TEXT, "The items as one text."),
        _filter(
            "split",
            _split,
            0,
            2,
            ("limit",),
            ListShape(TEXT),
            "The text cut at a separator.",
            ("separator", "limit"),
        ),
        _filter("lower", _lower, gives=TEXT, summary="In lower case."),
        _filter("upper", _upper, gives=TEXT, summary="In upper case."),
        _filter("trim", _trim, 0, 1, (), TEXT, "Without blanks around it."),
        _filter(
            "replace",
            _replace,
            1,
            3,
            ("count",),
            TEXT,
            "One text in place of another.",
            ("old", "new", "count"),
        ),
        _filter("date", _date, 0, 2, ("format", "timezone"), TEXT, "A date by a pattern, `yyyy-MM-dd`."),
        _filter("keys", _keys, gives=ListShape(TEXT), summary="A mapping's keys."),
        _filter("values", _values, gives=ListShape(ANY), summary="A mapping's values."),
        _filter("abs", _abs, gives=NUMBER, summary="Without its sign."),
        _filter("round", _round, 0, 2, ("precision", "method"), NUMBER, "To a number of places."),
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
