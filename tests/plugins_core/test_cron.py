"""Cron: what is refused, and instants that agree with cronsim."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from plugins_core.schedule.cron import Cron
from plugins_core.schedule.planned import due

ZONES = (
    "UTC", "Europe/Paris", "Europe/London", "Europe/Dublin", "Europe/Lisbon", "Europe/Moscow", "Europe/Istanbul",
    "Europe/Chisinau", "America/New_York", "America/Chicago", "America/Denver", "America/Phoenix",
    "America/Los_Angeles", "America/Anchorage", "America/Halifax", "America/St_Johns", "America/Sao_Paulo",
    "America/Santiago", "America/Asuncion", "America/Havana", "America/Mexico_City", "America/Scoresbysund",
    "Africa/Cairo", "Africa/Casablanca", "Africa/Lagos", "Asia/Tehran", "Asia/Kathmandu", "Asia/Kolkata",
    "Asia/Tokyo", "Asia/Jerusalem", "Asia/Beirut", "Asia/Gaza", "Asia/Amman", "Australia/Sydney",
    "Australia/Lord_Howe", "Australia/Adelaide", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Apia",
    "Antarctica/Troll",
)  # fmt: skip


def field(low: int, high: int) -> st.SearchStrategy[str]:
    """A field; a range whose ends are equal has no step, which cronsim reads as open-ended."""
    number = st.integers(low, high)
    span = st.tuples(number, number).filter(lambda x: x[0] < x[1])
    item = st.one_of(
        number.map(str),
        span.map(lambda x: f"{x[0]}-{x[1]}"),
        st.tuples(span, st.integers(1, 9)).map(lambda x: f"{x[0][0]}-{x[0][1]}/{x[1]}"),
        st.tuples(number, st.integers(1, 20)).map(lambda x: f"{x[0]}/{x[1]}"),
    )
    return st.one_of(
        st.just("*"),
        st.integers(1, 25).map(lambda step: f"*/{step}"),
        st.lists(item, min_size=1, max_size=3).map(",".join),
    )


EXPRESSIONS = st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)).map(" ".join)
MOMENTS = st.integers(0, 3 * 366 * 24 * 60).map(
    lambda m: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=m)
)


def clock_changes(zone: ZoneInfo, year: int) -> list[datetime]:
    """The midnights before the days of a year on which a zone's clocks are changed."""
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=number) for number in range(366)]
    return [
        day
        for day in days
        if day.astimezone(zone).utcoffset() != (day + timedelta(days=1)).astimezone(zone).utcoffset()
    ]


def changes_oddly(name: str) -> bool:
    """Whether a zone's clocks go by less than an hour, at minutes past the hour, or around midnight: there cronsim
    is wrong now and then, so those zones have an oracle of their own below."""
    zone = ZoneInfo(name)
    for day in (day for year in (2024, 2025, 2026) for day in clock_changes(zone, year)):
        before, after = (
            day.astimezone(zone).utcoffset(),
            (day + timedelta(days=1)).astimezone(zone).utcoffset(),
        )
        assert before is not None
        assert after is not None
        if abs(after - before) != timedelta(hours=1) or before % timedelta(hours=1):
            return True
        minute = day
        while (minute + timedelta(minutes=1)).astimezone(zone).utcoffset() == before:
            minute += timedelta(minutes=1)
        if minute.astimezone(zone).hour in (22, 23, 0):
            return True
    return False


ODD = tuple(name for name in ZONES if changes_oddly(name))
EVEN = tuple(name for name in ZONES if name not in ODD)


@settings(max_examples=800, deadline=None)
@given(EXPRESSIONS, st.sampled_from(EVEN), MOMENTS)
def test_instants_agree_with_cronsim(expression: str, zone_name: str, start: datetime) -> None:
    zone = ZoneInfo(zone_name)
    try:
        cron = Cron(expression, zone)
    except ValueError:
        assume(False)
    oracle = CronSim(expression, start.astimezone(zone))
    moment = start
    for _ in range(8):
        moment = cron.next_after(moment)
        assert moment == next(oracle).astimezone(UTC)


CHANGING = tuple(name for name in EVEN if clock_changes(ZoneInfo(name), 2024))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["*/7", "*", "*/20"]),
    st.sampled_from(["*", "*/2", "0-5", "1,2,23"]),
    st.sampled_from(ODD),
    st.data(),
)
def test_where_clocks_change_oddly_an_expression_with_a_star_follows_real_time(
    minute: str, hour: str, zone_name: str, data: st.DataObject
) -> None:
    zone = ZoneInfo(zone_name)
    changes = clock_changes(zone, 2025)
    assume(changes)
    start = data.draw(st.sampled_from(changes)) - timedelta(hours=6)
    cron = Cron(f"{minute} {hour} * * *", zone)
    hours = {int(h) for h in range(24) if _in_field(h, hour)}
    minutes = {m for m in range(60) if _in_field(m, minute)}
    wanted = [
        moment
        for moment in (start + timedelta(minutes=number) for number in range(1, 36 * 60))
        if (local := moment.astimezone(zone)).hour in hours and local.minute in minutes
    ]
    found, moment = [], start
    for _ in wanted:
        moment = cron.next_after(moment)
        found.append(moment)
    assert found == wanted


