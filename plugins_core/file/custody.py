"""Custody: who holds which claimed file, from the claim until every execution of it has ended.

One for all file triggers of a hub, open as long as the hub is. Triggers hand files in when they claim them and
when they find them claimed at their start; executions ask for theirs before they go on. It outlives a trigger:
a flow that is changed, disabled or retired has its files put away all the same. News of ends are hints; the
storage is asked now and then about every file that is held.

All of it runs in the event loop; only what touches files goes to a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from hub.plugin import ExecutionState, Folders, HubError, TriggerContext
from plugins_core.file.claims import After

_ASK_AT_ONCE = 500
_ASK_AGAIN_AT_ONCE = 10_000
_LOOK_AT_ENDS = 5.0
_COMPANY = 0.02
"""Seconds that an end waits for others, so that files are put away together."""
_TRY_AGAIN = 5.0
_SUCCESSES = frozenset({ExecutionState.SUCCESS, ExecutionState.WARNING})


@dataclass(slots=True)
class Held:
    """A claimed file and what is to become of it."""

    event_id: str
    path: Path
    after: After
    is_sure: bool = False
    """Whether it is known to lie there as it arrived."""
    asked_for: int = 0
    """When an execution last asked for it, in turns of the custody."""
    replays: set[str] = field(default_factory=set)
    """The events of the executions that asked for it and came from another event than its own."""


@dataclass(slots=True)
class _Root:
    """A folder that triggers take files from."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Custody:
    """Every claimed file of this hub."""

    def __init__(self, ctx: TriggerContext) -> None:
        self._ctx = ctx
        self._held: dict[str, Held] = {}
        self._by_event: dict[str, set[str]] = {}
        self._replays: dict[str, str] = {}
        # files that are being claimed, put away or looked for, each with what is set when that is over
        self._moving: dict[str, asyncio.Event] = {}
        self._roots: dict[Path, _Root] = {}
        # events to ask about at once
        self._ask: dict[str, None] = {}
        self._has_files = asyncio.Event()
        self._turn = 0
        self._complained: set[str] = set()

    # triggers

    @contextmanager
    def takes_from(self, root: Path) -> Iterator[None]:
        """A trigger takes files from a folder as long as the block lasts."""
        known = self._roots.setdefault(root, _Root())
        known.users += 1
        try:
            yield
        finally:
            known.users -= 1
            if not known.users:
                del self._roots[root]

    @asynccontextmanager
    async def turn(self, root: Path) -> AsyncIterator[bool]:
        """The right to take files from a folder, one trigger at a time; gives whether there are several."""
        around = sorted(
            other for other in self._roots if other.is_relative_to(root) or root.is_relative_to(other)
        )
        roots = [self._roots[other] for other in around]
        async with contextlib.AsyncExitStack() as stack:
            for one in roots:
                await stack.enter_async_context(one.lock)
            yield sum(one.users for one in roots) > 1

    @contextmanager
    def moving(self, paths: Iterable[Path]) -> Iterator[None]:
        """Files are on their way to these places: whoever asks for one waits until the block ends."""
        over = asyncio.Event()
        mine = [str(path) for path in paths if str(path) not in self._moving]
        self._moving |= dict.fromkeys(mine, over)
        try:
            yield
        finally:
            for path in mine:
                del self._moving[path]
            over.set()

    def hold(
        self, event_id: str, path: Path, after: After, *, is_sure: bool, asked_by: str | None = None
    ) -> None:
        """A file lies claimed; it is put away when all executions of its event have ended.

        ``asked_by`` is the event of one that is about to go on: this one or a replay of it.
        """
        name = str(path)
        known = self._held.pop(name, None)
        held = Held(event_id, path, after, is_sure)
        if known is not None:
            self._forget(known)
            held.is_sure, held.asked_for = is_sure or known.is_sure, known.asked_for
        self._held[name] = held
        self._by_event.setdefault(event_id, set()).add(name)
        if asked_by is not None:
            self._asked(held, asked_by)
        if not is_sure:
            self._ask[event_id] = None
        self._has_files.set()

    # executions

    async def ask_for(self, path: str, event_id: str) -> bool:
        """Whether a file is known to lie claimed, and stays until the execution that asks has ended."""
        while (moving := self._moving.get(path)) is not None:
            await moving.wait()
        known = self._held.get(path)
        if known is None or not known.is_sure:
            return False
        self._asked(known, event_id)
        return True

    def _asked(self, held: Held, event_id: str) -> None:
        held.asked_for = self._turn
        if event_id != held.event_id:
            held.replays.add(event_id)
            self._replays[event_id] = held.event_id

    # life

    async def run(self) -> None:
        """Put files away as their executions end, until cancelled."""
        while True:
            await self._has_files.wait()
            try:
                await self._put_away_all()
                self._has_files.clear()
            except Exception as error:
                # the files of every flow depend on this: it is said, and it goes on
                self._ctx.log("error", "files cannot be put away; trying again", error=str(error))
                await asyncio.sleep(_TRY_AGAIN)

    async def _put_away_all(self) -> None:
        """Until nothing is held."""
        loop = asyncio.get_running_loop()
        looked = loop.time()
        with self._ctx.ends() as news:
            while self._held:
                await self._put_away_ended()
                ended = await news.next(_LOOK_AT_ENDS)
                if ended:
                    await asyncio.sleep(_COMPANY)
                    ended |= await news.next(0)
                ended |= {self._replays[id] for id in self._replays.keys() & ended}
                self._ask |= dict.fromkeys(self._by_event.keys() & ended)
                if loop.time() - looked >= _LOOK_AT_ENDS:
                    self._ask |= dict.fromkeys(self._oldest())
                    looked = loop.time()

    def _oldest(self) -> list[str]:
        """Files that nothing was heard of for the longest; they go to the end of the line."""
        oldest = list(islice(self._by_event, _ASK_AGAIN_AT_ONCE))
        for event_id in oldest:
            self._by_event[event_id] = self._by_event.pop(event_id)
        return oldest

    async def _put_away_ended(self) -> None:
        while self._ask:
            part = list(islice(self._ask, _ASK_AT_ONCE))
            self._turn += 1
            turn = self._turn
            outcomes = await self._ctx.outcomes(part)
            for event_id in part:
                self._ask.pop(event_id, None)
            ended: dict[str, bool] = {}
            for event_id in part:
                # an event whose executions are gone for long has nobody left to say how they went
                state = outcomes.get(event_id, ExecutionState.FAILED)
                if state is not None:
                    paths = self._by_event.get(event_id, ())
                    ended |= {path: state not in _SUCCESSES for path in paths if self._may_go(path, turn)}
            if ended:
                await self._put_away(ended)

    def _may_go(self, path: str, turn: int) -> bool:
        # an execution that asked after the storage did is not among those that have ended
        return path not in self._moving and self._held[path].asked_for < turn

    async def _put_away(self, ended: Mapping[str, bool]) -> None:
        held = {path: self._held.pop(path) for path in ended}
        for one in held.values():
            self._forget(one)
        with self.moving(one.path for one in held.values()):
            wrong = await asyncio.to_thread(_apply, held, ended)
            for path, reason in wrong.items():
                self._complain(path, reason)
                # asked about again in a while, with all the others
                one = held[path]
                self.hold(one.event_id, one.path, one.after, is_sure=one.is_sure)
                self._ask.pop(one.event_id, None)
        self._complained -= ended.keys() - wrong.keys()

    def _forget(self, held: Held) -> None:
        paths = self._by_event.get(held.event_id, set())
        paths.discard(str(held.path))
        if not paths:
            self._by_event.pop(held.event_id, None)
        for event_id in held.replays:
            self._replays.pop(event_id, None)

    def _complain(self, path: str, reason: str) -> None:
        if path not in self._complained:
            self._complained.add(path)
            self._ctx.log(
                "error",
                "a file cannot be put away; it is tried again",
                path=path,
                error=reason,
            )


def _apply(held: Mapping[str, Held], failures: Mapping[str, bool]) -> dict[str, str]:
    """Put files away; answers what could not be, and why."""
    wrong: dict[str, str] = {}
    with Folders() as folders:
        for path, one in held.items():
            try:
                one.after.apply(folders, one.path, is_failure=failures[path])
            except (OSError, HubError) as error:
                wrong[path] = str(error)
    return wrong


def custody_of(ctx: TriggerContext) -> Callable[[], contextlib.AbstractAsyncContextManager[Custody]]:
    """What opens the custody, for ``ctx.shared``."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Custody]:
        custody = Custody(ctx)
        job = asyncio.create_task(custody.run(), name="file custody")
        try:
            yield custody
        finally:
            job.cancel()
            await asyncio.wait([job])

    return opened
