"""What expressions do with plain JSON values; nothing here ever looks at a Python attribute of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hub.errors import ExpressionError, ExpressionLimit, MissingMember

if TYPE_CHECKING:
    from hub.expressions.frame import Frame

LONGEST_TEXT = 8 * 1024 * 1024
LONGEST_LIST = 100_000
_MOST_BITS = 4096
_FREE_BITS = 256
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


def number_text(value: int | float) -> str:
    """A number as JSON spells it."""
    if isinstance(value, int) and value.bit_length() > _MOST_WRITTEN_BITS:
        raise ExpressionLimit("the number is too large")
    return repr(value)


def member(value: Any, key: Any) -> Any:
    """``value[key]``. Raises ``KeyError`` when it is not there, with the reason as its argument."""
    if isinstance(value, Mapping):
        if isinstance(key, str):
            if key in value:
                return value[key]
            raise KeyError((key, value))
        text = number_text(key) if isinstance(key, int | float) else None
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


def too_long() -> ExpressionLimit:
    return ExpressionLimit(f"the text is longer than {LONGEST_TEXT:,} characters")


def bounded_text(length: int) -> None:
    """Raises ``ExpressionLimit`` for a text that would be longer than may be."""
    if length > LONGEST_TEXT:
        raise too_long()


def bounded_list(length: int) -> None:
    """Raises ``ExpressionLimit`` for a list that would be longer than may be."""
    if length > LONGEST_LIST:
        raise ExpressionLimit(f"the list is longer than {LONGEST_LIST:,} items")


def _add(frame: Frame, left: Any, right: Any) -> Any:
    if _numbers(left, right):
        return finite(left + right)
    if isinstance(left, str) and isinstance(right, str):
        bounded_text(len(left) + len(right))
        frame.charge((len(left) + len(right)) // 700)
        return left + right
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        bounded_list(len(left) + len(right))
        frame.charge((len(left) + len(right)) // 30)
        return frame.made([*left, *right])
    raise _refuse("+", left, right)


def _subtract(frame: Frame, left: Any, right: Any) -> Any:
    if _numbers(left, right):
        return finite(left - right)
    raise _refuse("-", left, right)


def _multiply(frame: Frame, left: Any, right: Any) -> Any:
    if _numbers(left, right):
        return _priced(frame, finite(left * right))
    sequence, times = (left, right) if isinstance(right, int) else (right, left)
    if isinstance(sequence, str | list | tuple) and isinstance(times, int):
        return _repeat(frame, sequence, max(times, 0))
    raise _refuse("*", left, right)


def _repeat(frame: Frame, sequence: Any, times: int) -> Any:
    is_text = isinstance(sequence, str)
    if len(sequence) * times > (LONGEST_TEXT if is_text else LONGEST_LIST):
        raise ExpressionLimit("the result would be too long")
    if is_text:
        frame.charge(len(sequence) * times // 1000)
        return sequence * times
    # repeated lists would share their items: a few characters would stand for gigabytes
    frame.charge(len(sequence) // 2)
    if any(isinstance(item, list | tuple | Mapping) for item in sequence):
        raise ExpressionError("only a list of single values can be repeated")
    if sum(len(item) for item in sequence if isinstance(item, str)) * times > LONGEST_TEXT:
        raise ExpressionLimit("the result would be too long")
    frame.charge(len(sequence) * times // 200)
    return list(sequence) * times


def _priced(frame: Frame, value: Any) -> Any:
    """A number that may have taken a while to make."""
    if isinstance(value, int) and value.bit_length() > _FREE_BITS:
        frame.charge(value.bit_length() // 100)
    return value


def _divide(operator: str) -> Callable[[Frame, Any, Any], Any]:
    def divide(frame: Frame, left: Any, right: Any) -> Any:
        if not _numbers(left, right):
            raise _refuse(operator, left, right)
        if right == 0:
            raise ExpressionError("division by zero")
        if operator == "/":
            return finite(left / right)
        return _priced(frame, finite(left // right if operator == "//" else left % right))

    return divide


def _power(frame: Frame, left: Any, right: Any) -> Any:
    if not _numbers(left, right):
        raise _refuse("**", left, right)
    if isinstance(left, int) and isinstance(right, int):
        if right > 0 and abs(left) > 1 and left.bit_length() * right > _MOST_BITS:
            raise ExpressionLimit("the number is too large")
        if right < -_MOST_BITS:
            raise ExpressionLimit("the exponent is too small")
    try:
        return _priced(frame, finite(left**right))
    except ZeroDivisionError:
        raise ExpressionError("division by zero") from None


def _concatenate(frame: Frame, left: Any, right: Any) -> Any:
    one, other = frame.text(left), frame.text(right)
    bounded_text(len(one) + len(other))
    frame.charge((len(one) + len(other)) // 700)
    return one + other


BINARY: Mapping[str, Callable[[Frame, Any, Any], Any]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide("/"),
    "//": _divide("//"),
    "%": _divide("%"),
    "**": _power,
    "~": _concatenate,
}


def contains(frame: Frame, container: Any, wanted: Any) -> bool:
    """``wanted in container``."""
    if isinstance(container, str):
        if not isinstance(wanted, str):
            raise ExpressionError(f"text contains text, not {kind_of(wanted)}")
        frame.charge(len(container) // (8000 if len(wanted) < 2 else 50))
        return wanted in container
    if isinstance(container, Mapping):
        return isinstance(wanted, str) and wanted in container
    if isinstance(container, list | tuple):
        return frame.holds(container, wanted)
    raise ExpressionError(f"{kind_of(container)} contains nothing; expected a list, a mapping or text")


def compare(frame: Frame, operator: str, left: Any, right: Any) -> bool:
    """One comparison."""
    if operator == "==":
        return frame.equal(left, right)
    if operator == "!=":
        return not frame.equal(left, right)
    if operator == "in":
        return contains(frame, right, left)
    if operator == "not in":
        return not contains(frame, right, left)
    if operator == "contains":
        return contains(frame, left, right)
    return _ordered(frame, operator, left, right)


_ORDERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def _ordered(frame: Frame, operator: str, left: Any, right: Any) -> bool:
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        left, right = frame.to_order(left, right)
        refused = f'"{operator}" cannot compare what the lists hold'
    elif _numbers(left, right):
        refused = ""
    elif isinstance(left, str) and isinstance(right, str):
        frame.charge(min(len(left), len(right)) // 2000)
        refused = ""
    else:
        raise ExpressionError(f'"{operator}" cannot compare {kind_of(left)} with {kind_of(right)}')
    try:
        return bool(_ORDERS[operator](left, right))
    except TypeError:
        raise ExpressionError(refused) from None
