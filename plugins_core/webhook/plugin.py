"""The hooks of the built-in plugin ``webhook``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import Notifier, Task, Trigger, hookimpl
from plugins_core.webhook.answers import RespondTask
from plugins_core.webhook.notifier import WebhookNotifier
from plugins_core.webhook.trigger import Webhook


@hookimpl
def register_triggers() -> Iterable[type[Trigger]]:
    return [Webhook]


@hookimpl
def register_tasks() -> Iterable[type[Task]]:
    return [RespondTask]


@hookimpl
def register_notifiers() -> Iterable[type[Notifier]]:
    return [WebhookNotifier]
