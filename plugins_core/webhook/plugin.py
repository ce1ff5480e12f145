"""The hooks of the built-in plugin ``webhook``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import Trigger, hookimpl
from plugins_core.webhook.trigger import Webhook


@hookimpl
def register_triggers() -> Iterable[type[Trigger]]:
    return [Webhook]
