"""Flow folders: every ``*.hub.yaml`` below them is a flow, watched while the hub runs.

A changed file is a new revision; a bad one keeps the last good revision and says why; a removed one retires
its flow and keeps the history; a renamed or moved one takes its flow along. The file system's notification is
a hint, a scan is the truth. What cannot be read is no proof that anything is gone.

Of several hubs over one storage each has folders of its own. The same content is the same revision, whatever its
path; a content that was never in use is a new one, whoever brings it. One that was in use and is not any more is
an older one that somebody has still to replace: it is reported, and never put back, so that hubs whose folders
differ do not overwrite each other by turns.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from watchfiles import watch

from hub.engine.catalog import FlowCatalog, Stored
from hub.errors import (
    Conflict,
    FlowLoop,
    HubError,
    InvalidFlow,
    Position,
    Problem,
    StorageError,
    StorageOverloaded,
    StorageUnavailable,
)
from hub.model.ids import FlowKey

log = structlog.get_logger("hub.flows")

SUFFIX = ".hub.yaml"
_LARGEST = 1024 * 1024
_READ_AT_ONCE = 32
"""Files that are held in memory, read and not taken yet."""
_RESCAN = 5.0
"""Seconds between scans that nothing asked for."""
_LOOK_FOR_FOLDERS = 1.0
"""Seconds between looks for a folder that does not exist yet."""
_SETTLE_MS = 50
_KEPT = "the flows of its files stay as they are"

Mark = tuple[int, int, int]
"""What tells one state of a file from another, without reading it."""


@dataclass(slots=True)
class Look:
    """What the folders hold at one moment."""

    files: dict[str, Mark | None] = field(default_factory=dict)
    """None for a file that cannot even be examined."""
    unreadable: dict[str, Problem] = field(default_factory=dict)
    """Folders that cannot be read, and why; files whose names no text can hold."""
    missing: dict[Path, str] = field(default_factory=dict)
    """Those of the settings that are no folder, and why."""

    def not_read(self, path: str, message: str, hint: str) -> None:
        """Note what is there and cannot be read; the name may be no text at all."""
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in path)
        self.unreadable[shown] = Problem(message, Position(1, 1), hint, file=shown)

    def hides(self, path: str) -> bool:
        """Whether a file may be there unseen."""
        return any(path.startswith(folder + os.sep) for folder in self.unreadable)


class FlowFolders:
    """Keeps the catalogue in line with the files."""

    def __init__(
        self,
        folders: Sequence[Path],
        catalog: FlowCatalog,
        load_tasks: Callable[[], Awaitable[AbstractSet[str]]] | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._catalog = catalog
        # called before any flow is read; answers the types that are other ones now
        self._load_tasks = load_tasks
        # what each file held when its text was last settled, and the flow it gave
        self._seen: dict[str, Mark] = {}
        self._flow_of: dict[str, FlowKey] = {}
        self._has_begun = False
        self._is_shared = is_shared
        # what each file's text was when it was last taken, where several hubs have folders
        self._digests: dict[str, str] = {}
        # files that could not be taken for no fault of their text: they are read again at every scan
        self._refused: set[str] = set()
        self._look = Look()
        self._poke = asyncio.Event()

    async def scan(self) -> None:
        """Read what is new or changed, retire what is gone."""
        types = await self._load_tasks() if self._load_tasks is not None else set()
        if not self._folders:
            return
        if not self._has_begun:
            records = self._catalog.records()
            self._flow_of = {
                record.origin: record.key
                for record in records
                if record.origin and self._is_ours(record.origin)
            }
            self._has_begun = True
        if types:
            # what could not be used for want of one of them may be by now
            for path in self._catalog.broken:
                self._seen.pop(path, None)
        look = await asyncio.to_thread(_look_into, self._folders)
        self._say_missing(look)
        self._look = look
        left: list[tuple[str, FlowKey]] = []
        due = [
            (path, mark)
            for path, mark in look.files.items()
            if mark is None or path in self._refused or self._seen.get(path) != mark
        ]
        for start in range(0, len(due), _READ_AT_ONCE):
            some = due[start : start + _READ_AT_ONCE]
            # a thread for each would take longer than the reading
            contents = await asyncio.to_thread(_contents, [path for path, _ in some])
            for (path, mark), content in zip(some, contents, strict=True):
                before = self._flow_of.get(path)
                is_settled = await self._take(path, content)
                self._remember(path, mark, is_settled)
                if before is not None and self._flow_of.get(path) != before:
                    left.append((path, before))
        left += [(path, key) for path, key in self._flow_of.items() if self._is_gone(path)]
        # last, so that a flow whose file was renamed has been taken over and is never out of use
        for path, key in left:
            await self._leave(path, key)
        self._forget_gone()
        if types:
            await self._catalog.judge(types)

    async def watch(self) -> None:
        """Scan again after every change, and now and then, until cancelled."""
        self._catalog.on_change(self._reconsider)
        hints = asyncio.create_task(self._take_hints(), name="flow folder hints")
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_FOR_FOLDERS if self._look.missing else _RESCAN):
                        await self._poke.wait()
                self._poke.clear()
                try:
                    await self.scan()
                except (StorageUnavailable, StorageOverloaded) as error:
                    log.warning("flow folders could not be scanned; trying again", error=str(error))
        finally:
            hints.cancel()
            await asyncio.gather(hints, return_exceptions=True)

    # hints

    async def _take_hints(self) -> None:
        """Wake the scan at every change that the system tells of."""
        said = ""
        while True:
            watched = self._watched()
            try:
                await self._wait_for_hints(watched)
                said = ""
            except (OSError, RuntimeError) as error:  # its own errors are RuntimeErrors
                if str(error) != said:
                    said = str(error)
                    log.warning("flow folders cannot be watched; scanning them instead", error=said)
                await asyncio.sleep(_RESCAN)

    async def _wait_for_hints(self, watched: tuple[object, ...]) -> None:
        """Pass hints on until other folders are to be watched."""
        existing = [folder for folder in self._folders if folder.is_dir()]
        if not existing:
            await asyncio.sleep(_LOOK_FOR_FOLDERS)
            return
        every = _RESCAN if len(existing) == len(self._folders) else _LOOK_FOR_FOLDERS
        loop, stop = asyncio.get_running_loop(), threading.Event()
        hints: asyncio.Queue[bool | None] = asyncio.Queue()

        def hint(is_change: bool) -> None:
            with suppress(RuntimeError):  # the loop is gone
                loop.call_soon_threadsafe(hints.put_nowait, is_change)

        watching = loop.create_task(asyncio.to_thread(_watch, existing, every, stop, hint))
        watching.add_done_callback(lambda _: hints.put_nowait(None))
        try:
            while (is_change := await hints.get()) is not None:
                if is_change:
                    self._poke.set()
                if self._watched() != watched:
                    return
        finally:
            stop.set()
            await watching

    def _watched(self) -> tuple[object, ...]:
        """What is to be watched: a folder that was made anew is another one."""
        found: list[object] = [frozenset(self._look.unreadable)]
        for folder in self._folders:
            with suppress(OSError):
                told = folder.stat()
                found.append((folder, told.st_dev, told.st_ino))
        return tuple(found)

    def _reconsider(self, key: FlowKey) -> None:
        """A flow was put or retired: what was refused may be taken now."""
        if self._is_shared:
            # by another hub, perhaps: is its file here still what is in use?
            for path in [path for path, flow in self._flow_of.items() if flow == key]:
                self._seen.pop(path, None)
                self._poke.set()
        if self._refused:
            self._poke.set()

    def _is_ours(self, path: str) -> bool:
        """Whether a file would lie in a folder of this hub."""
        return not self._is_shared or any(Path(path).is_relative_to(folder) for folder in self._folders)

    # files

    async def _take(self, path: str, raw: bytes | OSError) -> bool:
        """Take a file's text; answers whether that is settled, for good or bad."""
        try:
            if isinstance(raw, OSError):
                raise raw
            if len(raw) > _LARGEST:
                raise InvalidFlow([Problem("the file is larger than 1 MiB", Position(1, 1), file=path)])
            source = raw.decode("utf-8")
            if self._is_known(path, source):
                return True
            stored = await self._put(path, source)
        except FileNotFoundError:
            return False  # gone since the look; the next one says so
        except OSError as error:
            self._break(path, (Problem(f"cannot be read: {error.strerror}", Position(1, 1), file=path),))
            return False
        except UnicodeDecodeError as error:
            self._break(path, (Problem(f"not UTF-8: {error.reason}", Position(1, 1), file=path),))
            return True
        except FlowLoop as error:
            # the others may change: then it is no loop any more
            self._break(path, error.problems)
            return False
        except InvalidFlow as error:
            self._break(path, error.problems)
            return True
        except Conflict as error:
            self._break(path, (Problem(error.message, Position(1, 1), file=path),))
            return False
        except StorageError:
            raise
        except HubError as error:
            self._break(path, (Problem(error.message, Position(1, 1), error.hint, file=path),))
            return True
        except Exception as error:
            # one file's fault, ours or a plugin's, must not end the hub that reads them all
            log.exception("internal error while loading a flow", file=path)
            reason = f"internal error while loading: {type(error).__name__}"
            self._break(path, (Problem(reason, Position(1, 1), file=path),))
            return True
        self._catalog.broken.pop(path, None)
        record = stored.record
        self._flow_of[path] = record.key
        if stored.changed:
            log.info("flow loaded", flow=str(record.key), revision=record.revision, file=path)
        return True

    async def _put(self, path: str, source: str) -> Stored:
        """Store a file's flow, taking it over from another file that has it no more. Raises ``Conflict``."""
        if self._is_shared:
            return await self._put_shared(path, source)
        try:
            return await self._catalog.put(source, origin=path, file=path)
        except Conflict:
            key = self._catalog.check(source, path).flow.key
            known = self._catalog.get(key)
            if known is None or known.origin is None or self._holds(known.origin, key):
                raise
            return await self._catalog.put(source, origin=path, file=path, instead_of=known.origin)

    async def _put_shared(self, path: str, source: str) -> Stored:
        """Store a file's flow that other hubs may have files of too. Raises ``Conflict``."""
        loaded = self._catalog.check(source, path)
        key, digest = loaded.flow.key, self._catalog.digest(source)
        twice = next((one for one, flow in self._flow_of.items() if flow == key and one != path), None)
        if twice is not None and not self._is_gone(twice):
            raise Conflict(f"flow {key} belongs to the file {twice}")
        await self._catalog.refresh(key)
        known = self._catalog.get(key)
        if known is None or known.origin is None:
            stored = await self._catalog.put(source, origin=path, file=path)
        elif known.source_hash == digest:
            stored = Stored(known, loaded)
        else:
            was_in_use = self._digests.get(path) == known.source_hash
            older = None if was_in_use else await self._catalog.revision_of(key, digest)
            if older is not None:
                raise Conflict(
                    f"flow {key}: this file is its revision {older}, and another hub has brought revision"
                    f" {known.revision}; make the folders of all hubs the same, or put the flow by hub flows push"
                )
            stored = await self._catalog.put(source, origin=known.origin, file=path)
        self._digests[path] = digest
        return stored

    def _holds(self, path: str, key: FlowKey) -> bool:
        """Whether a file still gives a flow; one that cannot be used keeps what it gave last."""
        if path not in self._look.files:
            return self._look.hides(path)
        try:
            return self._catalog.check(_content(path).decode("utf-8"), path).flow.key == key
        except (OSError, UnicodeDecodeError, HubError):
            return True

    def _is_known(self, path: str, source: str) -> bool:
        """Whether the storage holds this very text for the file already: then it is not parsed now."""
        key = self._flow_of.get(path)
        record = self._catalog.get(key) if key is not None else None
        digest = self._catalog.digest(source)
        if record is None or record.source_hash != digest or record.origin is None:
            return False
        if record.origin != path and not self._is_shared:
            return False
        self._digests[path] = digest
        self._catalog.broken.pop(path, None)
        return True

    def _break(self, path: str, problems: Iterable[Problem]) -> None:
        found = tuple(problems)
        if self._catalog.broken.get(path) == found:
            return  # said already
        self._catalog.broken[path] = found
        kept = self._flow_of.get(path)
        log.error(
            "flow file cannot be used",
            file=path,
            problem=found[0].text(),
            kept=f"the last good revision of {kept} stays in use" if kept else "nothing",
        )

    def _remember(self, path: str, mark: Mark | None, is_settled: bool) -> None:
        if is_settled and mark is not None:
            self._seen[path] = mark
            self._refused.discard(path)
        else:
            self._refused.add(path)

    # what is gone

    def _is_gone(self, path: str) -> bool:
        return path not in self._look.files and not self._look.hides(path)

    async def _leave(self, path: str, key: FlowKey) -> None:
        """A file does not give a flow any more: retire it, unless another file has taken it over."""
        if self._flow_of.get(path) == key:
            del self._flow_of[path]
        record = self._catalog.get(key)
        if record is None:
            return
        if self._is_shared:
            self._digests.pop(path, None)
            await self._leave_shared(path, key, record.origin)
        elif record.origin == path:
            await self._catalog.retire(key)
            log.info("flow retired: its file is gone", flow=str(key), file=path)

    async def _leave_shared(self, path: str, key: FlowKey, origin: str | None) -> None:
        """A file is gone here; other hubs may still have theirs, so only the last hub there is retires its flow."""
        if origin is None or key in self._flow_of.values():
            return
        if await self._catalog.is_alone():
            await self._catalog.retire(key)
            log.info("flow retired: its file is gone", flow=str(key), file=path)
        else:
            log.warning(
                "a flow's file is gone here; it stays in use, since other hubs may have it",
                flow=str(key),
                file=path,
            )

    def _forget_gone(self) -> None:
        for path in [*self._catalog.broken]:
            # a flow that came by no file is named as one, and is not gone with any
            if os.path.isabs(path) and path not in self._look.unreadable and self._is_gone(path):
                del self._catalog.broken[path]
        for path in [*self._seen]:
            if self._is_gone(path):
                del self._seen[path]
        self._refused.intersection_update(self._look.files)
        for path, problem in self._look.unreadable.items():
            self._break(path, [problem])

    def _say_missing(self, look: Look) -> None:
        for folder, reason in look.missing.items():
            if self._look.missing.get(folder) != reason:
                log.warning(f"flow folder {reason}; watching for it", folder=str(folder))


