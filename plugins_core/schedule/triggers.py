"""Schedules: each planned time is one event, over restarts, re-deploys and jumps of the clock.

The delivery key is the planned time in UTC, so no two nodes, and no crash between two steps, can make two
events of one. The state holds the last planned time; the next one always follows from it, never from now.
"""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime, timedelta
from functools import cached_property
from typing import ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hub.plugin import (
    Delivery,
    Duration,
    Emit,
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
    Data = ScheduleData

    missed: Literal["skip", "last", "all"] = Field(
        "last",
        description="What to do about planned times that passed while the hub was down: nothing, the newest one, each.",
    )
    missed_window: Duration = Field(timedelta(hours=1), description="How far back missed times count.")
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
        while True:
            now = ctx.now()
            if now < last - _SET_BACK:
                # a clock that was wrong has been put right: what was planned meanwhile is known by its keys
                last = now
            for planned in self._due(last, now):
                await self._emit(planned, previous, emit)
                previous = planned
            # a clock that was put back must not bring planned times again
            last = max(last, now)
            await self._wait(ctx, last)

    def _due(self, last: datetime, now: datetime) -> list[datetime]:
        return due(
            self.next_after,
            last=last,
            now=now,
            missed=self.missed,
            window=self.missed_window,
            cap=self.missed_cap,
        )

    async def _wait(self, ctx: TriggerContext, last: datetime) -> None:
        planned = self.next_after(last)
        while last - _SET_BACK <= ctx.now() < planned:
            await ctx.sleep_until(planned)

    async def _emit(self, planned: datetime, previous: datetime | None, emit: Emit) -> None:
        local = planned.astimezone(ZoneInfo(self.zone_name))
        data = {
            "date": iso(planned),
            "localDate": local.isoformat(timespec="seconds"),
            "next": iso(self.next_after(planned)),
            "previous": iso(previous) if previous is not None else None,
            "timezone": self.zone_name,
        }
        delivery = Delivery(iso(planned), window=max(_REMEMBERED, 2 * self.missed_window))
        await emit(Occurrence(data, time=planned, delivery=delivery), state={_LAST: iso(planned)})


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

    interval: Duration = Field(description="How long from one planned time to the next, at least a second.")

    @field_validator("interval")
    @classmethod
    def _is_long_enough(cls, value: timedelta) -> timedelta:
        if value < timedelta(seconds=1):
            raise ValueError("an interval is at least PT1S")
        return value

    @property
    def zone_name(self) -> str:
        return "UTC"

    def next_after(self, moment: datetime) -> datetime:
        step = to_micros(from_micros(0) + self.interval)
        return from_micros((to_micros(moment) // step + 1) * step)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        from zoneinfo import available_timezones

        hint = did_you_mean(name, sorted(available_timezones())) or "use an IANA name such as Europe/Paris"
        raise ValueError(f'unknown time zone "{name}" ({hint})') from None
