"""The hooks of the built-in plugin ``core``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import Task, Trigger, hookimpl
from plugins_core.core import chains, control, tasks, telling, triggers


@hookimpl
def register_tasks() -> Iterable[type[Task]]:
    return [
        tasks.Log,
        tasks.Return,
        tasks.FailExecution,
        control.Sequential,
        control.Parallel,
        control.If,
        control.Loop,
        control.Sleep,
        control.Switch,
        chains.Emit,
        chains.Subflow,
        telling.Validate,
        telling.Notify,
    ]


@hookimpl
def register_triggers() -> Iterable[type[Trigger]]:
    return [triggers.FlowFinished, triggers.EventMatched]
