"""Moments, time zones and date patterns of expressions.

Patterns have the letters of java.time.format.DateTimeFormatter, as Kestra users know them, and English words
whatever the machine speaks. The zones are read from the ``tzdata`` package once, when the functions are made:
no evaluation opens a file.
"""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hub.errors import ExpressionError, did_you_mean
from hub.expressions.values import kind_of

_LONGEST_PATTERN = 200
_LARGEST_ZONE = 65_536
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


# -- zones


@cache
def load_zones() -> Mapping[str, bytes]:
    """Every time zone by its IANA name, as stored; about 350 kB and a few milliseconds, once."""
    spec = importlib.util.find_spec("tzdata")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent
    names = (folder / "zones").read_text(encoding="utf-8").split()
    # six hundred small files: anything but the plain calls takes three times as long
    below = os.open(folder / "zoneinfo", os.O_RDONLY)
    try:
        return {name: _read(name, below) for name in names}
    finally:
        os.close(below)


def _read(name: str, below: int) -> bytes:
    file = os.open(name, os.O_RDONLY, dir_fd=below)
    try:
        return os.read(file, _LARGEST_ZONE)
    finally:
        os.close(file)


@cache
def zone_of(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises ``ExpressionError``."""
    stored = load_zones().get(name)
    if stored is None:
        raise ExpressionError(f'unknown time zone "{name[:60]}"', hint=_zone_hint(name))
    return ZoneInfo.from_file(io.BytesIO(stored), key=name)


def _zone_hint(name: str) -> str:
    near = did_you_mean(name, list(load_zones())) if len(name) <= 40 else None
    return near or "use an IANA name such as Europe/Paris"


# -- moments


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


def in_zone(moment: datetime, name: str) -> datetime:
    """A moment as a zone tells it. Raises ``ExpressionError``."""
    zone = zone_of(name)
    try:
        return moment.astimezone(zone)
    except (OverflowError, ValueError):
        raise ExpressionError("the date is outside of the calendar") from None


# -- patterns

Part = Callable[[datetime], str]


def format_moment(moment: datetime, pattern: str) -> str:
    """A moment by a pattern. Raises ``ExpressionError`` for a pattern that is none."""
    return "".join([part(moment) for part in pattern_parts(pattern)])


@lru_cache(maxsize=256)
def pattern_parts(pattern: str) -> tuple[Part, ...]:
    """What a pattern is made of. Raises ``ExpressionError``."""
    if len(pattern) > _LONGEST_PATTERN:
        raise ExpressionError(f"the date format is longer than {_LONGEST_PATTERN} characters")
    parts: list[Part] = []
    position = 0
    while position < len(pattern):
        letter = pattern[position]
        if letter == "'":
            end = pattern.find("'", position + 1)
            if end < 0:
                raise ExpressionError("the date format has an open quote")
            parts.append(_text(pattern[position + 1 : end] or "'"))
            position = end + 1
            continue
        end = position
        while end < len(pattern) and pattern[end] == letter:
            end += 1
        parts.append(_part(letter, end - position) if letter.isalpha() else _text(pattern[position:end]))
        position = end
    return tuple(parts)


def _text(text: str) -> Part:
    return lambda moment: text


_NUMBERS: Mapping[str, Callable[[datetime], int]] = {
    "y": lambda moment: moment.year,
    "u": lambda moment: moment.year,
    "d": lambda moment: moment.day,
    "H": lambda moment: moment.hour,
    "h": lambda moment: moment.hour % 12 or 12,
    "K": lambda moment: moment.hour % 12,
    "k": lambda moment: moment.hour or 24,
    "m": lambda moment: moment.minute,
    "s": lambda moment: moment.second,
    "D": lambda moment: moment.timetuple().tm_yday,
    "w": lambda moment: moment.isocalendar().week,
    "Y": lambda moment: moment.isocalendar().year,
    "Q": lambda moment: (moment.month - 1) // 3 + 1,
    "e": lambda moment: moment.isoweekday(),
}


def _part(letter: str, count: int) -> Part:
    number = _NUMBERS.get(letter)
    if letter in ("M", "L"):
        if count >= 3:
            return lambda moment: _word(_MONTHS[moment.month - 1], count)
        return lambda moment: str(moment.month).rjust(count, "0")
    if letter == "E" or (letter == "e" and count >= 3):
        return lambda moment: _word(_DAYS[moment.weekday()], max(count, 3))
    if number is not None:
        if letter in "yuY" and count == 2:
            return lambda moment: f"{number(moment) % 100:02d}"
        return lambda moment: str(number(moment)).rjust(count, "0")
    if letter == "a":
        return lambda moment: "AM" if moment.hour < 12 else "PM"
    if letter in ("S", "A"):
        return lambda moment: f"{moment.microsecond:06d}".ljust(count, "0")[:count]
    if letter in ("X", "x", "Z"):
        return lambda moment: _offset(moment, letter, count)
    if letter in ("z", "V"):
        return lambda moment: moment.tzname() or "UTC"
    raise ExpressionError(
        f'unknown letter "{letter}" in the date format', hint=f"quote text: '{letter * count}'"
    )


def _word(word: str, count: int) -> str:
    """A name as long as its letters ask for: three short, four whole, five only the first letter."""
    return word[:3] if count == 3 else word if count == 4 else word[:1]


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
