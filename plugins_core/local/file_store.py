"""Payloads as files: flushed, folder and all, before anybody is told their name."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
from pathlib import Path
from typing import BinaryIO

from hub.plugin import FileStore, NotFound, new_id

_SCHEME = "hub:///"
_URI = re.compile(r"hub:///[0-9a-f]{2}/[A-Za-z0-9._-]{1,200}\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 80
_BLOCK = 1024 * 1024


class LocalFileStore(FileStore):
    """Files below ``files/`` in the data folder, spread over folders by their newest digits."""

    type = "local"

    async def put(self, name: str, content: bytes) -> str:
        return await asyncio.to_thread(self._put, name, io.BytesIO(content))

    async def put_file(self, name: str, file: BinaryIO) -> str:
        return await asyncio.to_thread(self._put, name, file)

    async def get(self, uri: str) -> bytes:
        return await asyncio.to_thread(self._get, uri)

    async def path(self, uri: str) -> Path:
        return await asyncio.to_thread(self._existing, uri)

    @property
    def _root(self) -> Path:
        return self.data_dir / "files"

    def _put(self, name: str, source: BinaryIO) -> str:
        unique = new_id()
        safe = _UNSAFE.sub("-", name)[-_LONGEST_NAME:].lstrip(".-") or "payload"
        # the last digits of a version 7 id are random: the folders fill evenly
        folder = self._root / unique[-2:]
        self._make(folder)
        path = folder / f"{unique}-{safe}"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(handle, "wb", closefd=False) as file:
                shutil.copyfileobj(source, file, _BLOCK)
            os.fsync(handle)
        except BaseException:
            # half a file that nobody will ever name: the disk is full, or who gave it has gone
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        _flush_folder(folder)
        return f"{_SCHEME}{folder.name}/{path.name}"

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _flush_folder(self._root)
            _flush_folder(self.data_dir)

    def _get(self, uri: str) -> bytes:
        try:
            return self._existing(uri).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"{uri} is not in this file store any more") from None

    def _existing(self, uri: str) -> Path:
        path = (self._root / uri.removeprefix(_SCHEME)).resolve() if _URI.match(uri) else None
        if path is None or not path.is_relative_to(self._root.resolve()):
            raise NotFound(f"{uri[:200]} is not in this file store")
        if not path.is_file():
            raise NotFound(f"{uri} is not in this file store any more")
        return path


def _flush_folder(folder: Path) -> None:
    """A new name is durable only once its folder is flushed too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
