"""The hooks: what of this plugin the hub is told of. It finds this module by its entry point."""

from asynchub_apprise.notifier import Apprise
from hub.plugin import Notifier, hookimpl

HUB_API = 1


@hookimpl
def register_notifiers() -> list[type[Notifier]]:
    return [Apprise]
