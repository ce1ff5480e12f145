"""One running file trigger: find whole files, store their events, then claim them.

The folder is the truth: it is looked at in full at the start, after hints, when hints were lost, and on a timer.
What was taken is known by delivery keys in the storage, so nothing is taken twice. The event is stored first,
then the file is claimed by a rename; whatever was interrupted is finished at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hub.plugin import (
    Delivery,
    Denied,
    Emit,
    HubError,
    Occurrence,
    Receipt,
    StorageOverloaded,
    StorageUnavailable,
    TriggerContext,
    iso,
)
from plugins_core.file.candidates import Candidates
from plugins_core.file.claims import After, ClaimFolder, claim
from plugins_core.file.confined import Folders
from plugins_core.file.custody import Custody
from plugins_core.file.hints import Hint, Hints, Listener
from plugins_core.file.looking import Arrived, Large, Later, Looker
from plugins_core.file.marks import Mark
from plugins_core.file.patterns import CLAIMED, Found, Pattern, is_text

_BATCH = 200
_MOST_CANDIDATES = 50_000
_ASK_AT_ONCE = 500
_LARGE_AT_ONCE = 2
_MOST_KNOWN = 1_000_000
_MOST_COMPLAINTS = 1_000
_KEPT_FOR = timedelta(days=3650)
"""A file that is kept must never come again as long as it lies there."""
_TAKEN_FOR = timedelta(days=30)
_LONGEST_BACKOFF = 5.0
_LEFT_ALONE_FOR = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What one trigger is to do, its folders found."""

    pattern: Pattern
    at: ClaimFolder
    after: After | None
    """None leaves the files where they are."""
    settle: timedelta
    rescan: timedelta

    @property
    def keeps(self) -> bool:
        return self.after is None


