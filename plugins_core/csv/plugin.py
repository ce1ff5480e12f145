"""The hooks of the built-in plugin ``csv``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import Task, hookimpl
from plugins_core.csv.tasks import Read


@hookimpl
def register_tasks() -> Iterable[type[Task]]:
    return [Read]
