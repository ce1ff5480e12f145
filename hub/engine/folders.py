"""Flow folders: every ``*.hub.yaml`` below them is a flow, watched while the hub runs.

A changed file is a new revision; a bad one keeps the last good revision and says why; a removed one retires
its flow and keeps the history. The file system's notification is a hint, a scan is the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog
from watchfiles import awatch

from hub.config.lint import is_dangling
from hub.engine.catalog import FlowCatalog
from hub.errors import HubError, InvalidFlow, Position, Problem, StorageError
from hub.model.ids import FlowKey

log = structlog.get_logger("hub.flows")

SUFFIX = ".hub.yaml"
_LARGEST = 1024 * 1024
_RESCAN_MS = 5_000
_SETTLE_MS = 50
_NOWHERE = (0, 0, 0)


class FlowFolders:
    """Keeps the catalogue in line with the files."""

    def __init__(self, folders: Sequence[Path], catalog: FlowCatalog) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._catalog = catalog
        # what each file held when it was last looked at, and the flow it gave
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._flow_of: dict[str, FlowKey] = {}

    async def scan(self) -> None:
        """Read what is new or changed, retire what is gone."""
        found: dict[str, tuple[int, int, int]] = {}
        for path in self._files():
            try:
                stat = path.stat()
            except OSError:
                if is_dangling(path):
                    # looked at once, so that the log says what is wrong; a flow it gave before stays
                    found[str(path)] = _NOWHERE
                continue
            found[str(path)] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        gone = await self._gone(found)
        for name, mark in found.items():
            if self._seen.get(name) != mark:
                await self._read(name)
                self._seen[name] = mark
        for name, key in gone:
            await self._retire(name, key)

    async def watch(self) -> None:
        """Scan again after every change, and now and then, until cancelled."""
        existing = [folder for folder in self._folders if folder.is_dir()]
        if not existing:
            while True:
                await asyncio.sleep(_RESCAN_MS / 1000)
                await self.scan()
        async for _ in awatch(
            *existing, debounce=_SETTLE_MS, step=10, rust_timeout=_RESCAN_MS, yield_on_timeout=True
        ):
            await self.scan()

    def _files(self) -> Iterator[Path]:
        for folder in self._folders:
            if folder.is_dir():
                yield from sorted(
                    path for path in folder.rglob(f"*{SUFFIX}") if path.is_file() or is_dangling(path)
                )

    async def _gone(self, found: dict[str, tuple[int, int, int]]) -> list[tuple[str, FlowKey]]:
        if not self._seen:
            # the first scan: whatever belongs to a file of these folders that is not there any more
            origins = {record.origin: record.key for record in self._catalog.records() if record.origin}
            self._flow_of = {origin: key for origin, key in origins.items() if origin in found}
            return [(origin, key) for origin, key in origins.items() if origin not in found]
        return [
            (path, self._flow_of[path]) for path in self._seen.keys() - found.keys() if path in self._flow_of
        ]

    async def _read(self, path: str) -> None:
        file = Path(path)
        try:
            raw = file.read_bytes()
            if len(raw) > _LARGEST:
                raise InvalidFlow([Problem("the file is larger than 1 MiB", Position(1, 1), file=path)])
            source = raw.decode("utf-8")
            if self._is_known(path, source):
                return
            record, _, changed = await self._catalog.put(source, origin=path, file=path)
        except OSError as error:
            log.warning("flow file cannot be read", file=path, error=str(error))
            return
        except UnicodeDecodeError as error:
            self._break(path, (Problem(f"not UTF-8: {error.reason}", Position(1, 1), file=path),))
            return
        except InvalidFlow as error:
            self._break(path, error.problems)
            return
        except StorageError:
            raise
        except HubError as error:
            self._break(path, (Problem(error.message, Position(1, 1), error.hint, file=path),))
            return
        except Exception as error:
            # one file's fault, ours or a plugin's, must not end the hub that reads them all
            log.exception("internal error while loading a flow", file=path)
            self._break(
                path,
                (
                    Problem(
                        f"internal error while loading: {type(error).__name__}", Position(1, 1), file=path
                    ),
                ),
            )
            return
        self._catalog.broken.pop(path, None)
        before = self._flow_of.get(path)
        self._flow_of[path] = record.key
        if before is not None and before != record.key:
            await self._retire(path, before)
            self._flow_of[path] = record.key
        if changed:
            log.info("flow loaded", flow=str(record.key), revision=record.revision, file=path)

    def _is_known(self, path: str, source: str) -> bool:
        """Whether the storage holds this very text for the file already: then it is not parsed now."""
        key = self._flow_of.get(path)
        record = self._catalog.get(key) if key is not None else None
        if record is None or record.origin != path or record.source_hash != self._catalog.digest(source):
            return False
        self._catalog.broken.pop(path, None)
        return True

    def _break(self, path: str, problems: Sequence[Problem]) -> None:
        self._catalog.broken[path] = tuple(problems)
        kept = self._flow_of.get(path)
        log.error(
            "flow file cannot be used",
            file=path,
            problem=problems[0].text(),
            kept=f"the last good revision of {kept} stays in use" if kept else "nothing",
        )

    async def _retire(self, path: str, key: FlowKey) -> None:
        self._seen.pop(path, None)
        self._flow_of.pop(path, None)
        self._catalog.broken.pop(path, None)
        record = self._catalog.get(key)
        if record is not None and record.origin == path:
            await self._catalog.retire(key)
            log.info("flow retired: its file is gone", flow=str(key), file=path)