class Watch:
    """A running trigger."""

    def __init__(self, plan: Plan, ctx: TriggerContext, emit: Emit, custody: Custody, hints: Hints) -> None:
        self._plan = plan
        self._ctx = ctx
        self._emit = emit
        self._custody = custody
        self._hints = hints
        self._settle = plan.settle.total_seconds()
        self._looker = Looker(self._settle, with_change=not plan.keeps)
        self._candidates = Candidates()
        self._heard = asyncio.Event()
        self._scan_at = 0.0
        # keys of files that stay where they are and are known, with the scan that last saw them
        self._known: dict[str, int] = {}
        self._scans = 0
        self._large: set[str] = set()
        self._may_read_large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._complained: dict[str, None] = {}

    async def run(self) -> None:
        """Find and take files until cancelled."""
        root = self._plan.pattern.root
        with contextlib.ExitStack() as stack:
            stack.callback(self._looker.stop)
            if not self._plan.keeps:
                stack.enter_context(self._custody.takes_from(root))
                await self._take_up()
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
        self._scans += 1
        found = await asyncio.to_thread(self._find)
        if await self._hints.watch(listener, found.folders):
            # what came after a folder was read and before it was watched is found by looking once more
            self._scan_at = 0.0
        now = time.monotonic()
        for path in found.files:
            if path not in self._large:
                self._candidates.offer(path, now)
        for what in found.unreadable:
            self._complain(what)
        if found.is_cut:
            self._scan_at = now + 1.0
        else:
            self._known = {key: seen for key, seen in self._known.items() if seen >= self._scans}

    def _find(self) -> Found:
        scan, known, with_change = self._scans, self._known, not self._plan.keeps

        def is_new(entry: os.DirEntry[str]) -> bool:
            if not known:
                return True
            try:
                key = Mark.of(entry.stat(follow_symlinks=False), with_change=with_change).key
            except OSError:
                return False
            if key in known:
                known[key] = scan
                return False
            return True

        return self._plan.pattern.scan(limit=_MOST_CANDIDATES, passes=is_new)

    # looking

    async def _look_at(self, due: Sequence[tuple[str, bool]], group: asyncio.TaskGroup) -> None:
        paths = [(Path(path), renamed) for path, renamed in due]
        marks = await asyncio.to_thread(self._marks, [path for path, _ in paths])
        stored = await self._known_to_storage([mark for mark in marks if mark is not None])
        unknown: list[tuple[Path, bool]] = []
        known: list[tuple[Path, Mark]] = []
        for (path, renamed), mark in zip(paths, marks, strict=True):
            if mark is None or mark.key in self._known:
                continue
            if mark.key in stored:
                known.append((path, mark))
            else:
                unknown.append((path, renamed))
        if known:
            await self._take_known(known, stored)
        arrived = await self._whole(unknown, group)
        if arrived:
            await self._take(arrived)

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
        with Folders() as folders:
            found = []
            for path, renamed in paths:
                folders.trim()
                found.append(
                    self._allowed(path) or self._looker.look(folders, path, renamed=renamed, large=False)
                )
            return found

    def _allowed(self, path: Path) -> Later | None:
        """A reason to leave a file alone that is not the flows' to take: the folder may be the hub's own."""
        try:
            self._ctx.place(str(path), write=not self._plan.keeps)
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
                self._complain(f"{path} {look.reason}")
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
                await self._take(arrived)
        finally:
            self._large.discard(str(path))

    # taking

    async def _take(self, arrived: Sequence[Arrived]) -> None:
        """Store the events of these files, then claim them."""
        once = {one.mark.key: one for one in arrived}
        for one in arrived:
            if once[one.mark.key] is not one:
                # a second name of the same file: it counts once the first is away
                self._candidates.offer(str(one.path), time.monotonic() + self._settle)
        fresh = list(once.values())
        if self._plan.keeps:
            await self._store(fresh, [one.path for one in fresh])
            self._remember(one.mark.key for one in fresh)
            return
        async with self._custody.turn(self._plan.pattern.root) as is_shared:
            if is_shared:
                fresh = await asyncio.to_thread(_still_there, fresh)
            targets = await self._targets([(one.path, one.mark) for one in fresh])
            with self._custody.moving(targets):
                receipts = await self._store(fresh, targets)
                started = [bool(got.execution_ids) for got in receipts]
                # what started nothing stays where it is, and is not asked about again
                self._remember(one.mark.key for one, any_ in zip(fresh, started, strict=True) if not any_)
                await self._claim(
                    [
                        (one.path, target, one.mark, got.event_id)
                        for one, target, got in zip(fresh, targets, receipts, strict=True)
                        if got.execution_ids
                    ]
                )

    async def _take_known(self, known: Sequence[tuple[Path, Mark]], stored: dict[str, str]) -> None:
        """Files whose events are stored: their claim was interrupted, or they stay where they are."""
        keys = {mark.key for _, mark in known}
        if not self._plan.keeps:
            outcomes = await self._ctx.outcomes([stored[key] for key in keys])
            wanted = [(path, mark) for path, mark in known if stored[mark.key] in outcomes]
            keys -= {mark.key for _, mark in wanted}
            targets = await self._targets(wanted)
            with self._custody.moving(targets):
                await self._claim(
                    [
                        (path, target, mark, stored[mark.key])
                        for (path, mark), target in zip(wanted, targets, strict=True)
                    ]
                )
        self._remember(keys)

    async def _targets(self, files: Sequence[tuple[Path, Mark]]) -> list[Path]:
        if not files:
            return []
        return await asyncio.to_thread(self._plan.at.paths_of, [(path, mark.key) for path, mark in files])

    async def _store(self, arrived: Sequence[Arrived], paths: Sequence[Path]) -> list[Receipt]:
        """The events, stored; waits as long as the storage is away."""
        occurrences = [self._occurrence(one, path) for one, path in zip(arrived, paths, strict=True)]
        backoff = 0.1
        while occurrences:
            try:
                return await self._emit(occurrences)
            except (StorageUnavailable, StorageOverloaded) as error:
                self._ctx.log("warning", "storage is away; files wait", error=str(error))
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _LONGEST_BACKOFF)
        return []

    def _occurrence(self, one: Arrived, path: Path) -> Occurrence:
        data = {
            "path": str(path),
            "name": one.path.name,
            "source": str(one.path),
            "size": one.mark.size,
            "modifiedAt": iso(datetime.fromtimestamp(one.mark.modified_ns / 1e9, UTC)),
            "sha256": one.sha256,
            "mark": one.mark.text,
        }
        window = _KEPT_FOR if self._plan.keeps else _TAKEN_FOR
        return Occurrence(data, subject=one.path.name, delivery=Delivery(one.mark.key, window=window))

    async def _claim(self, files: Sequence[tuple[Path, Path, Mark, str]]) -> None:
        """Rename files to where they lie while claimed, and hand them over."""
        at, after = self._plan.at, self._plan.after
        assert after is not None

        def claim_all() -> list[bool | str]:
            done: list[bool | str] = []
            with Folders() as folders:
                for source, target, mark, _ in files:
                    try:
                        done.append(claim(folders, at, source, target, mark))
                    except (OSError, HubError) as error:
                        done.append(str(error))
            return done

        for (source, target, _, event_id), is_there in zip(
            files, await asyncio.to_thread(claim_all), strict=True
        ):
            if is_there is True:
                self._custody.hold(event_id, target, after, is_sure=True)
            elif is_there is False:
                self._candidates.offer(str(source), time.monotonic() + self._settle)
            else:
                self._complain(f"{source} cannot be claimed: {is_there}")

    async def _take_up(self) -> None:
        """Find the files that an earlier run has claimed, and see that new ones can be."""
        plan, after = self._plan, self._plan.after
        assert after is not None

        def find() -> list[tuple[str, Path]]:
            with Folders() as folders:
                plan.at.open(folders, plan.pattern.root)
            found = plan.pattern.scan(passes=lambda _: False)
            places = {
                plan.at.inside(plan.pattern.root),
                *(plan.at.inside(one.parent) for one in found.claims),
            }
            return [one for place in sorted(places) for one in plan.at.left(place)]

        left = await asyncio.to_thread(find)
        for start in range(0, len(left), _ASK_AT_ONCE):
            part = left[start : start + _ASK_AT_ONCE]
            known = await self._ctx.known([key for key, _ in part])
            for key, path in part:
                if key in known:
                    self._custody.hold(known[key], path, after, is_sure=False)
                else:
                    self._complain(
                        f"{path} lies claimed and its event is forgotten: move it where it belongs"
                    )

    def _remember(self, keys: Iterator[str] | set[str]) -> None:
        for key in keys:
            # the storage knows them too: a forgotten one costs a look at the file, no second event
            if len(self._known) < _MOST_KNOWN:
                self._known[key] = self._scans

    def _complain(self, what: str) -> None:
        if what not in self._complained:
            if len(self._complained) >= _MOST_COMPLAINTS:
                del self._complained[next(iter(self._complained))]
            self._complained[what] = None
            self._ctx.log("warning", what)


def _still_there(arrived: Sequence[Arrived]) -> list[Arrived]:
    """Those that no other trigger has taken meanwhile."""
    with Folders() as folders:
        return [one for one in arrived if _is_there(folders, one)]


def _is_there(folders: Folders, one: Arrived) -> bool:
    folders.trim()
    try:
        found = os.stat(one.path.name, dir_fd=folders.at(one.path.parent), follow_symlinks=False)
    except (OSError, HubError):
        return False
    return one.mark.is_content_of(found)
