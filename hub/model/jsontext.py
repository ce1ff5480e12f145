"""JSON text, exact: integers above 64 bits survive both ways.

orjson is used where it is exact, the standard library where it is not.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timedelta
from typing import Any

import orjson

_LONG_DIGITS = re.compile(rb"\d{19}")


def loads(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises ``ValueError`` for anything that is not JSON, ``NaN`` and ``Infinity`` included.
    """
    raw = text.encode() if isinstance(text, str) else text
    # orjson turns integers above 64 bits into floats; 19 digits is where that can begin
    if _LONG_DIGITS.search(raw):
        return json.loads(raw, parse_constant=_refuse_constant)
    return orjson.loads(raw)


def dumps(value: Any) -> str:
    """The compact JSON text of plain data; moments and durations as ISO 8601."""
    return dump_bytes(value).decode()


def dump_bytes(value: Any) -> bytes:
    """``dumps`` as UTF-8 bytes."""
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:
        return json.dumps(
            value, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False
        ).encode("utf-8", "surrogatepass")


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
        return dump(by_alias=True, mode="json")
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not plain data")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
