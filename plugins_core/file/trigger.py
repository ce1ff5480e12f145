"""The file trigger: every whole file is one event, and lies where the event says while its executions run.

The folder is the truth: it is looked at in full at the start, after hints, when hints were lost, and on a timer.
What was taken is known by delivery keys in the storage, so nothing is taken twice. The event is stored first,
then the file is claimed by a rename; whatever was interrupted is finished at the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hub.plugin import (
    Delivery,
    Duration,
    Emit,
    ExecutionState,
    InvalidInput,
    Model,
    NotFound,
    Occurrence,
    Trigger,
    TriggerContext,
    iso,
)
from plugins_core.file.arrivals import Arrived, Looker, Pattern, mark_of
from plugins_core.file.claims import After, bring_back, claim, claim_path, left_claimed
from plugins_core.file.hints import Hint, watching

_BATCH = 100
_ASK_AT_ONCE = 500
_FEW = 5_000
"""Claimed files up to this many may be looked for anew now and then."""
_MOST_KNOWN = 200_000
_KEPT_FOR = timedelta(days=3650)
"""A file that is kept must never come again as long as it lies there."""
_TAKEN_FOR = timedelta(days=30)
_COMPANY = 0.02
"""Seconds that an end waits for others, so that files are put away together."""
_LOOK_AT_ENDS = 5.0
_SUCCESSES = frozenset({ExecutionState.SUCCESS, ExecutionState.WARNING})


class Move(Model):
    """Where a file goes after its executions."""

    move: str = Field(description="The folder for files whose executions succeeded.")
    failed: str | None = Field(None, description="The folder for the others; the same one by default.")


class FileArrival(Trigger):
    """Start the flow once for every file that arrives in a folder."""

    type: ClassVar[str] = "file.arrival"
    event_type: ClassVar[str] = "hub.file.arrived"
    examples: ClassVar[tuple[str, ...]] = (
        'id: drop\ntype: file.arrival\npath: inbox\npattern: "*.csv"\nafter: {move: done, failed: failed}',
        "id: look\ntype: file.arrival\npath: reports\nrecursive: true\nafter: keep",
    )

    path: str = Field(description="The folder to watch, below `files.roots`; made where it is missing.")
    pattern: str = Field(
        "*", description="Which names count, as `*.csv`; with a `/` it is about the path below the folder."
    )
    recursive: bool = Field(False, description="Whether folders below count too.")
    settle: Duration = Field(
        timedelta(seconds=1),
        description="How long a file must not have changed; one that is renamed into place counts at once.",
    )
    rescan: Duration = Field(
        timedelta(seconds=10), description="How often the folder is looked at, whatever was heard of it."
    )
    after: Literal["keep", "delete"] | Move = Field(
        "keep", description="What becomes of a file when its executions have ended: keep, delete or move."
    )

    class Data(BaseModel):
        model_config = ConfigDict(extra="forbid")

        path: str = Field(description="Where the file lies while the executions run.")
        name: str = Field(description="Its name.")
        source: str = Field(description="Where it arrived.")
        size: int = Field(description="Its size in bytes.")
        modifiedAt: str = Field(description="When it was last changed, ISO 8601.")
        sha256: str = Field(description="The digest of what it holds.")
        mark: str = Field(description="What tells it from another file of the same name.")

    @field_validator("settle", "rescan")
    @classmethod
    def _is_sensible(cls, value: timedelta) -> timedelta:
        if not timedelta(0) <= value <= timedelta(days=1):
            raise ValueError("expected a length of time from PT0S to P1D")
        return value

    @property
    def _keeps(self) -> bool:
        return self.after == "keep"

    def _after(self, place: Callable[..., Path]) -> After:
        """What becomes of files, with the folders found. Raises ``Denied``."""
        if not isinstance(self.after, Move):
            return After()
        done = place(self.after.move, write=True)
        return After(done, place(self.after.failed, write=True) if self.after.failed else None)

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        root = ctx.place(self.path, write=not self._keeps)
        await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True)
        after = self._after(ctx.place)
        left_out = tuple(folder for folder in (after.done, after.failed) if folder)
        if root in left_out:
            raise InvalidInput(f"after: moves files of {root} into the same folder")
        pattern = Pattern(root, self.pattern, self.recursive, left_out)
        watch = _Watch(self, ctx, emit, pattern, after)
        async with watching(root, watch.hear, recursive=self.recursive), asyncio.TaskGroup() as group:
            if not self._keeps:
                await watch.take_up()
                group.create_task(watch.put_away())
            group.create_task(watch.look())

    async def prepare(self, data: Mapping[str, Any], place: Callable[..., Path]) -> None:
        """See that the file lies where ``trigger.path`` says, also after a crash and for a replay."""
        if self._keeps:
            if not Path(data["path"]).is_file():
                raise NotFound(f"{data['path']} is not there any more")
            return
        target, after = Path(data["path"]), self._after(place)

        def make_sure() -> None:
            if not claim(Path(data["source"]), target, data["mark"]):
                bring_back(target, after.places(data["name"], target.parent.name), data["sha256"])

        await asyncio.to_thread(make_sure)


class _Watch:
    """One running file trigger."""

    def __init__(
        self, trigger: FileArrival, ctx: TriggerContext, emit: Emit, pattern: Pattern, after: After
    ) -> None:
        self._trigger = trigger
        self._ctx = ctx
        self._emit = emit
        self._pattern = pattern
        self._after = after
        self._keeps = trigger.after == "keep"
        self._looker = Looker(trigger.settle.total_seconds(), with_change=not self._keeps)
        # paths to look at, with when (monotonic) and whether they were renamed into place
        self._candidates: dict[Path, tuple[float, bool]] = {}
        self._heard = asyncio.Event()
        self._scan_at = 0.0
        # marks of files that stay where they are and are known
        self._known: dict[str, None] = {}
        # event id → key and path of files whose executions run
        self._claimed: dict[str, tuple[str, Path]] = {}
        self._has_claimed = asyncio.Event()

    # arrivals

    def hear(self, hint: Hint) -> None:
        """Something happened at a path, or anywhere."""
        if hint.path is None:
            self._scan_at = 0.0
        elif self._pattern.matches(hint.path):
            known = self._candidates.get(hint.path)
            self._candidates[hint.path] = (0.0, hint.renamed or bool(known and known[1]))
        self._heard.set()

    async def look(self) -> None:
        """Look at what was heard of, and at the whole folder now and then, until cancelled."""
        while True:
            self._heard.clear()
            if time.monotonic() >= self._scan_at:
                await self._scan()
            await self._look_at_due()
            await self._until_something()

    async def _until_something(self) -> None:
        due = [moment for moment, _ in self._candidates.values()]
        left = min([self._scan_at, *due]) - time.monotonic()
        if left > 0 and not self._heard.is_set():
            try:
                async with asyncio.timeout(left):
                    await self._heard.wait()
            except TimeoutError:
                return

    async def _scan(self) -> None:
        found = await asyncio.to_thread(lambda: list(self._pattern.scan()))
        self._scan_at = time.monotonic() + self._trigger.rescan.total_seconds()
        for path in found:
            self._candidates.setdefault(path, (0.0, False))

    async def _look_at_due(self) -> None:
        now = time.monotonic()
        due = [(path, renamed) for path, (moment, renamed) in self._candidates.items() if moment <= now]
        for start in range(0, len(due), _BATCH):
            await self._look_at(due[start : start + _BATCH])

    async def _look_at(self, due: Sequence[tuple[Path, bool]]) -> None:
        def look() -> list[Arrived | float | None]:
            return [self._one(path, renamed) for path, renamed in due]

        arrived: list[Arrived] = []
        for (path, renamed), found in zip(due, await asyncio.to_thread(look), strict=True):
            if isinstance(found, float):
                self._candidates[path] = (time.monotonic() + found, renamed)
                continue
            self._candidates.pop(path, None)
            if found is not None:
                arrived.append(found)
        if arrived:
            await self._take(arrived)

    def _one(self, path: Path, renamed: bool) -> Arrived | float | None:
        if self._keeps:
            try:
                if mark_of(path.lstat(), with_change=False).key in self._known:
                    return None
            except OSError:
                return None
        return self._looker.look(path, renamed=renamed)

    async def _take(self, arrived: Sequence[Arrived]) -> None:
        """Store the events of these files, then claim them."""
        known = await self._ctx.known([one.mark.key for one in arrived])
        fresh = [one for one in arrived if one.mark.key not in known]
        ids = dict(known)
        if fresh:
            receipts = await self._emit([self._occurrence(one) for one in fresh])
            ids |= {one.mark.key: got.event_id for one, got in zip(fresh, receipts, strict=True)}
        if self._keeps:
            self._remember(arrived)
            return
        claimed = await asyncio.to_thread(self._claim_all, arrived)
        for one in claimed:
            self._claimed[ids[one.mark.key]] = (one.mark.key, self._target(one))
        self._has_claimed.set()

    def _claim_all(self, arrived: Sequence[Arrived]) -> list[Arrived]:
        return [one for one in arrived if claim(one.path, self._target(one), one.mark.text)]

    def _target(self, one: Arrived) -> Path:
        return claim_path(self._pattern.root, one.path, one.mark.key)

    def _occurrence(self, one: Arrived) -> Occurrence:
        path = one.path if self._keeps else self._target(one)
        modified = datetime.fromtimestamp(one.mark.modified_ns / 1e9, UTC)
        data = {
            "path": str(path),
            "name": one.path.name,
            "source": str(one.path),
            "size": one.mark.size,
            "modifiedAt": iso(modified),
            "sha256": one.sha256,
            "mark": one.mark.text,
        }
        window = _KEPT_FOR if self._keeps else _TAKEN_FOR
        return Occurrence(data, subject=one.path.name, delivery=Delivery(one.mark.key, window=window))

    def _remember(self, arrived: Sequence[Arrived]) -> None:
        for one in arrived:
            self._known[one.mark.key] = None
        while len(self._known) > _MOST_KNOWN:
            # the storage knows them too: a forgotten one costs a look at the file, no second event
            del self._known[next(iter(self._known))]

    # afterwards

    async def take_up(self) -> None:
        """Find the files that an earlier run has claimed."""
        left = await asyncio.to_thread(lambda: list(left_claimed(self._pattern)))
        for start in range(0, len(left), _ASK_AT_ONCE):
            part = left[start : start + _ASK_AT_ONCE]
            known = await self._ctx.known([key for key, _ in part])
            for key, path in part:
                if key in known:
                    self._claimed[known[key]] = (key, path)
                else:
                    # its event is long forgotten: for us it has just arrived
                    back = self._pattern.root / path.name
                    if not back.exists():
                        await asyncio.to_thread(path.rename, back)
        if self._claimed:
            self._has_claimed.set()

    async def put_away(self) -> None:
        """Apply ``after`` as executions end, until cancelled."""
        looked = 0.0
        while True:
            if len(self._claimed) < _FEW and time.monotonic() - looked > _LOOK_AT_ENDS:
                # a replay fetches its file back by itself
                await self.take_up()
                looked = time.monotonic()
            if self._claimed:
                if not await self._put_away_ended():
                    await self._ctx.until_an_end(_LOOK_AT_ENDS)
                    await asyncio.sleep(_COMPANY)
                continue
            self._has_claimed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AT_ENDS):
                    await self._has_claimed.wait()

    async def _put_away_ended(self) -> bool:
        """Put away what has ended; answers whether anything had."""
        some = False
        waiting = list(self._claimed)
        for start in range(0, len(waiting), _ASK_AT_ONCE):
            outcomes = await self._ctx.outcomes(waiting[start : start + _ASK_AT_ONCE])
            ended = {id: state for id, state in outcomes.items() if state is not None}
            if not ended:
                # they end in about the order they came: what is behind these has hardly begun
                break
            some = True
            await asyncio.to_thread(self._apply, ended)
            for event_id in ended:
                del self._claimed[event_id]
        return some

    def _apply(self, ended: Mapping[str, ExecutionState]) -> None:
        for event_id, state in ended.items():
            key, path = self._claimed[event_id]
            self._after.apply(path, key, is_failure=state not in _SUCCESSES)
