"""Inputs and outputs: what was given or made, checked and converted to the types a flow declares."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from hub.errors import InvalidInput, did_you_mean
from hub.model import jsontext
from hub.model.durations import format_duration, parse_duration
from hub.model.flow import InputDeclaration, InputType

# Python reads more: 1_000, other scripts' digits, 2026-W01-1, 20260101
_INTEGER = re.compile(r"\s*[-+]?[0-9]+\s*\Z")
_DECIMAL = re.compile(r"\s*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*\Z")
_CALENDAR_DAY = re.compile(r"\s*[0-9]{4}-[0-9]{2}-[0-9]{2}\s*\Z")


def resolve_inputs(declarations: Sequence[InputDeclaration], given: Mapping[str, Any]) -> dict[str, Any]:
    """Every input's value by its type; those that are optional and not given are absent.

    Raises ``InvalidInput`` naming every input that is unknown, missing or of another type.
    """
    problems: list[str] = []
    known = [declaration.id for declaration in declarations]
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            problems.append(f'unknown input "{name}"' + (f" ({hint})" if hint else ""))
    values: dict[str, Any] = {}
    for declaration in declarations:
        value = given.get(declaration.id)
        if value is None:
            value = declaration.defaults
        if value is None:
            if declaration.required:
                problems.append(f'input "{declaration.id}" is required ({declaration.type.value})')
            continue
        try:
            values[declaration.id] = convert(declaration.type, value, declaration.values)
        except ValueError as error:
            problems.append(f'input "{declaration.id}": {error}')
    if problems:
        raise InvalidInput("; ".join(problems))
    return values


def output_value(type: InputType, value: Any) -> Any:
    """What a flow gives, as the type that it declares; null is null in each, and JSON is whatever it is.

    Raises ``InvalidInput`` with what was expected.
    """
    if value is None or type is InputType.JSON:
        return value
    try:
        return convert(type, value)
    except ValueError as error:
        raise InvalidInput(f"{error} (its type is {type.value})") from None


def convert(type: InputType, value: Any, choices: Sequence[str] = ()) -> Any:
    """``value`` as plain data of an input type. Raises ``ValueError`` with what was expected."""
    match type:
        case InputType.STRING:
            return value if isinstance(value, str) else _scalar_text(value)
        case InputType.INT:
            return _whole(value)
        case InputType.FLOAT:
            return _number(value)
        case InputType.BOOLEAN:
            return _boolean(value)
        case InputType.DATE:
            return _date(value)
        case InputType.DATETIME:
            return _moment(value)
        case InputType.DURATION:
            if not isinstance(value, str):
                raise ValueError(f"expected a duration such as PT30S, got {_shown(value)}")
            return format_duration(parse_duration(value))
        case InputType.JSON:
            return _json(value)
        case InputType.SELECT:
            text = value if isinstance(value, str) else _scalar_text(value)
            if text not in choices:
                raise ValueError(f"expected one of {', '.join(choices)}, got {_shown(value)}")
            return text


def _shown(value: Any) -> str:
    try:
        text = jsontext.dumps(value)
    except (ValueError, InvalidInput):
        # Python writes no number of more than 4,300 digits
        return "a number too long to show"
    return text if len(text) <= 60 else text[:57] + "…"


def _scalar_text(value: Any) -> str:
    if isinstance(value, bool | int | float):
        return jsontext.dumps(value)
    raise ValueError(f"expected text, got {_shown(value)}")


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) < 1000 and _INTEGER.match(value):
        return int(value)
    raise ValueError(f"expected a whole number, got {_shown(value)}")


def _number(value: Any) -> float:
    number = float("nan")
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            pass
    if math.isfinite(number) and not (isinstance(value, str) and not _DECIMAL.match(value)):
        return number
    raise ValueError(f"expected a number, got {_shown(value)}")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ValueError(f"expected true or false, got {_shown(value)}")


def _date(value: Any) -> str:
    try:
        if not isinstance(value, str) or not _CALENDAR_DAY.match(value):
            raise ValueError
        return date.fromisoformat(value.strip()).isoformat()
    except ValueError:
        raise ValueError(f"expected a date such as 2026-01-31, got {_shown(value)}") from None


def _moment(value: Any) -> str:
    try:
        moment = datetime.fromisoformat(value.strip())
    except (ValueError, AttributeError):
        raise ValueError(f"expected a moment such as 2026-01-31T12:00:00Z, got {_shown(value)}") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).isoformat()


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return jsontext.loads_bounded(value)
    except ValueError as error:
        raise ValueError(f"expected JSON, got {_shown(value)}: {error}") from None
