"""The hooks of the built-in plugin ``file``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import Task, Trigger, hookimpl
from plugins_core.file import tasks
from plugins_core.file.trigger import FileArrival


@hookimpl
def register_triggers() -> Iterable[type[Trigger]]:
    return [FileArrival]


@hookimpl
def register_tasks() -> Iterable[type[Task]]:
    return [tasks.Read, tasks.Write, tasks.Move, tasks.Delete, tasks.ListFiles]
