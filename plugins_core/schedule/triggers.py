"""Schedules: each planned time is one event, over restarts, re-deploys and jumps of the clock.

The delivery key is the planned time in UTC, so no two nodes, and no crash between two steps, can make two
events of one. The state holds the last planned time; the next one always follows from it, never from now.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hub.plugin import (
    Delivery,
    Duration,
    Emit,
    FenceRefused,
    Occurrence,
    Trigger,
    TriggerContext,
    did_you_mean,
    from_micros,
    iso,
    to_micros,
)
from plugins_core.schedule.cron import Cron
from plugins_core.schedule.planned import due

_REMEMBERED = timedelta(days=30)
_LAST = "last"
_LONGEST = timedelta(days=366)
_LONG_AGO = timedelta(minutes=1)
_OF_THE_MACHINE = ("localtime", "posixrules", "Factory", "posix/", "right/")
_SET_BACK = timedelta(minutes=1)
"""A clock put back by less is one that is being kept in step."""


class ScheduleData(BaseModel):
    """What expressions see as ``trigger``."""

    model_config = ConfigDict(extra="forbid")

    date: str = Field(description="The planned time in UTC, ISO 8601.")
    localDate: str = Field(description="The planned time in the schedule's time zone.")
    next: str = Field(description="The planned time after it, in UTC.")
    previous: str | None = Field(None, description="The planned time before it that gave an event.")
    timezone: str = Field(description="The schedule's time zone.")


class _Schedule(Trigger):
    """What every schedule does; subclasses say when."""

    event_type: ClassVar[str] = "hub.schedule.fired"
    # each planned time has its delivery key, so one hub wins and the others find it known
    anywhere: ClassVar[bool] = True
    Data = ScheduleData

    missed: Literal["skip", "last", "all"] = Field(
        "last",
        description="What to do about planned times that passed while the hub was down: nothing, the newest one, each.",
    )
    missed_window: Duration = Field(
        timedelta(hours=1), le=_LONGEST, description="How far back missed times count, at most a year."
    )
    missed_cap: int = Field(100, ge=1, le=10_000, description="How many missed times `all` gives at most.")

    @property
    @abstractmethod
    def zone_name(self) -> str:
        """The time zone events are shown in."""

    @abstractmethod
    def next_after(self, moment: datetime) -> datetime:
        """The first planned time after a moment, in UTC."""

    def next_times(self, after: datetime, count: int) -> list[datetime]:
        times: list[datetime] = []
        for _ in range(count):
            after = self.next_after(after)
            times.append(after)
        return times

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        stored = ctx.state.get(_LAST)
        previous = datetime.fromisoformat(stored) if stored else None
        last = max(previous, ctx.enabled_since) if previous is not None else ctx.enabled_since
        prepared: Occurrence | None = None
        while True:
            now = ctx.now()
            if now < last - _SET_BACK:
                # a clock that was wrong has been put right: what was planned meanwhile is known by its keys
                last = now
            for planned in await self._due(last, now):
                if prepared is None or prepared.time != planned:
                    prepared = self._occurrence(planned, previous)
                await self._emit(ctx, emit, prepared, planned)
                previous, prepared = planned, None
            # a clock that was put back must not bring planned times again
            last = max(last, now)
            # made while there is time: many schedules may have the same moment
            prepared = self._occurrence(self.next_after(last), previous)
            await self._wait(ctx, last)

    async def _emit(self, ctx: TriggerContext, emit: Emit, prepared: Occurrence, planned: datetime) -> None:
        """Emit a planned time, unless another hub was quicker."""
        while True:
            try:
                await emit(prepared, state={_LAST: iso(planned)})
                return
            except FenceRefused:
                # another has moved the state on: by this very time, as a rule, or by one before it
                if await ctx.known([iso(planned)]):
                    return

    async def _due(self, last: datetime, now: datetime) -> list[datetime]:
        find = partial(
            due,
            self.next_after,
            last=last,
            now=now,
            missed=self.missed,
            window=self.missed_window,
            cap=self.missed_cap,
        )
        # up to ten thousand missed times take a while to find; the rest of the hub goes on meanwhile
        return await asyncio.to_thread(find) if now - last > _LONG_AGO else find()

    async def _wait(self, ctx: TriggerContext, last: datetime) -> None:
        planned = self.next_after(last)
        while last - _SET_BACK <= ctx.now() < planned:
            await ctx.sleep_until(planned)

    def sample_data(self, now: datetime) -> dict[str, Any]:
        return self._data(self.next_after(now), None)

    def _data(self, planned: datetime, previous: datetime | None) -> dict[str, Any]:
        local = planned.astimezone(ZoneInfo(self.zone_name))
        return {
            "date": iso(planned),
            "localDate": local.isoformat(timespec="seconds"),
            "next": iso(self.next_after(planned)),
            # one that lies ahead is of a clock that was wrong
            "previous": iso(previous) if previous is not None and previous < planned else None,
            "timezone": self.zone_name,
        }

    def _occurrence(self, planned: datetime, previous: datetime | None) -> Occurrence:
        delivery = Delivery(iso(planned), window=max(_REMEMBERED, 2 * self.missed_window))
        return Occurrence(self._data(planned, previous), time=planned, delivery=delivery)


class CronSchedule(_Schedule):
    """Start the flow at the times of a cron expression."""

    type: ClassVar[str] = "schedule.cron"
    examples: ClassVar[tuple[str, ...]] = (
        'id: nightly\ntype: schedule.cron\ncron: "0 2 * * *"\ntimezone: Europe/Paris\nmissed: last',
        'id: daily\ntype: schedule.cron\ncron: "@daily"',
    )

    cron: str = Field(description="Five fields, six with seconds first, or `@daily` and its like.")
    timezone: str = Field("UTC", description="The time zone of the fields, an IANA name.")

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if "{{" not in value:
            _zone(value)
        return value

    @field_validator("cron")
    @classmethod
    def _can_fire(cls, value: str) -> str:
        if "{{" not in value:
            Cron(value, ZoneInfo("UTC"))
        return value

    @cached_property
    def _plan(self) -> Cron:
        return Cron(self.cron, _zone(self.timezone))

    @property
    def zone_name(self) -> str:
        return self.timezone

    def next_after(self, moment: datetime) -> datetime:
        return self._plan.next_after(moment)


class Every(_Schedule):
    """Start the flow at a fixed interval, on a grid that begins with 1970-01-01T00:00:00Z."""

    type: ClassVar[str] = "schedule.every"
    examples: ClassVar[tuple[str, ...]] = ("id: often\ntype: schedule.every\ninterval: PT5M",)

    interval: Duration = Field(
        ge=timedelta(seconds=1),
        le=_LONGEST,
        description="How long from one planned time to the next, a second to a year.",
    )

    @property
    def zone_name(self) -> str:
        return "UTC"

    def next_after(self, moment: datetime) -> datetime:
        step = to_micros(from_micros(0) + self.interval)
        return from_micros((to_micros(moment) // step + 1) * step)


def _zone(name: str) -> ZoneInfo:
    if name.startswith(_OF_THE_MACHINE):
        raise ValueError(f'"{name}" is another zone on every machine; use an IANA name such as Europe/Paris')
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        from zoneinfo import available_timezones

        hint = did_you_mean(name, sorted(available_timezones())) or "use an IANA name such as Europe/Paris"
        raise ValueError(f'unknown time zone "{name}" ({hint})') from None
