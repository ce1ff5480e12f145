"""JSON text, exact: integers above 64 bits survive both ways.

orjson is used where it is exact, the standard library where it is not.
"""

from __future__ import annotations

import json
import math
import re
from datetime import date, datetime, timedelta
from itertools import accumulate
from typing import Any

import orjson

from hub.errors import InvalidInput

DEEPEST = 200
"""How deep data from outside may be nested: what wraps it on its way still fits orjson."""

_ORJSON_DEEPEST = 254
_SHORTEST_DEEP = 2 * (DEEPEST + 1)
"""Bytes of the shortest text that is nested deeper than ``DEEPEST``, ``[[…]]``."""
_SHORTEST_DEEP_OBJECT = 5 * DEEPEST + 2
"""The same of one without lists, ``{"":{"":…{}…}}``."""
_LONG_DIGITS = b"0" * 19
_ALL_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_TEXTS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_BRACKETS = bytes.maketrans(b"[{]}", b"\x01\x01\x00\x00")
_STEPS = (-1, 1)
_MOST_FLAT = 8
_LONGEST_FLAT = 500
_LARGEST_FLAT = 2**53


def loads(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises ``ValueError`` for anything that is not JSON: ``NaN``, ``Infinity``, numbers beyond a double's
    range and half a surrogate pair included.
    """
    raw = text.encode() if isinstance(text, str) else text
    # orjson turns integers above 64 bits into floats; 19 digits is where that can begin
    # (every digit made a zero and the zeros looked for: a tenth of what a pattern takes)
    if _LONG_DIGITS in raw.translate(_ALL_ZERO):
        return _exact(raw)
    return orjson.loads(raw)


def loads_bounded(text: bytes | str) -> Any:
    """``loads`` for what comes from outside: ``ValueError`` too when it is nested deeper than ``DEEPEST``."""
    raw = text.encode() if isinstance(text, str) else text
    value = loads(raw)
    if _has_many_brackets(raw) and not _is_shallow(value) and _depth(raw) > DEEPEST:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    return value


def check_bounded(raw: bytes, *, has_lists: bool = True) -> None:
    """Raise ``ValueError`` where ``loads_bounded`` would, for who needs no value; takes less time.

    Who knows that no ``[`` is in it says so, and spares a look at every byte.
    """
    try:
        orjson.loads(raw)
    except ValueError:
        pass  # a number may be too long for it alone
    else:
        if not _has_many_brackets(raw, has_lists):
            return
    loads_bounded(raw)


def _has_many_brackets(raw: bytes, has_lists: bool = True) -> bool:
    """Whether a JSON text might be nested deeper than ``DEEPEST``: what is too short or has fewer brackets is not.

    Counting looks at every byte; of an object that holds neither lists nor objects it takes a third to see so.
    """
    if len(raw) < (_SHORTEST_DEEP if has_lists else _SHORTEST_DEEP_OBJECT):
        return False
    is_flat = raw.find(b"{", 1) < 0 and not (has_lists and b"[" in raw)
    return not is_flat and raw.count(b"[") + raw.count(b"{") > DEEPEST


def _exact(raw: bytes) -> Any:
    """By the standard library, as strict as orjson is."""
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if _HALF_PAIR.search(raw):
        json.dumps(value, ensure_ascii=False).encode()  # raises where a half is alone
    return value


def _is_shallow(value: Any) -> bool:
    """Whether orjson writes it with as many levels around it as are left of its 254; it does so in no time."""
    for _ in range(_ORJSON_DEEPEST - DEEPEST):
        value = [value]
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _depth(raw: bytes) -> int:
    """How deep the brackets outside of texts go, counted without parsing."""
    brackets = _TEXTS.sub(b"", raw).translate(_BRACKETS, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def is_flat(value: object) -> bool:
    """Whether it is a mapping of a few short texts and plain numbers, as most outputs are.

    Such a one comes back from its JSON text as it is, and that text takes a few kilobytes: seeing so takes a third
    of writing and reading it.
    """
    if type(value) is not dict or len(value) > _MOST_FLAT:
        return False
    for key, item in value.items():
        kind = type(item)
        if type(key) is not str or not _is_short(key):
            return False
        if kind is str:
            if not _is_short(item):
                return False
        elif kind is int:
            if not -_LARGEST_FLAT <= item <= _LARGEST_FLAT:
                return False
        elif kind is not bool and item is not None:
            return False
    return True


def _is_short(text: str) -> bool:
    return len(text) <= _LONGEST_FLAT and text.isascii()


def dumps(value: Any) -> str:
    """The compact JSON text of plain data; moments and durations as ISO 8601."""
    return dump_bytes(value).decode()


def dump_bytes(value: Any) -> bytes:
    """``dumps`` as UTF-8 bytes; half a surrogate pair becomes ``?``.

    Raises ``InvalidInput`` for a number that is not finite, ``RecursionError`` for what is nested too deep,
    ``TypeError`` for what is not plain data.
    """
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:
        pass
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False)
    except ValueError as error:
        raise InvalidInput(f"data cannot be written as JSON: {error}") from error
    return text.encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        from hub.model.durations import format_duration

        return format_duration(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        from hub.model.naming import renamed

        return renamed(value, dump(by_alias=True, mode="json"))
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not plain data")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is larger than any number")
    return number
