"""Files below ``files/`` in the data folder: flushed, folder and all, before anybody is told their name."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from hub.plugin import FileStore, NotFound, StorageUnavailable, new_id

_SCHEME = "hub:///"
_URI = re.compile(r"hub:///[0-9a-f]{2}/[A-Za-z0-9][A-Za-z0-9._-]{0,150}/[A-Za-z0-9._-]{1,200}\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\Z")
_LONGEST_NAME = 80
_BLOCK = 1024 * 1024


class LocalFileStore(FileStore):
    """A folder per owner, spread over folders by the owner's hash."""

    type = "local"

    async def put(self, owner: str, name: str, content: bytes) -> str:
        return await asyncio.to_thread(self._put, owner, name, io.BytesIO(content))

    async def put_file(self, owner: str, name: str, file: BinaryIO) -> str:
        return await asyncio.to_thread(self._put, owner, name, file)

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
                self._make(path.parent)
                self._write(path, file)
                _flush_folder(path.parent)

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

    def _put(self, owner: str, name: str, source: BinaryIO) -> str:
        folder = self._folder(owner)
        safe = _UNSAFE.sub("-", name)[-_LONGEST_NAME:].lstrip(".-") or "payload"
        path = folder / f"{new_id()}-{safe}"
        try:
            self._make(folder)
            self._write(path, source)
            _flush_folder(folder)
        except BaseException as error:
            # half a file that nobody will ever name: the disk is full, or who gave it has gone
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise StorageUnavailable(f"the file store cannot keep {name}: {error.strerror}") from error
            raise
        return f"{_SCHEME}{folder.parent.name}/{owner}/{path.name}"

    def _write(self, path: Path, source: BinaryIO) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
            file.flush()
            os.fsync(file.fileno())

    def _make(self, folder: Path) -> None:
        missing = [one for one in (folder, folder.parent, self._root) if not one.is_dir()]
        for one in reversed(missing):
            one.mkdir(exist_ok=True, mode=0o700)
            # a new name is durable only once its folder is flushed too
            _flush_folder(one.parent)

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


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
