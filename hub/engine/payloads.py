"""Payloads: what is too large for a row goes to the file store, and comes back when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hub.model import jsontext
from hub.plugin.file_store import FileStore

LARGEST_INLINE = 64 * 1024
_MARK = "$payload"


class Payloads:
    """Packs and unpacks mappings; a packed one is stored and flushed before any row names it."""

    def __init__(self, store: FileStore) -> None:
        self._store = store

    async def pack(self, owner: str, name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """The value itself, or a reference to where it was put when its JSON text is over 64 KiB.

        ``owner`` is the execution or event that it goes with.
        """
        text = jsontext.dump_bytes(value)
        if len(text) <= LARGEST_INLINE:
            return value
        return {_MARK: await self._store.put(owner, f"{name}.json", text), "size": len(text)}

    async def unpack(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """What ``pack`` was given."""
        uri = value.get(_MARK)
        if uri is None:
            return value
        loaded: Mapping[str, Any] = jsontext.loads(await self._store.get(uri))
        return loaded

    async def forget(self, owners: Sequence[str]) -> None:
        """Remove everything that belongs to these executions and events."""
        if owners:
            await self._store.delete(owners)

    async def owners(self, *, before: datetime) -> list[str]:
        """Who owns files, none of them newer than ``before``."""
        return await self._store.owners(before=before)
