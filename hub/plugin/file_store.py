"""File stores: where payloads and files that are too large for a row live.

Everything in a store belongs to an owner, the execution or event that it came with: it goes when the owner
goes.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hub.errors import Conflict

if TYPE_CHECKING:
    from hub.plugin.storage import Storage


class FileStore(ABC):
    """Keeps bytes under a URI of its own making.

    Raises ``StorageUnavailable`` when nothing can be stored for now.
    """

    type: str
    """The plugin's name."""

    def __init__(self, data_dir: Path, settings: Any = None) -> None:
        """``settings`` are its plugin's: an instance of the ``settings_model``, None where it has none."""
        self.data_dir = data_dir
        self.settings = settings

    def use_storage(self, storage: Storage) -> None:  # noqa: B027 - most stores need none
        """Be given the hub's storage, before anything else: for a store that keeps its files there.

        Raises ``HubError`` when it does not go with it.
        """

    async def close(self) -> None:  # noqa: B027 - most stores hold nothing
        """Let go of what it holds: the hub is done with it."""

    @abstractmethod
    async def put(self, owner: str, name: str, content: bytes) -> str:
        """Store ``content``; returns its URI once it is flushed, folder and all.

        Raises ``StorageUnavailable`` when it cannot be stored now, and leaves nothing behind then.
        """

    async def put_file(self, owner: str, name: str, file: BinaryIO) -> str:
        """Store the rest of an open file; a store that need not hold it in memory says how."""
        return await self.put(owner, name, await asyncio.to_thread(file.read))

    async def uris(self) -> AsyncIterator[str]:
        """Every file there is. Raises ``Conflict`` where it cannot say."""
        raise Conflict(f"the files of a {self.type} file store cannot be listed")
        yield ""

    async def adopt(self, uri: str, file: BinaryIO) -> None:
        """Keep the rest of an open file under the URI that another store gave it; one that is there stays.

        Raises ``Conflict`` where its URIs are others.
        """
        raise Conflict(f"files cannot be moved into a {self.type} file store: its names are others")

    @abstractmethod
    async def get(self, uri: str) -> bytes:
        """What was stored. Raises ``NotFound``."""

    @abstractmethod
    async def path(self, uri: str) -> Path:
        """A local file with what was stored, to be read and never changed. Raises ``NotFound``.

        A store that keeps its content elsewhere fetches it into a cache below the data folder.
        """

    @abstractmethod
    async def delete(self, owners: Sequence[str]) -> None:
        """Remove everything of these owners; unknown ones are fine."""

    @abstractmethod
    async def owners(self, *, before: datetime) -> list[str]:
        """The owners of whose files none is newer than ``before``."""
