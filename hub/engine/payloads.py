"""Payloads: what is too large for a row goes to the file store, and comes back when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hub.errors import InvalidInput, NotFound
from hub.model import jsontext
from hub.plugin.file_store import FileStore

LARGEST_INLINE = 64 * 1024
_MARK = "$payload"
_SIZE = "size"


class Payloads:
    """Packs and unpacks mappings; a packed one is stored and flushed before any row names it."""

    def __init__(self, store: FileStore) -> None:
        self.store = store

    def too_large(self, value: Mapping[str, Any]) -> bytes | None:
        """The JSON text of a value that is to be put away; None for one that stays as it is.

        One is put away when its text is over 64 KiB, and when it holds the mark of a reference, so that nobody's
        data is taken for one. Raises ``InvalidInput`` for data that is nested too deep.
        """
        if jsontext.is_flat(value) and _MARK not in value:
            return None
        try:
            text = jsontext.dump_bytes(value)
        except RecursionError:
            raise InvalidInput("data is nested too deep to be stored") from None
        return None if len(text) <= LARGEST_INLINE and _MARK not in value else text

    async def put_away(self, owner: str, name: str, text: bytes) -> Mapping[str, Any]:
        """A reference to where a value's text was put; ``owner`` is the execution or event that it goes with.

        Raises ``StorageUnavailable``.
        """
        return {_MARK: await self.store.put(owner, f"{name}.json", text), _SIZE: len(text)}

    async def pack(self, owner: str, name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """The value itself, or a reference to where it was put. Raises what the two steps of it do."""
        text = self.too_large(value)
        return value if text is None else await self.put_away(owner, name, text)

    async def unpack(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """What ``pack`` was given. Raises ``NotFound`` when its file cannot be read any more."""
        if not is_put_away(value):
            return value
        uri = value[_MARK]
        try:
            loaded: Mapping[str, Any] = jsontext.loads(await self.store.get(uri))
        except (OSError, ValueError) as error:
            raise NotFound(f"{uri} cannot be read any more: {error}") from error
        return loaded

    async def forget(self, owners: Sequence[str]) -> None:
        """Remove everything that belongs to these executions and events."""
        if owners:
            await self.store.delete(owners)

    async def owners(self, *, before: datetime) -> list[str]:
        """Who owns files, none of them newer than ``before``."""
        return await self.store.owners(before=before)


def is_put_away(value: Mapping[str, Any]) -> bool:
    """Whether a stored value is only a reference, in exactly the form that ``pack`` gives."""
    return len(value) == 2 and isinstance(value.get(_MARK), str) and isinstance(value.get(_SIZE), int)


def size_of(value: Mapping[str, Any]) -> int:
    """How many bytes of JSON text stand behind a reference."""
    return int(value[_SIZE])
