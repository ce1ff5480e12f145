"""Make what the hub itself uses of the plugins: secret sources, the file store, listeners, cleaners.

Called at composition. What a plugin's code raises here becomes a message that names the plugin; the hub does
without the part wherever it can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import structlog

from hub.errors import HubError, PluginError
from hub.plugin.file_store import FileStore
from hub.plugin.listener import Listener
from hub.plugin.secrets import SecretSource
from hub.registry.loader import stdout_kept_free
from hub.registry.registry import Cleaner, Registry

log = structlog.get_logger("hub.plugins")

_LONGEST_CLEANING = 60.0
"""Seconds; the hub starts without a cleaner that never ends."""


def make_secret_sources(
    registry: Registry, environ: Mapping[str, str], folder: Path
) -> tuple[list[SecretSource], Registry]:
    """Every secret source that can be used, and the registry with what is wrong with the others in its reports.

    Raises ``HubError`` for what the user has to mend, a file that cannot be read.
    """
    made: list[SecretSource] = []
    for kind in registry.secret_sources:
        try:
            with stdout_kept_free(registry.owner_of(kind)):
                source = kind(environ, folder, registry.settings_of(kind))
                # asked for here, where whose fault it is can be said
                if not all(isinstance(value, str) for value in source.known_values()):
                    raise TypeError("known_values gives something else than text")
            made.append(source)
        except HubError:
            raise
        except Exception as error:
            fault = f'secret source "{kind.type}" cannot be used: {_spelled(error)}'
            log.error(
                "plugin fails; its secret source is left out", plugin=registry.owner_of(kind), error=fault
            )
            registry = registry.with_fault(registry.owner_of(kind), fault)
    return made, registry


def make_listeners(registry: Registry) -> tuple[list[Listener], Registry]:
    """Every listener that can be used, and the registry with what is wrong with the others in its reports."""
    made: list[Listener] = []
    for kind in registry.listeners:
        plugin = registry.owner_of(kind)
        try:
            with stdout_kept_free(plugin):
                made.append(kind())
        except Exception as error:
            fault = f'listener "{kind.type}" cannot be used: {_spelled(error)}'
            log.error("plugin fails; its listener is left out", plugin=plugin, error=fault)
            registry = registry.with_fault(plugin, fault)
    return made, registry


def make_file_store(registry: Registry, type_name: str, data_dir: Path) -> FileStore:
    """The file store of a type. Raises ``PluginError`` naming its plugin, ``HubError`` as the store raises it."""
    kind = registry.file_stores[type_name]
    try:
        with stdout_kept_free(registry.owner_of(kind)):
            return kind(data_dir, registry.settings_of(kind))
    except HubError:
        raise
    except Exception as error:
        raise PluginError(
            f'plugin "{registry.owner_of(kind)}": the file store "{type_name}" cannot be used: {_spelled(error)}'
        ) from error


async def run_cleaners(registry: Registry, instance: str) -> int:
    """End what a killed hub left behind; answers how many processes that were. A cleaner's failure is logged."""
    ended = 0
    for plugin, cleaners in registry.cleaners.items():
        ended += sum([await _clean(plugin, cleaner, instance) for cleaner in cleaners])
    return ended


async def _clean(plugin: str, cleaner: Cleaner, instance: str) -> int:
    try:
        async with asyncio.timeout(_LONGEST_CLEANING):
            return int(await cleaner(instance))
    except Exception as error:
        log.error("plugin fails to end what a killed hub left behind", plugin=plugin, error=_spelled(error))
        return 0


def _spelled(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
