"""Move a hub's state: from one storage to another, or into a backup file and out of it again.

A backup is JSON lines, compressed: what it is, then rows of one table after another, then files, then how much
there was, so that one that broke off is never taken for a whole one.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from hub.clock import iso
from hub.errors import InvalidInput, NotFound
from hub.plugin.file_store import FileStore
from hub.plugin.portable import TABLES, Rows
from hub.plugin.storage import Storage

_FORMAT = 1
_PIECE = 512 * 1024
_MOST_LINE = 256 * 1024 * 1024

Said = Callable[[str, int], None]
"""Told what is moved, and how many of it so far."""


def _silent(what: str, count: int) -> None:
    """Told to nobody."""


async def copy(
    source: tuple[Storage, FileStore], target: tuple[Storage, FileStore], *, said: Said = _silent
) -> Counter[str]:
    """Copy everything into an empty storage; answers how much of each. Raises ``Conflict``.

    Files first: a row never names one that is not there.
    """
    moved: Counter[str] = Counter()
    from_storage, from_files = source
    to_storage, to_files = target
    async for uri in from_files.uris():
        with (await from_files.path(uri)).open("rb") as file:
            await to_files.adopt(uri, file)
        moved["files"] += 1
        said("files", moved["files"])
    async with from_storage.dumped() as rows, to_storage.loading() as load:
        async for some in rows:
            await load.take(some)
            moved[some.table] += len(some.rows)
            said(some.table, moved[some.table])
    return moved


async def back_up(
    storage: Storage, files: FileStore, path: Path, *, version: str, at: Any, said: Said = _silent
) -> Counter[str]:
    """Write everything into a new file; answers how much of each. It is there whole, or not at all."""
    moved: Counter[str] = Counter()
    handle, name = await asyncio.to_thread(tempfile.mkstemp, dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
            _write(packed, {"asynchub": "backup", "format": _FORMAT, "version": version, "at": iso(at)})
            async with storage.dumped() as rows:
                async for some in rows:
                    await asyncio.to_thread(_write_rows, packed, some)
                    moved[some.table] += len(some.rows)
                    said(some.table, moved[some.table])
            async for uri in files.uris():
                try:
                    path_of = await files.path(uri)
                except NotFound:
                    continue  # its owner was removed since it was named
                await asyncio.to_thread(_write_file, packed, uri, path_of)
                moved["files"] += 1
                said("files", moved["files"])
            _write(packed, {"end": dict(moved)})
            packed.close()
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return moved


async def restore(path: Path, storage: Storage, files: FileStore, *, said: Said = _silent) -> Counter[str]:
    """Put a backup into an empty storage; answers how much of each. Raises ``Conflict``, ``InvalidInput``."""
    await asyncio.to_thread(_check, path)
    moved: Counter[str] = Counter()
    with gzip.open(path, "rb") as packed:
        async with storage.loading() as load:
            lines = _lines(packed)
            for line in lines:
                if "rows" in line:
                    await load.take(Rows(line["table"], line["rows"]))
                    moved[line["table"]] += len(line["rows"])
                    said(line["table"], moved[line["table"]])
                elif "file" in line:
                    with _pieces(lines, line["pieces"]) as file:
                        await files.adopt(line["file"], file)
                    moved["files"] += 1
                    said("files", moved["files"])
    return moved


# the file


def _write(packed: gzip.GzipFile, line: dict[str, Any]) -> None:
    packed.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def _write_rows(packed: gzip.GzipFile, some: Rows) -> None:
    _write(packed, {"table": some.table, "rows": [list(row) for row in some.rows]})


def _write_file(packed: gzip.GzipFile, uri: str, path: Path) -> None:
    size = path.stat().st_size
    _write(packed, {"file": uri, "size": size, "pieces": -(-size // _PIECE)})
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            _write(packed, {"piece": base64.b64encode(piece).decode()})


def _lines(packed: BinaryIO | gzip.GzipFile) -> Iterator[dict[str, Any]]:
    while line := packed.readline(_MOST_LINE):
        yield json.loads(line)


def _pieces(lines: Iterator[dict[str, Any]], count: int) -> BinaryIO:
    file = tempfile.SpooledTemporaryFile(max_size=8 * _PIECE)
    for _ in range(count):
        file.write(base64.b64decode(next(lines)["piece"]))
    file.seek(0)
    return file  # type: ignore[return-value]


def _check(path: Path) -> None:
    """Read a backup through before anything of it is stored. Raises ``InvalidInput``."""
    counted: Counter[str] = Counter()
    try:
        with gzip.open(path, "rb") as packed:
            lines = _lines(packed)
            head = next(lines, {})
            if head.get("asynchub") != "backup":
                raise InvalidInput(f"{path} is no backup of an asynchub")
            if head.get("format") != _FORMAT:
                raise InvalidInput(
                    f"{path} is a backup of format {head.get('format')}; this asynchub reads {_FORMAT}",
                    hint="upgrade asynchub",
                )
            end = None
            for line in lines:
                if "rows" in line and line["table"] in TABLES:
                    counted[line["table"]] += len(line["rows"])
                elif "file" in line:
                    counted["files"] += 1
                end = line.get("end")
    except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"{path} cannot be read as a backup: {error}") from error
    if end is None or Counter(end) != counted:
        raise InvalidInput(f"{path} is not whole: it breaks off before its end", hint="make the backup again")
