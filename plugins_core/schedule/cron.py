"""Cron expressions: which fields they have, and the next instant in UTC.

Days: where both day fields are restricted a day matches either (cron's OR); where one of them begins with
``*`` it must match both.

Daylight saving, as Debian's cron does it: an expression with a fixed hour and minute fires once on each day
it names; in the first minute after the gap where that time does not exist, at its first passing where it
exists twice. An expression whose minute or hour begins with ``*`` follows real time: times that do not exist
are passed over, an hour that comes twice is met twice. Seconds, where there are some, change nothing of this.
"""

from __future__ import annotations

import calendar
import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_SHORTHANDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_LONGEST_SEARCH = 60
"""Years; a 29 February on a given weekday comes at least every 40."""
_LONGEST = 200
NTH_WEEKDAY = "{{ (trigger.localDate | date('e')) == '5' }}"
LAST_DAY = "{{ (trigger.next | date('d', trigger.timezone)) == '28' }}"
_OTHERS = (
    (r"\w+#\d", f'; for the third Friday name the days of the month 15-21 and add when: "{NTH_WEEKDAY}"'),
    (r"L|L-\d+|\w+L", f'; for the last day of the month name the days 28-31 and add when: "{LAST_DAY}"'),
    (r"L?\d*W", "; for the weekday that is nearest name the days around it and choose among them in when:"),
)
"""What other schedulers have beside cron, and how to say it here."""


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


class Cron:
    """A cron expression in a time zone. Raises ``ValueError`` saying which field is wrong."""

    def __init__(self, expression: str, zone: ZoneInfo) -> None:
        self._zone = zone
        texts = _split(expression)
        try:
            fields = [_parse(field, text) for field, text in zip(_FIELDS, texts, strict=True)]
        except ValueError as error:
            raise ValueError(f'cron "{expression}" is not valid: {error}') from None
        self._seconds, self._minutes, self._hours = (tuple(sorted(one)) for one in fields[:3])
        self._days, self._months = frozenset(fields[3]), frozenset(fields[4])
        self._weekdays = frozenset(day % 7 for day in fields[5])
        self._both_days = texts[3].startswith(("*", "?")) or texts[5].startswith(("*", "?"))
        self._is_fixed = not (texts[1].startswith("*") or texts[2].startswith("*"))
        longest = max(29 if month == 2 else calendar.monthrange(2023, month)[1] for month in self._months)
        if self._both_days and min(self._days) > longest:
            raise ValueError(f'cron "{expression}" can never fire: its months have no day {min(self._days)}')
        self._irregular = lru_cache(maxsize=8)(self._irregular_day)

    def next_after(self, moment: datetime) -> datetime:
        """The first instant after ``moment``, in UTC."""
        # a day's instants may reach into the next one where a whole day is left out
        day = moment.astimezone(self._zone).date() - timedelta(days=1)
        for _ in range(_LONGEST_SEARCH * 366):
            if day.month not in self._months:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
                continue
            if self._matches(day):
                found = self._first_of(day, moment)
                if found is not None:
                    return found
            day += timedelta(days=1)
        raise ValueError("no instant within sixty years")

    def _matches(self, day: date) -> bool:
        in_month, in_week = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        return (in_month and in_week) if self._both_days else (in_month or in_week)

    def _first_of(self, day: date, after: datetime) -> datetime | None:
        """The day's first instant after a moment, or None."""
        begin = datetime.combine(day, time(), self._zone)
        end = datetime.combine(day + timedelta(days=1), time(), self._zone)
        if begin.utcoffset() != end.utcoffset():
            instants = self._irregular(day)
            place = bisect_right(instants, after)
            return instants[place] if place < len(instants) else None
        local = after.astimezone(self._zone)
        if local.date() > day:
            return None
        wall = self._first_wall(local.time().replace(tzinfo=None) if local.date() == day else None)
        return None if wall is None else datetime.combine(day, wall, self._zone).astimezone(UTC)

    def _first_wall(self, after: time | None) -> time | None:
        """The first time of day after another; of the whole day where there is none."""
        if after is None:
            return time(self._hours[0], self._minutes[0], self._seconds[0])
        for hour in self._hours[_place(self._hours, after.hour) :]:
            if hour > after.hour:
                return time(hour, self._minutes[0], self._seconds[0])
            for minute in self._minutes[_place(self._minutes, after.minute) :]:
                if minute > after.minute:
                    return time(hour, minute, self._seconds[0])
                for second in self._seconds[_place(self._seconds, after.second) :]:
                    if second > after.second:
                        return time(hour, minute, second)
        return None

    def _irregular_day(self, day: date) -> list[datetime]:
        """All instants of a day on which the clocks are changed."""
        found: set[datetime] = set()
        for hour in self._hours:
            for minute in self._minutes:
                for second in self._seconds:
                    found.update(self._instants(datetime.combine(day, time(hour, minute, second))))
        return sorted(found)

    def _instants(self, wall: datetime) -> list[datetime]:
        """When a wall time is met: never, once or twice."""
        if self._is_fixed:
            while not _exists(wall, self._zone):
                wall += timedelta(minutes=1)
            return [wall.replace(tzinfo=self._zone).astimezone(UTC)]
        if not _exists(wall, self._zone):
            return []
        return [wall.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1)]