def _in_field(value: int, text: str) -> bool:
    if text.startswith("*"):
        return value % int(text[2:] or 1) == 0
    if "-" in text:
        low, high = map(int, text.split("-"))
        return low <= value <= high
    return value in map(int, text.split(","))


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, st.sampled_from(CHANGING), st.integers(2024, 2026), st.integers(0, 3))
def test_instants_agree_with_cronsim_where_clocks_change(
    expression: str, zone_name: str, year: int, place: int
) -> None:
    zone = ZoneInfo(zone_name)
    changes = clock_changes(zone, year)
    assume(changes)
    place %= len(changes)
    try:
        cron = Cron(expression, zone)
    except ValueError:
        assume(False)
    moment = changes[place] - timedelta(hours=12)
    oracle = CronSim(expression, moment.astimezone(zone))
    for _ in range(60):
        moment = cron.next_after(moment)
        assert moment == next(oracle).astimezone(UTC)


def test_a_time_in_the_gap_fires_after_it_and_a_time_that_comes_twice_fires_once() -> None:
    cron = Cron("30 2 * * *", ZoneInfo("Europe/Paris"))
    assert cron.next_after(datetime(2026, 3, 29, 0, tzinfo=UTC)) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    first = cron.next_after(datetime(2026, 10, 24, 22, tzinfo=UTC))
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert cron.next_after(first) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_restricted_days_are_joined_by_or() -> None:
    cron = Cron("0 0 13 * 5", ZoneInfo("UTC"))
    moment, found = datetime(2026, 2, 1, tzinfo=UTC), []
    for _ in range(5):
        moment = cron.next_after(moment)
        found.append(moment.day)
    assert found == [6, 13, 20, 27, 6]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("61 * * * *", "minute is 0-59, got 61"),
        ("* 24 * * *", "hour is 0-23, got 24"),
        ("* * 0 * *", "day of month is 1-31, got 0"),
        ("* * * FOO *", "month is 1-12, got FOO"),
        ("* * * * 8", "day of week is 0-7, got 8"),
        ("*/0 * * * *", "expected a number from 1"),
        ("5-1 * * * *", "runs backwards"),
        ("* * * *", "expected five fields"),
        ("@dayly", "there are @yearly"),
        ("0 0 31 2 *", "can never fire"),
        ("0 0 30 2 */2", "can never fire"),
        ("0 0 31 4,6 *", "can never fire"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cron(expression, ZoneInfo("UTC"))


@pytest.mark.parametrize(
    "expression", ["@hourly", "@daily", "0 0 29 2 *", "*/15 * * * * *", "0 9 * * MON-FRI"]
)
def test_what_can_be_a_schedule_has_a_next_time(expression: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert Cron(expression, ZoneInfo("UTC")).next_after(start) > start


# -- which are due

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def each_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0) + timedelta(minutes=1)


def planned(
    missed: str, *, down: timedelta, window: timedelta = timedelta(hours=1), cap: int = 100
) -> list[datetime]:
    now = NOON + timedelta(seconds=30)
    return due(each_minute, last=now - down, now=now, missed=missed, window=window, cap=cap)


def test_missed_times_are_skipped_given_once_or_all() -> None:
    down = timedelta(minutes=10)
    assert planned("skip", down=down) == []
    assert planned("last", down=down) == [NOON]
    assert planned("all", down=down) == [NOON - timedelta(minutes=n) for n in reversed(range(10))]


def test_missed_times_count_only_inside_the_window_and_up_to_the_cap() -> None:
    down = timedelta(hours=5)
    assert len(planned("all", down=down)) == 60
    assert planned("all", down=down, cap=2) == [NOON - timedelta(minutes=1), NOON]
    assert planned("last", down=down, window=timedelta(seconds=10)) == []


def test_what_is_a_little_late_is_on_time() -> None:
    now = NOON + timedelta(seconds=3)
    for missed in ("skip", "last", "all"):
        assert due(
            each_minute,
            last=NOON - timedelta(seconds=5),
            now=now,
            missed=missed,
            window=timedelta(hours=1),
            cap=9,
        ) == [NOON]


def test_nothing_is_due_before_its_time_or_twice() -> None:
    given: dict[str, object] = {"missed": "all", "window": timedelta(hours=1), "cap": 9}
    assert due(each_minute, last=NOON, now=NOON + timedelta(seconds=59), **given) == []  # type: ignore[arg-type]
    assert due(each_minute, last=NOON, now=NOON - timedelta(hours=1), **given) == []  # type: ignore[arg-type]


def test_a_long_window_is_not_walked_second_by_second() -> None:
    start, asked = datetime(2026, 1, 1, tzinfo=UTC), 0

    def every_second(moment: datetime) -> datetime:
        nonlocal asked
        asked += 1
        return start + ((moment - start) // timedelta(seconds=1) + 1) * timedelta(seconds=1)

    now, month = start + timedelta(days=30), timedelta(days=30)
    for missed, count in (("skip", 6), ("last", 6), ("all", 106)):
        found = due(every_second, last=start, now=now, missed=missed, window=month, cap=100)
        assert (len(found), found[-1]) == (count, now)
    assert asked < 2_000
