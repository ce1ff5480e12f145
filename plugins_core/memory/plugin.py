"""The hooks of the built-in plugin ``memory``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import Storage, hookimpl
from plugins_core.memory.storage import MemoryStorage


@hookimpl
def register_storages() -> Iterable[type[Storage]]:
    return [MemoryStorage]
