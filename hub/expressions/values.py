"""What expressions do with plain JSON values; nothing here ever looks at a Python attribute of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.errors import ExpressionError, ExpressionLimit, MissingMember
from hub.model import jsontext

LONGEST_TEXT = 8 * 1024 * 1024
LONGEST_LIST = 100_000
_MOST_BITS = 4096
_MOST_WRITTEN_BITS = 14_000
"""Just under what Python writes as digits (4,300 of them)."""


def kind_of(value: Any) -> str:
    """A value's kind in the user's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return "an unknown value"


def to_text(value: Any) -> str:
    """A value inside text: numbers, booleans and null as JSON spells them, lists and mappings as JSON."""
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return "null"
    if isinstance(value, int | float):
        if isinstance(value, int) and value.bit_length() > _MOST_WRITTEN_BITS:
            raise ExpressionLimit("the number is too large")
        return repr(value)
    return str(bounded(jsontext.dumps(value)))


def member(value: Any, key: Any) -> Any:
    """``value[key]``. Raises ``KeyError`` when it is not there, with the reason as its argument."""
    if isinstance(value, Mapping):
        if isinstance(key, str):
            if key in value:
                return value[key]
            raise KeyError((key, value))
        text = to_text(key) if isinstance(key, int | float) else None
        if text is not None and text in value:
            return value[text]
        raise KeyError(None)
    if isinstance(value, list | tuple | str):
        if isinstance(key, int) and not isinstance(key, bool):
            try:
                return value[key]
            except IndexError:
                raise KeyError(f"it has {len(value)} item{'s' if len(value) != 1 else ''}") from None
        raise KeyError(f"it is {kind_of(value)}")
    raise KeyError(f"it is {kind_of(value)}")


def missing(path: str, of: str | None, key: Any, reason: Any, start: int, end: int) -> MissingMember:
    """The error for a member that is not there."""
    near = reason if isinstance(reason, tuple) else None
    hint = reason if isinstance(reason, str) else None
    if of is None:
        return MissingMember(f'there is no "{path}" here', start=start, end=end, hint=hint, near=near)
    shown = f'"{key[:60]}"' if isinstance(key, str) else f"[{key}]"
    if of == "the value":
        return MissingMember(f"the value has no {shown}", start=start, end=end, hint=hint, near=near)
    return MissingMember(
        f'"{path}" is missing: "{of}" has no {shown}', start=start, end=end, hint=hint, near=near
    )


def _numbers(left: Any, right: Any) -> bool:
    return isinstance(left, int | float) and isinstance(right, int | float)


def _refuse(operator: str, left: Any, right: Any) -> ExpressionError:
    hint = None
    if operator == "+" and (isinstance(left, str) or isinstance(right, str)):
        hint = "join texts with ~"
    return ExpressionError(f'"{operator}" cannot take {kind_of(left)} and {kind_of(right)}', hint=hint)


def finite(value: Any) -> Any:
    """The number, if it is one that may be."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise ExpressionError("the result is not a finite number")
    if isinstance(value, complex):
        raise ExpressionError("the result is not a real number")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ExpressionLimit("the number is too large")
    return value


def bounded(value: Any) -> Any:
    """The value, if it is no longer than may be."""
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise ExpressionLimit(f"the text is longer than {LONGEST_TEXT:,} characters")
    elif isinstance(value, list) and len(value) > LONGEST_LIST:
        raise ExpressionLimit(f"the list is longer than {LONGEST_LIST:,} items")
    return value


def add(left: Any, right: Any) -> Any:
    if _numbers(left, right):
        return finite(left + right)
    if isinstance(left, str) and isinstance(right, str):
        return bounded(left + right)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return bounded([*left, *right])
    raise _refuse("+", left, right)


def subtract(left: Any, right: Any) -> Any:
    if _numbers(left, right):
        return finite(left - right)
    raise _refuse("-", left, right)


def multiply(left: Any, right: Any) -> Any:
    if _numbers(left, right):
        return finite(left * right)
    sequence, times = (left, right) if isinstance(right, int) else (right, left)
    if isinstance(sequence, str | list | tuple) and isinstance(times, int):
        if len(sequence) * max(times, 0) > (LONGEST_TEXT if isinstance(sequence, str) else LONGEST_LIST):
            raise ExpressionLimit("the result would be too long")
        if not isinstance(sequence, str):
            # repeated lists would share their items: a few characters would stand for gigabytes
            if any(isinstance(item, list | tuple | Mapping) for item in sequence):
                raise ExpressionError("only a list of single values can be repeated")
            if sum(len(item) for item in sequence if isinstance(item, str)) * max(times, 0) > LONGEST_TEXT:
                raise ExpressionLimit("the result would be too long")
        return sequence * times if isinstance(sequence, str) else list(sequence) * times
    raise _refuse("*", left, right)


def _divide(operator: str, left: Any, right: Any) -> Any:
    if not _numbers(left, right):
        raise _refuse(operator, left, right)
    if right == 0:
        raise ExpressionError("division by zero")
    try:
        if operator == "/":
            return finite(left / right)
        return finite(left // right if operator == "//" else left % right)
    except OverflowError:
        raise ExpressionError("the result is not a finite number") from None


def power(left: Any, right: Any) -> Any:
    if not _numbers(left, right):
        raise _refuse("**", left, right)
    if isinstance(left, int) and isinstance(right, int):
        if right > 0 and abs(left) > 1 and left.bit_length() * right > _MOST_BITS:
            raise ExpressionLimit("the number is too large")
        if right < -_MOST_BITS:
            raise ExpressionLimit("the exponent is too small")
    try:
        return finite(left**right)
    except ZeroDivisionError:
        raise ExpressionError("division by zero") from None
    except OverflowError:
        raise ExpressionError("the result is not a finite number") from None


def concatenate(left: Any, right: Any) -> Any:
    return bounded(to_text(left) + to_text(right))


BINARY = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": lambda left, right: _divide("/", left, right),
    "//": lambda left, right: _divide("//", left, right),
    "%": lambda left, right: _divide("%", left, right),
    "**": power,
    "~": concatenate,
}


def contains(container: Any, wanted: Any) -> bool:
    """``wanted in container``."""
    if isinstance(container, str):
        if not isinstance(wanted, str):
            raise ExpressionError(f"text contains text, not {kind_of(wanted)}")
        return wanted in container
    if isinstance(container, Mapping):
        return isinstance(wanted, str) and wanted in container
    if isinstance(container, list | tuple):
        return wanted in container
    raise ExpressionError(f"{kind_of(container)} contains nothing; expected a list, a mapping or text")


def _ordered(operator: str, left: Any, right: Any) -> None:
    if _numbers(left, right):
        return
    for kind in (str, list | tuple):
        if isinstance(left, kind) and isinstance(right, kind):
            return
    raise ExpressionError(f'"{operator}" cannot compare {kind_of(left)} with {kind_of(right)}')


def compare(operator: str, left: Any, right: Any) -> bool:
    """One comparison."""
    if operator == "==":
        return bool(left == right)
    if operator == "!=":
        return bool(left != right)
    if operator == "in":
        return contains(right, left)
    if operator == "not in":
        return not contains(right, left)
    if operator == "contains":
        return contains(left, right)
    _ordered(operator, left, right)
    try:
        if operator == "<":
            return bool(left < right)
        if operator == "<=":
            return bool(left <= right)
        if operator == ">":
            return bool(left > right)
        return bool(left >= right)
    except TypeError:
        raise ExpressionError(f'"{operator}" cannot compare what the lists hold') from None