def _exists(wall: datetime, zone: ZoneInfo) -> bool:
    there = wall.replace(tzinfo=zone)
    return there.astimezone(UTC).astimezone(zone).replace(tzinfo=None, fold=0) == wall


def _place(values: tuple[int, ...], wanted: int) -> int:
    """Where the first value that is not below ``wanted`` stands."""
    return bisect_right(values, wanted - 1)


def _split(expression: str) -> list[str]:
    text = _SHORTHANDS.get(expression.strip().lower(), expression)
    if text.strip().startswith("@"):
        known = ", ".join(_SHORTHANDS)
        also = "; schedule.every has intervals" if text.strip().lower().startswith("@every") else ""
        raise ValueError(f'cron "{expression[:80]}" is not known; there are {known}{also}')
    parts = text.upper().split()
    if len(parts) == 5:
        parts.insert(0, "0")
    if len(parts) != 6 or len(text) > _LONGEST:
        raise ValueError(
            f'cron "{expression[:80]}" is not valid: expected five fields (minute, hour, day of month, month,'
            f" day of week), or six with seconds first, got {len(text.split())}"
        )
    return parts


def _parse(field: _Field, text: str) -> set[int]:
    """The numbers a field names."""
    found: set[int] = set()
    for item in text.split(","):
        base, slash, step_text = item.partition("/")
        first, last = _range(field, base, open_ended=bool(slash))
        step = 1
        if slash:
            step = _step(field, step_text)
        found.update(range(first, last + 1, step))
    return found


def _step(field: _Field, text: str) -> int:
    most = _last_of(field) - field.low + 1
    if not _is_number(text) or not 1 <= int(text) <= most:
        # a longer step never comes to its second number, which is not what anybody means by it
        raise ValueError(f'{field.name} has the step "{text}"; expected a number from 1 to {most}')
    return int(text)


def _last_of(field: _Field) -> int:
    # Sunday is 0 and 7: a star counts it once
    return 6 if field.names is _DAYS else field.high


def _range(field: _Field, text: str, *, open_ended: bool) -> tuple[int, int]:
    high = _last_of(field)
    if text == "*" or (text == "?" and field.name.startswith("day")):
        return field.low, high
    first_text, dash, last_text = text.partition("-")
    first = _number(field, first_text)
    if dash:
        last = _number(field, last_text)
        if last < first:
            raise ValueError(
                f"{field.name} has the range {text}, which runs backwards{_over_the_end(field, text)}"
            )
        return first, last
    return first, field.high if open_ended else first


def _number(field: _Field, text: str) -> int:
    if text in field.names:
        return field.names.index(text) + field.low
    if not _is_number(text) or not field.low <= int(text) <= field.high:
        raise ValueError(
            f"{field.name} is {field.low}-{field.high}, got {text or 'nothing'}{_no_part_of_cron(field, text)}"
        )
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


def _over_the_end(field: _Field, text: str) -> str:
    """How to write a range that goes on after the field's last value."""
    first, _, last = text.partition("-")
    low, high = (str(one) for one in (field.low, _last_of(field)))
    if field.names and first in field.names:
        low, high = field.names[0], field.names[-1]
    parts = [first if first == high else f"{first}-{high}", last if last == low else f"{low}-{last}"]
    return f"; write {','.join(parts)}"


def _no_part_of_cron(field: _Field, text: str) -> str:
    """What to write for what other schedulers have beside cron."""
    if not field.name.startswith("day"):
        return ""
    return next((hint for pattern, hint in _OTHERS if re.fullmatch(pattern, text)), "")
