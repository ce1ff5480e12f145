"""Files as rows in chunks: every node of a hub sees every file, and one backup has both.

A file's own row comes last, in the transaction of its chunks: one that is there is whole and durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from hub.plugin import FileStore, InvalidInput, NotFound, Storage, StorageUnavailable, new_id, to_micros
from plugins_core.postgres.commits import NOW

_SCHEME = "hub:///"
_URI = re.compile(r"hub:///[0-9a-f]{2}/[A-Za-z0-9][A-Za-z0-9._-]{0,150}/[A-Za-z0-9._-]{1,200}\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}\Z")
_LONGEST_NAME = 80
_CHUNK = 1024 * 1024
_CACHE = "files-cache"


class PostgresFileStore(FileStore):
    """The database of the PostgreSQL storage."""

    type = "postgres"

    def __init__(self, data_dir: Path, settings: Any = None) -> None:
        super().__init__(data_dir, settings)
        self._storage: Any = None

    def use_storage(self, storage: Storage) -> None:
        if not hasattr(storage, "connection"):
            raise InvalidInput(
                'the file store "postgres" goes with a PostgreSQL storage, not with this one',
                hint="leave files: {store: …} out, or set storage: postgresql://…",
            )
        self._storage = storage

    async def put(self, owner: str, name: str, content: bytes) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(content), _CHUNK):
                yield content[start : start + _CHUNK]

        return await self._put(_uri(owner, name), owner, chunks())

    async def put_file(self, owner: str, name: str, file: BinaryIO) -> str:
        return await self._put(_uri(owner, name), owner, _read(file, name))

    async def adopt(self, uri: str, file: BinaryIO) -> None:
        owner = _checked(uri).split("/")[-2]
        with contextlib.suppress(NotFound):
            await self._size(uri)
            return  # it is there already
        await self._put(uri, owner, _read(file, uri))

    async def uris(self) -> AsyncIterator[str]:
        after = ""
        while True:
            async with self._connection() as connection:
                rows = await connection.fetch(
                    "SELECT uri FROM files WHERE uri > $1 ORDER BY uri LIMIT 1000", after
                )
            for row in rows:
                after = row[0]
                yield after
            if not rows:
                return

    async def get(self, uri: str) -> bytes:
        return b"".join([chunk async for chunk in self._chunks(uri)])

    async def path(self, uri: str) -> Path:
        _checked(uri)
        path = self.data_dir / _CACHE / uri.removeprefix(_SCHEME)
        if not await asyncio.to_thread(path.is_file):
            await self._fetch(uri, path)
        return path

    async def delete(self, owners: Sequence[str]) -> None:
        async with self._connection() as connection, connection.transaction():
            rows = await connection.fetch(
                "DELETE FROM files WHERE owner = ANY($1::text[]) RETURNING uri", list(owners)
            )
            await connection.execute(
                "DELETE FROM file_chunks WHERE uri = ANY($1::text[])", [row[0] for row in rows]
            )
        await asyncio.to_thread(self._forget_cached, [row[0] for row in rows])

    async def owners(self, *, before: datetime) -> list[str]:
        async with self._connection() as connection:
            rows = await connection.fetch(
                "SELECT owner FROM files GROUP BY owner HAVING max(created_at) < $1 ORDER BY owner",
                to_micros(before),
            )
        return [row[0] for row in rows]

    # how it is kept

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        if self._storage is None:
            raise StorageUnavailable("the file store has no storage yet")
        async with self._storage.connection() as connection:
            yield connection

    async def _put(self, uri: str, owner: str, chunks: AsyncIterator[bytes]) -> str:
        async with self._connection() as connection, connection.transaction():
            # whoever gives the file may be slow
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            size = number = 0
            async for chunk in chunks:
                await connection.execute(
                    "INSERT INTO file_chunks (uri, number, content) VALUES ($1, $2, $3)", uri, number, chunk
                )
                size, number = size + len(chunk), number + 1
            await connection.execute(
                f"INSERT INTO files (uri, owner, size, created_at) VALUES ($1, $2, $3, {NOW})",
                uri,
                owner,
                size,
            )
        return uri

    async def _size(self, uri: str) -> int:
        async with self._connection() as connection:
            size = await connection.fetchval("SELECT size FROM files WHERE uri = $1", _checked(uri))
        if size is None:
            raise NotFound(f"{uri} is not in this file store any more")
        return int(size)

    async def _chunks(self, uri: str) -> AsyncIterator[bytes]:
        size = await self._size(uri)
        for number in range(-(-size // _CHUNK)):
            async with self._connection() as connection:
                chunk = await connection.fetchval(
                    "SELECT content FROM file_chunks WHERE uri = $1 AND number = $2", uri, number
                )
            if chunk is None:
                raise NotFound(f"{uri} is not in this file store any more")
            yield bytes(chunk)

    async def _fetch(self, uri: str, path: Path) -> None:
        """Bring a file into the cache: whole, or not at all."""
        temporary = path.with_name(f".{new_id()}")
        try:
            await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
            with await asyncio.to_thread(_new_file, temporary) as file:
                async for chunk in self._chunks(uri):
                    await asyncio.to_thread(file.write, chunk)
            temporary.replace(path)
        except OSError as error:
            raise StorageUnavailable(f"the cache of files cannot be written: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _forget_cached(self, uris: Sequence[str]) -> None:
        for uri in uris:
            with contextlib.suppress(OSError):
                path = self.data_dir / _CACHE / uri.removeprefix(_SCHEME)
                path.unlink(missing_ok=True)
                path.parent.rmdir()


def _new_file(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


async def _read(file: BinaryIO, name: str) -> AsyncIterator[bytes]:
    while True:
        try:
            chunk = await asyncio.to_thread(file.read, _CHUNK)
        except OSError as error:
            raise StorageUnavailable(f"the file store cannot keep {name[:200]}: {error}") from error
        if not chunk:
            return
        yield chunk


def _uri(owner: str, name: str) -> str:
    if not _OWNER.match(owner):
        raise ValueError(f'"{owner}" cannot own files')
    safe = _UNSAFE.sub("-", name)[-_LONGEST_NAME:].lstrip(".-") or "payload"
    # spelled as the local store spells them, so that files may move from one to the other
    spread = hashlib.sha256(owner.encode()).hexdigest()[:2]
    return f"{_SCHEME}{spread}/{owner}/{new_id()}-{safe}"


def _checked(uri: str) -> str:
    """A URI of ours: its parts name nothing outside the cache. Raises ``NotFound``."""
    if not _URI.match(uri) or ".." in uri.split("/"):
        raise NotFound(f"{uri[:200]!r} is not in this file store")
    return uri
