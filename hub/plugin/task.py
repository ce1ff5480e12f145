"""Tasks: what a flow's steps do."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel

from hub.plugin.component import Component
from hub.plugin.context import TaskContext

COMMON = ("id", "type", "when", "retry", "timeout", "allowFailure", "description", "disabled")
"""The properties that every task has in a flow, whatever its type; no field is called like one of them."""


class Task(Component):
    """One step of a flow.

    An instance lives for one attempt, its fields already rendered. ``run`` may be a plain ``def``: it then
    runs in a thread. What it returns are the task's outputs: the ``Output`` model, a mapping, or None.
    """

    Output: ClassVar[type[BaseModel] | None] = None
    """The model of what ``run`` returns, where it is known."""

    def run(self, ctx: TaskContext) -> Any:
        """Do the work, as ``async def`` or as ``def``.

        Raise ``Retry``, ``Skip``, ``Fail`` or ``Wait`` to steer; any other error may be retried.
        """
        raise NotImplementedError
