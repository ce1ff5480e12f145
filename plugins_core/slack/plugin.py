"""The hooks of the built-in plugin ``slack``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import Notifier, hookimpl
from plugins_core.slack.notifier import Slack


@hookimpl
def register_notifiers() -> Iterable[type[Notifier]]:
    return [Slack]
