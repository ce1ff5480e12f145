"""The hooks of the built-in plugin ``kafka``."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from pydantic import BaseModel

from hub.plugin import Check, Task, Trigger, hookimpl
from plugins_core.kafka.examining import examine
from plugins_core.kafka.publish import Publish
from plugins_core.kafka.settings import KafkaSettings
from plugins_core.kafka.trigger import Messages

if find_spec("aiokafka") is None:
    # asked for now, imported with the first connection: no start waits for it
    raise ModuleNotFoundError("No module named 'aiokafka'", name="aiokafka")


@hookimpl
def register_tasks() -> Iterable[type[Task]]:
    return [Publish]


@hookimpl
def register_triggers() -> Iterable[type[Trigger]]:
    return [Messages]


@hookimpl
def register_checks() -> Iterable[Check]:
    return [examine]


@hookimpl
def settings_model() -> type[BaseModel]:
    return KafkaSettings
