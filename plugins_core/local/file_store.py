"""Files below ``files/`` in the data folder: flushed, folder and all, before anybody is told their name."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from hub.plugin import FileStore, NotFound, StorageUnavailable, new_id
from plugins_core.local import beside, durable

_SCHEME = "hub:///"
_URI = re.compile(r"hub:///[0-9a-f]{2}/[A-Za-z0-9][A-Za-z0-9._-]{0,150}/[A-Za-z0-9._-]{1,200}\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\Z")
_LONGEST_NAME = 80
_BLOCK = 1024 * 1024
_BUSY = 4
"""Files under way at a time from which a process beside the hub is worth its memory."""


class LocalFileStore(FileStore):
    """A folder per owner, spread over folders by the owner's hash."""

    type = "local"

    def __init__(self, data_dir: Path, settings: Any = None) -> None:
        super().__init__(data_dir, settings)
        self._under_way = 0
        self._beside: beside.FileProcess | None = None

    async def close(self) -> None:
        process, self._beside = self._beside, None
        if process is not None:
            await process.close()

    async def put(self, owner: str, name: str, content: bytes) -> str:
        self._under_way += 1
        try:
            process = await self._process_for(content)
            if process is not None:
                with contextlib.suppress(beside.Gone):
                    uri, path = self._new(owner, name)
                    error = await process.keep(str(self._root), str(path), content)
                    if error is not None:
                        raise StorageUnavailable(f"the file store cannot keep {name}: {error}")
                    return uri
            return await asyncio.to_thread(self._put, owner, name, (content,))
        finally:
            self._under_way -= 1

    async def _process_for(self, content: bytes) -> beside.FileProcess | None:
        """The process beside the hub where it is to write this: many files come at a time, and it has room."""
        if len(content) > beside.LARGEST:
            return None
        if self._beside is not None and self._beside.is_gone:
            await self.close()
        if self._beside is None and self._under_way >= _BUSY:
            self._beside = beside.FileProcess.start()
        return self._beside if self._beside is not None and self._beside.has_room else None

    async def put_file(self, owner: str, name: str, file: BinaryIO) -> str:
        return await asyncio.to_thread(self._put, owner, name, iter(partial(file.read, _BLOCK), b""))

    async def get(self, uri: str) -> bytes:
        return await asyncio.to_thread(lambda: self._existing(uri).read_bytes())

    async def uris(self) -> AsyncIterator[str]:
        for spread in await asyncio.to_thread(lambda: sorted(self._root.glob("??"))):
            for path in await asyncio.to_thread(_files_below, spread):
                yield f"{_SCHEME}{path.relative_to(self._root)}"

    async def adopt(self, uri: str, file: BinaryIO) -> None:
        if not _URI.match(uri) or ".." in uri.split("/"):
            raise NotFound(f"{uri[:200]} is no name of a file in this file store")
        path = self._root / uri.removeprefix(_SCHEME)

        def adopt() -> None:
            if not path.exists():
                durable.keep(str(self._root), str(path), iter(partial(file.read, _BLOCK), b""))

        await asyncio.to_thread(adopt)

    async def delete(self, owners: Sequence[str]) -> None:
        def delete() -> None:
            for owner in owners:
                shutil.rmtree(self._folder(owner), ignore_errors=True)

        await asyncio.to_thread(delete)

    async def owners(self, *, before: datetime) -> list[str]:
        return await asyncio.to_thread(lambda: list(self._idle(before.timestamp())))

    async def path(self, uri: str) -> Path:
        return await asyncio.to_thread(self._existing, uri)

    @property
    def _root(self) -> Path:
        return self.data_dir / "files"

    def _folder(self, owner: str) -> Path:
        if not _OWNER.match(owner):
            raise ValueError(f'"{owner}" cannot own files')
        # a new folder is flushed on its own: spread, so that none ever holds too many
        return self._root / hashlib.sha256(owner.encode()).hexdigest()[:2] / owner

    def _new(self, owner: str, name: str) -> tuple[str, Path]:
        """The URI and the path of a new file."""
        folder = self._folder(owner)
        safe = _UNSAFE.sub("-", name)[-_LONGEST_NAME:].lstrip(".-") or "payload"
        path = folder / f"{new_id()}-{safe}"
        return f"{_SCHEME}{folder.parent.name}/{owner}/{path.name}", path

    def _put(self, owner: str, name: str, content: Iterable[bytes]) -> str:
        uri, path = self._new(owner, name)
        try:
            durable.keep(str(self._root), str(path), content)
        except OSError as error:
            raise StorageUnavailable(f"the file store cannot keep {name}: {error.strerror}") from error
        return uri

    def _idle(self, before: float) -> Iterator[str]:
        for spread in self._root.glob("??"):
            for folder in spread.iterdir():
                with contextlib.suppress(OSError):
                    # a folder's own time is that of the newest name in it
                    if folder.stat().st_mtime < before:
                        yield folder.name

    def _existing(self, uri: str) -> Path:
        path = (self._root / uri.removeprefix(_SCHEME)).resolve() if _URI.match(uri) else None
        if path is None or not path.is_relative_to(self._root.resolve()):
            raise NotFound(f"{uri[:200]} is not in this file store")
        if not path.is_file():
            raise NotFound(f"{uri} is not in this file store any more")
        return path


def _files_below(spread: Path) -> list[Path]:
    return sorted(spread.glob("*/*"))
