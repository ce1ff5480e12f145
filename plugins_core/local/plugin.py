"""The hooks of the built-in plugin ``local``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import FileStore, hookimpl
from plugins_core.local.file_store import LocalFileStore


@hookimpl
def register_file_stores() -> Iterable[type[FileStore]]:
    return [LocalFileStore]
