"""The hooks of the built-in plugin ``http``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import Task, hookimpl
from plugins_core.http.download import Download
from plugins_core.http.tasks import Request


@hookimpl
def register_tasks() -> Iterable[type[Task]]:
    return [Request, Download]