def _watch(
    folders: Sequence[Path], every: float, stop: threading.Event, hint: Callable[[bool], None]
) -> None:
    """Call ``hint`` with True when something changed, and with False every so many seconds, until it is stopped.

    In a thread of its own: the library's own coroutine loads a second event loop library, 5 MiB of it.
    """
    for changes in watch(
        *folders,
        debounce=2 * _SETTLE_MS,
        step=_SETTLE_MS,
        rust_timeout=int(every * 1000),
        yield_on_timeout=True,
        ignore_permission_denied=True,
        stop_event=stop,
    ):
        hint(bool(changes))


def _look_into(folders: Iterable[Path]) -> Look:
    look = Look()
    for folder in folders:
        if folder.is_dir():
            _walk(folder, look)
        else:
            look.missing[folder] = "is not a folder" if folder.exists() else "does not exist"
    return look


def _walk(folder: Path, look: Look) -> None:
    def unreadable(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            look.not_read(error.filename, f"the folder cannot be read: {error.strerror}", _KEPT)

    for parent, inner, names in os.walk(folder, onerror=unreadable):
        inner.sort()
        for name in sorted(names):
            if name.endswith(SUFFIX):
                _examine(os.path.join(parent, name), look)


def _examine(path: str, look: Look) -> None:
    """Note a regular file; whatever else bears such a name is none."""
    if not path.isprintable():
        look.not_read(path, "a file's name must be printable text", "rename it")
        return
    try:
        told = os.stat(path)
    except FileNotFoundError:
        return  # gone since its name was read, or a link that leads nowhere
    except OSError:
        look.files[path] = None
        return
    if stat.S_ISREG(told.st_mode):
        look.files[path] = (told.st_mtime_ns, told.st_size, told.st_ino)


def _contents(paths: Sequence[str]) -> list[bytes | OSError]:
    """What files hold, or why they cannot be read."""
    found: list[bytes | OSError] = []
    for path in paths:
        try:
            found.append(_content(path))
        except OSError as error:
            found.append(error)
    return found


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_LARGEST + 1)
