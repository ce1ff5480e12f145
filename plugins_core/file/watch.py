"""One running file trigger: find files and look whether they are whole; taking them is ``taking``'s.

The folder is the truth: it is looked at in full at the start, after hints, when hints were lost, and on a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from hub.plugin import Denied, Emit, Folders, HubError, TriggerContext
from plugins_core.file.candidates import Candidates
from plugins_core.file.custody import Custody
from plugins_core.file.hints import Hint, Hints, Listener
from plugins_core.file.looking import Arrived, Large, Later, Looker
from plugins_core.file.marks import Mark
from plugins_core.file.patterns import CLAIMED, Found, is_text
from plugins_core.file.taking import Complaints, Plan, Taker

_BATCH = 200
_MOST_CANDIDATES = 50_000
_LARGE_AT_ONCE = 2
_LEFT_ALONE_FOR = 5.0


class Watch:
    """A running trigger."""

    def __init__(self, plan: Plan, ctx: TriggerContext, emit: Emit, custody: Custody, hints: Hints) -> None:
        self._plan = plan
        self._ctx = ctx
        self._custody = custody
        self._hints = hints
        self._complaints = Complaints(ctx)
        self._taker = Taker(plan, ctx, emit, custody, self._complaints)
        self._known = self._taker.known
        self._settle = plan.settle.total_seconds()
        self._looker = Looker(self._settle, with_change=not plan.keeps)
        self._candidates = Candidates()
        self._heard = asyncio.Event()
        self._scan_at = 0.0
        self._large: set[str] = set()
        self._may_read_large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def run(self) -> None:
        """Find and take files until cancelled."""
        root = self._plan.pattern.root
        with contextlib.ExitStack() as stack:
            stack.callback(self._looker.stop)
            if not self._plan.keeps:
                stack.enter_context(self._custody.takes_from(root))
                await self._taker.take_up()
            listener = stack.enter_context(self._hints.listening(self._hear))
            try:
                async with asyncio.TaskGroup() as group:
                    await self._look(listener, group)
            except ExceptionGroup as errors:
                # one thing went wrong, and it is to be shown in its own words
                raise errors.exceptions[0] from None

    # finding

    def _hear(self, hint: Hint) -> None:
        """Something happened at a path, or anywhere."""
        path, pattern = hint.path, self._plan.pattern
        if path is None or hint.is_folder:
            if path is None or (pattern.recursive and path.name != CLAIMED):
                self._scan_at = 0.0
                self._heard.set()
        elif path.is_relative_to(pattern.root) and is_text(path.name) and pattern.matches(path):
            # one that was written a moment ago cannot have settled yet
            at = time.monotonic() + (0.0 if hint.renamed else self._settle)
            self._candidates.put(str(path), at, renamed=hint.renamed)
            self._heard.set()

    async def _look(self, listener: Listener, group: asyncio.TaskGroup) -> None:
        """Look at what was heard of, and at the whole folder now and then."""
        while True:
            self._heard.clear()
            if time.monotonic() >= self._scan_at:
                await self._scan(listener)
            due = self._candidates.take_due(time.monotonic(), _BATCH)
            if due:
                await self._look_at(due, group)
            else:
                await self._until_something()

    async def _until_something(self) -> None:
        due = self._candidates.next_at()
        left = min(self._scan_at, due if due is not None else self._scan_at) - time.monotonic()
        if left > 0 and not self._heard.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._heard.wait()

    async def _scan(self, listener: Listener) -> None:
        """Look at the whole folder. What is hinted at while it lasts is looked at in any case."""
        self._scan_at = time.monotonic() + self._plan.rescan.total_seconds()
        self._known.begin_look()
        found = await asyncio.to_thread(self._find)
        if await self._hints.watch(listener, found.folders):
            # what came after a folder was read and before it was watched is found by looking once more
            self._scan_at = 0.0
        now = time.monotonic()
        for path in found.files:
            if path not in self._large:
                self._candidates.offer(path, now)
        for what in found.unreadable:
            self._complaints.say(what)
        if found.is_cut:
            self._scan_at = now + 1.0
        else:
            self._known.end_look()

    def _find(self) -> Found:
        known, with_change = self._known, not self._plan.keeps

        def is_new(entry: os.DirEntry[str]) -> bool:
            if known.is_empty:
                return True
            try:
                return not known.has(Mark.of(entry.stat(follow_symlinks=False), with_change=with_change).key)
            except OSError:
                return False

        return self._plan.pattern.scan(limit=_MOST_CANDIDATES, passes=is_new)

    # looking

    async def _look_at(self, due: Sequence[tuple[str, bool]], group: asyncio.TaskGroup) -> None:
        paths = [(Path(path), renamed) for path, renamed in due]
        marks = await asyncio.to_thread(self._marks, [path for path, _ in paths])
        stored = await self._known_to_storage([mark for mark in marks if mark is not None])
        unknown: list[tuple[Path, bool]] = []
        known: list[tuple[Path, Mark]] = []
        for (path, renamed), mark in zip(paths, marks, strict=True):
            if mark is None or self._known.has(mark.key):
                continue
            if mark.key in stored:
                known.append((path, mark))
            else:
                unknown.append((path, renamed))
        self._again(await self._taker.take_known(known, stored))
        arrived = await self._whole(unknown, group)
        if arrived:
            self._again(await self._taker.take(arrived))

    def _marks(self, paths: Sequence[Path]) -> list[Mark | None]:
        found: list[Mark | None] = []
        with Folders() as folders:
            for path in paths:
                folders.trim()
                try:
                    about = os.stat(path.name, dir_fd=folders.at(path.parent), follow_symlinks=False)
                except (OSError, HubError):
                    found.append(None)
                else:
                    found.append(Mark.of(about, with_change=not self._plan.keeps))
        return found

    async def _known_to_storage(self, marks: Sequence[Mark]) -> dict[str, str]:
        return await self._ctx.known([mark.key for mark in marks]) if marks else {}

    async def _whole(self, paths: Sequence[tuple[Path, bool]], group: asyncio.TaskGroup) -> list[Arrived]:
        """Those of the files that are whole; the others will be looked at again."""
        arrived: list[Arrived] = []
        looks = await asyncio.to_thread(self._looks, paths)
        for (path, renamed), look in zip(paths, looks, strict=True):
            if isinstance(look, Large):
                self._large.add(str(path))
                group.create_task(self._read_large(path, renamed))
            else:
                arrived += self._sorted(path, renamed, look)
        return arrived

    def _looks(self, paths: Sequence[tuple[Path, bool]]) -> list[Arrived | Later | Large | None]:
        all_of: dict[Path, bool] = {}
        with Folders() as folders:
            found = []
            for path, renamed in paths:
                folders.trim()
                found.append(
                    self._allowed(path, all_of)
                    or self._looker.look(folders, path, renamed=renamed, large=False)
                )
            return found

    def _allowed(self, path: Path, all_of: dict[Path, bool]) -> Later | None:
        """A reason to leave a file alone that is not the flows' to take: the folder may be the hub's own."""
        folder, write = path.parent, not self._plan.keeps
        if folder not in all_of:
            with contextlib.suppress(Denied):
                self._ctx.place(str(folder), write=write, below=True)
                all_of[folder] = True
        if all_of.setdefault(folder, False):
            return None
        try:
            self._ctx.place(str(path), write=write)
        except Denied as error:
            return Later(_LEFT_ALONE_FOR, f"is left alone: {error.message}")
        return None

    def _sorted(self, path: Path, renamed: bool, look: Arrived | Later | Large | None) -> list[Arrived]:
        if isinstance(look, Arrived):
            return [look]
        if isinstance(look, Later):
            self._candidates.put(str(path), time.monotonic() + look.seconds, renamed=renamed)
            self._heard.set()
            if look.reason is not None:
                self._complaints.say(f"{path} {look.reason}")
        return []

    async def _read_large(self, path: Path, renamed: bool) -> None:
        """Read a large file beside the others, which are not to wait for it."""

        def look() -> Arrived | Later | Large | None:
            with Folders() as folders:
                return self._looker.look(folders, path, renamed=renamed)

        try:
            async with self._may_read_large:
                arrived = self._sorted(path, renamed, await asyncio.to_thread(look))
            if arrived:
                self._again(await self._taker.take(arrived))
        finally:
            self._large.discard(str(path))

    def _again(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self._candidates.offer(str(path), time.monotonic() + self._settle)
