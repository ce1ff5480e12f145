"""``hub doctor kafka``: connect to every cluster of the settings, and say what is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from hub.plugin import Examined, HubError
from plugins_core.kafka.client import Unreachable, topics_of
from plugins_core.kafka.settings import KafkaSettings, connection_to


async def examine(settings: Any, secret: Callable[[str], Any]) -> AsyncIterator[Examined]:
    """One finding for each cluster."""
    given = settings if isinstance(settings, KafkaSettings) else KafkaSettings()
    if not given.clusters:
        yield Examined(
            "clusters",
            "warn",
            "there are none",
            "write plugins: {kafka: {clusters: {default: …}}} in hub.yaml",
        )
    for name in given.clusters:
        check = f"cluster {name}"
        try:
            connection = await connection_to(name, None, given, secret)
            topics = await topics_of(connection)
        except Unreachable as error:
            yield Examined(check, "fail", error.message, None)
        except HubError as error:
            yield Examined(check, "fail", error.message, error.hint)
        else:
            own = [topic for topic in topics if not topic.startswith("__")]
            servers = ", ".join(connection.servers)
            yield Examined(
                check, "ok", f"{servers} answers: {len(own)} topic{'s' if len(own) != 1 else ''}", None
            )
