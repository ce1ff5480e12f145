"""The file store as an execution or an event sees it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from hub.plugin.context import TaskFiles
from hub.plugin.file_store import FileStore


class OwnedFiles(TaskFiles):
    """``TaskFiles`` over the hub's file store: what is put goes when its owner goes."""

    def __init__(self, store: FileStore, owner: str) -> None:
        self._store = store
        self._owner = owner

    async def put(self, name: str, content: bytes | Path | BinaryIO) -> str:
        if isinstance(content, bytes):
            return await self._store.put(self._owner, name, content)
        if isinstance(content, Path):
            with content.open("rb") as file:
                return await self._store.put_file(self._owner, name, file)
        return await self._store.put_file(self._owner, name, content)

    async def get(self, uri: str) -> bytes:
        return await self._store.get(uri)

    async def path(self, uri: str) -> Path:
        return await self._store.path(uri)
