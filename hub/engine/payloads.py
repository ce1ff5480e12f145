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

    def fits(self, value: Mapping[str, Any]) -> bool:
        """Whether ``pack`` would answer the value itself. Raises ``InvalidInput``, as it does."""
        return _fits(value, _text(value))

    async def pack(self, owner: str, name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """The value itself, or a reference to where it was put when its JSON text is over 64 KiB.

        ``owner`` is the execution or event that it goes with. A value that holds the reference's own mark is
        put away too, so that nobody's data is taken for one. Raises ``StorageUnavailable``, and
        ``InvalidInput`` for data that is nested too deep.
        """
        text = _text(value)
        if _fits(value, text):
            return value
        return {_MARK: await self.store.put(owner, f"{name}.json", text), _SIZE: len(text)}

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


def _text(value: Mapping[str, Any]) -> bytes:
    try:
        return jsontext.dump_bytes(value)
    except RecursionError:
        raise InvalidInput("data is nested too deep to be stored") from None


def _fits(value: Mapping[str, Any], text: bytes) -> bool:
    return len(text) <= LARGEST_INLINE and _MARK not in value


def is_put_away(value: Mapping[str, Any]) -> bool:
    """Whether a stored value is only a reference, in exactly the form that ``pack`` gives."""
    return len(value) == 2 and isinstance(value.get(_MARK), str) and isinstance(value.get(_SIZE), int)


def size_of(value: Mapping[str, Any]) -> int:
    """How many bytes of JSON text stand behind a reference."""
    return int(value[_SIZE])
