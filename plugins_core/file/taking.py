"""Take whole files: store their events, then claim them; take up what an earlier run has claimed.

The event is stored first, then the file is claimed by a rename. What was taken is known by delivery keys in the
storage, so nothing is taken twice; whatever was interrupted is finished when the file is found again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hub.plugin import (
    Delivery,
    Emit,
    Folders,
    HubError,
    Occurrence,
    Receipt,
    StorageOverloaded,
    StorageUnavailable,
    TriggerContext,
    iso,
)
from plugins_core.file.claims import After, ClaimFolder, claim
from plugins_core.file.custody import Custody
from plugins_core.file.looking import Arrived
from plugins_core.file.marks import Mark
from plugins_core.file.patterns import Pattern

_ASK_AT_ONCE = 500
_MOST_KNOWN = 1_000_000
_MOST_COMPLAINTS = 1_000
_KEPT_FOR = timedelta(days=3650)
"""A file that is kept must never come again as long as it lies there."""
_TAKEN_FOR = timedelta(days=30)
_LONGEST_BACKOFF = 5.0


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


class Known:
    """Keys of files that stay where they are and have had their event.

    The storage knows them too: a forgotten one costs a look at the file, no second event.
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._look = 0

    def add(self, keys: Iterable[str]) -> None:
        for key in keys:
            if len(self._seen) < _MOST_KNOWN:
                self._seen[key] = self._look

    def has(self, key: str) -> bool:
        """Whether a file is known; one that is asked for has been seen."""
        if key not in self._seen:
            return False
        self._seen[key] = self._look
        return True

    @property
    def is_empty(self) -> bool:
        return not self._seen

    def begin_look(self) -> None:
        """The whole folder is going to be looked at."""
        self._look += 1

    def end_look(self) -> None:
        """The whole folder was looked at: those that were not seen are gone."""
        self._seen = {key: seen for key, seen in self._seen.items() if seen >= self._look}


class Complaints:
    """Says what is wrong with files, once each."""

    def __init__(self, ctx: TriggerContext) -> None:
        self._ctx = ctx
        self._said: dict[str, None] = {}

    def say(self, what: str) -> None:
        if what not in self._said:
            if len(self._said) >= _MOST_COMPLAINTS:
                del self._said[next(iter(self._said))]
            self._said[what] = None
            self._ctx.log("warning", what)


class Taker:
    """Takes the files of one running trigger."""

    def __init__(
        self, plan: Plan, ctx: TriggerContext, emit: Emit, custody: Custody, complaints: Complaints
    ) -> None:
        self._plan = plan
        self._ctx = ctx
        self._emit = emit
        self._custody = custody
        self._complaints = complaints
        self.known = Known()

    async def take(self, arrived: Sequence[Arrived]) -> list[Path]:
        """Store the events of these files, then claim them; answers those to look at again."""
        once = {one.mark.key: one for one in arrived}
        # a second name of the same file counts once the first is away
        again = [one.path for one in arrived if once[one.mark.key] is not one]
        fresh = list(once.values())
        if self._plan.keeps:
            await self._store(fresh, [one.path for one in fresh])
            self.known.add(once)
            return again
        async with self._custody.turn(self._plan.pattern.root) as is_shared:
            if is_shared:
                fresh = await asyncio.to_thread(_still_there, fresh)
            targets = await self._targets([(one.path, one.mark) for one in fresh])
            with self._custody.moving(targets):
                receipts = await self._store(fresh, targets)
                stored = list(zip(fresh, targets, receipts, strict=True))
                # what started nothing stays where it is, and is not asked about again
                self.known.add(one.mark.key for one, _, got in stored if not got.execution_ids)
                return again + await self._claim(
                    [
                        (one.path, target, one.mark, got.event_id)
                        for one, target, got in stored
                        if got.execution_ids
                    ]
                )

    async def take_known(self, known: Sequence[tuple[Path, Mark]], stored: dict[str, str]) -> list[Path]:
        """Files whose events are stored: their claim was interrupted, or they stay where they are.

        Answers those to look at again.
        """
        keys = {mark.key for _, mark in known}
        again: list[Path] = []
        if known and not self._plan.keeps:
            outcomes = await self._ctx.outcomes([stored[key] for key in keys])
            wanted = [(path, mark) for path, mark in known if stored[mark.key] in outcomes]
            keys -= {mark.key for _, mark in wanted}
            targets = await self._targets(wanted)
            with self._custody.moving(targets):
                again = await self._claim(
                    [
                        (path, target, mark, stored[mark.key])
                        for (path, mark), target in zip(wanted, targets, strict=True)
                    ]
                )
        self.known.add(keys)
        return again

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

    async def _claim(self, files: Sequence[tuple[Path, Path, Mark, str]]) -> list[Path]:
        """Rename files to where they lie while claimed, and hand them over; answers those that are others by now."""
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

        again: list[Path] = []
        for (source, target, _, event_id), is_there in zip(
            files, await asyncio.to_thread(claim_all), strict=True
        ):
            if is_there is True:
                self._custody.hold(event_id, target, after, is_sure=True)
            elif is_there is False:
                again.append(source)
            else:
                self._complaints.say(f"{source} cannot be claimed: {is_there}")
        return again

    async def take_up(self) -> None:
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
                    self._complaints.say(
                        f"{path} lies claimed and its event is forgotten: move it where it belongs"
                    )


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
