"""Lengths of time as users write them: ISO 8601 (``PT30S``, ``P1DT2H``) or short (``30s``, ``5m``, ``1h30m``)."""

from __future__ import annotations

import re
from datetime import timedelta

_ISO = re.compile(
    r"P(?:(?P<weeks>\d+(?:\.\d+)?)W)?(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?\Z",
    re.IGNORECASE | re.ASCII,
)
_SHORT = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+\Z", re.IGNORECASE | re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])", re.IGNORECASE | re.ASCII)
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(text: str) -> timedelta:
    """The length that ``text`` spells.

    Raises ``ValueError`` with what was expected. Months and years are refused: their length varies.
    """
    cleaned = text.strip()
    found = _ISO.match(cleaned)
    try:
        if found and any(found.groups()):
            return timedelta(**{unit: float(value) for unit, value in found.groupdict().items() if value})
        if _SHORT.match(cleaned):
            total = timedelta()
            for value, unit in _PART.findall(cleaned):
                total += timedelta(**{_UNITS[unit.lower()]: float(value)})
            return total
    except OverflowError:
        raise ValueError(f'"{text}" is longer than the calendar') from None
    raise ValueError(f'"{text}" is not a duration; expected ISO 8601 such as PT30S or P1DT2H, or 30s, 5m, 1h')


def format_duration(length: timedelta) -> str:
    """The ISO 8601 spelling of a length, ``PT0S`` for none."""
    micros = length // timedelta(microseconds=1)
    sign = "-" if micros < 0 else ""
    seconds, micros = divmod(abs(micros), 1_000_000)
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3_600)
    minutes, seconds = divmod(seconds, 60)
    fraction = f".{micros:06d}".rstrip("0") if micros else ""
    time = (
        (f"{hours}H" if hours else "")
        + (f"{minutes}M" if minutes else "")
        + (f"{seconds}{fraction}S" if seconds or micros else "")
    )
    text = "P" + (f"{days}D" if days else "") + (f"T{time}" if time else "")
    return sign + (text if text != "P" else "PT0S")
