"""The hooks of the built-in plugin ``sqlite``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import Storage, hookimpl


@hookimpl
def register_storages() -> Iterable[type[Storage]]:
    from plugins_core.sqlite.storage import SqliteStorage

    return [SqliteStorage]
