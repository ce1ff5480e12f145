"""Payloads: what is too large for a row goes to the file store, and comes back when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.model import jsontext
from hub.plugin.file_store import FileStore

LARGEST_INLINE = 64 * 1024
_MARK = "$payload"


class Payloads:
    """Packs and unpacks mappings; a packed one is stored and flushed before any row names it."""

    def __init__(self, store: FileStore) -> None:
        self.store = store

    async def pack(self, name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """The value itself, or a reference to where it was put when its JSON text is over 64 KiB."""
        text = jsontext.dump_bytes(value)
        if len(text) <= LARGEST_INLINE:
            return value
        return {_MARK: await self.store.put(f"{name}.json", text), "size": len(text)}

    async def unpack(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """What ``pack`` was given."""
        uri = value.get(_MARK)
        if uri is None:
            return value
        loaded: Mapping[str, Any] = jsontext.loads(await self.store.get(uri))
        return loaded
