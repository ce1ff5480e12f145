"""The hooks of the built-in plugin ``script``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from hub.plugin import Task, hookimpl
from plugins_core.script import tasks
from plugins_core.script.leftovers import end_leftovers


@hookimpl
def register_tasks() -> Iterable[type[Task]]:
    return [tasks.Shell, tasks.Python, tasks.Node, tasks.Run]


@hookimpl
def register_cleaners() -> Iterable[Callable[[str], Awaitable[int]]]:
    return [end_leftovers]
