"""The hooks of the built-in plugin ``schedule``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import Trigger, hookimpl
from plugins_core.schedule.triggers import CronSchedule, Every


@hookimpl
def register_triggers() -> Iterable[type[Trigger]]:
    return [CronSchedule, Every]
