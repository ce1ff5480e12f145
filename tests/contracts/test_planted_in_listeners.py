"""The listener contract notices bugs: each planted here makes one of its tests fail, which passes without it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from hub.errors import PluginError
from hub.plugin import (
    ExecutionChanged,
    Listener,
    ListenerContext,
    News,
    NewsStream,
    TaskRunEnded,
)
from hub.testing import Kit, ListenerContract, Witness

WALL: list[str] = []
"""What the listeners here write to."""
AWAY = threading.Event()


def write(news: News) -> None:
    if AWAY.is_set():
        raise ConnectionError("the wall is away")
    WALL.append(news.execution_id if isinstance(news, TaskRunEnded) else news.id)


class Wall(Witness):
    def seen(self) -> Sequence[str]:
        return list(WALL)

    async def go_away(self) -> bool:
        AWAY.set()
        return True

    async def come_back(self) -> None:
        AWAY.clear()


class Tells(Listener):
    """Write everything to the wall."""

    type: ClassVar[str] = "planted.wall"

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        async for one in news:
            self.take(one)

    def take(self, one: News) -> None:
        write(one)


@pytest.fixture(autouse=True)
def _clean() -> Any:
    WALL.clear()
    AWAY.clear()
    yield
    while LEFT:
        LEFT.pop()()


class TestTells(ListenerContract):
    listener_type = Tells

    @pytest.fixture
    def witness(self) -> Wall:
        return Wall()


class Failures(Tells):
    """Write what failed to the wall."""

    type: ClassVar[str] = "planted.failures"
    wants = (ExecutionChanged,)

    def take(self, one: News) -> None:
        if isinstance(one, ExecutionChanged) and one.state == "FAILED":
            write(one)


class TestFailures(ListenerContract):
    """One that acts on some of what it wants."""

    listener_type = Failures

    @pytest.fixture
    def witness(self) -> Wall:
        class OfFailures(Wall):
            def acts_on(self, news: News) -> bool:
                return isinstance(news, ExecutionChanged) and news.state == "FAILED"

        return OfFailures()


LEFT: list[Callable[[], Any]] = []


class ForgetsEverySecond(Tells):
    """Write to the wall."""

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        number = 0
        async for one in news:
            number += 1
            if number % 2:
                self.take(one)


class WritesTwice(Tells):
    """Write to the wall."""

    def take(self, one: News) -> None:
        write(one)
        write(one)


class TurnsThemRound(Tells):
    """Write to the wall."""

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        held: list[News] = []
        async for one in news:
            held.append(one)
            if len(held) == 2:
                for other in reversed(held):
                    self.take(other)
                held.clear()
        for other in held:
            self.take(other)


class WaitsForABatch(Tells):
    """Write to the wall, seven at a time."""

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        held: list[News] = []
        async for one in news:
            held.append(one)
            if len(held) == 7:
                for other in held:
                    self.take(other)
                held.clear()


class FailsOverWhatHasNoFlow(Tells):
    """Write to the wall."""

    def take(self, one: News) -> None:
        assert one.flow is not None
        len(one.flow.namespace)
        write(one)


class FailsOverWhatHasNoEnd(Tells):
    """Write to the wall."""

    def take(self, one: News) -> None:
        if isinstance(one, TaskRunEnded):
            one.ended_at.isoformat()  # type: ignore[union-attr]
        write(one)


class NeverEnds(Tells):
    """Write to the wall."""

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        async for one in news:
            self.take(one)
        await asyncio.sleep(3600)


class TakesNoNoticeOfItsEnd(Tells):
    """Write to the wall."""

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        async for one in news:
            self.take(one)
        over = threading.Event()
        LEFT.append(over.set)
        over.wait(30)


class LeavesAThread(Tells):
    """Write to the wall."""

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        over = threading.Event()
        LEFT.append(over.set)
        threading.Thread(target=over.wait, args=(60,)).start()
        await super().run(ctx, news)


class LeavesAFileOpen(Tells):
    """Write to the wall."""

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        LEFT.append(open("/etc/hostname").close)
        await super().run(ctx, news)


class GivesUpWhenTheWallIsAway(Tells):
    """Write to the wall."""

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        with suppress(ConnectionError):
            await super().run(ctx, news)


class HoldsItAcrossRestarts(Tells):
    """Write to the wall."""

    used: ClassVar[set[int]] = set()

    def take(self, one: News) -> None:
        if self.used and id(self) not in self.used:
            raise RuntimeError("it is held by another")
        self.used.add(id(self))
        write(one)


class WantsNothing(Tells):
    """Write to the wall."""

    wants = ()


class HasNoDescription(Tells): ...


TAKEN = "test_the_hub_takes_it"
ORDER = "test_everything_it_wants_is_done_once_and_in_order"
FAILS = "test_nothing_that_happens_makes_it_fail"
REST = "test_what_waits_at_the_hubs_end_is_still_done"
END = "test_it_ends_with_the_hub_and_leaves_nothing_behind"
RESTART = "test_it_goes_on_after_a_restart"
AWAY_TEST = "test_it_goes_on_once_what_it_writes_to_is_back"
PLANTED: list[tuple[type[Listener], str]] = [
    (ForgetsEverySecond, REST),
    (WritesTwice, ORDER),
    (TurnsThemRound, ORDER),
    (WaitsForABatch, REST),
    (FailsOverWhatHasNoFlow, FAILS),
    (FailsOverWhatHasNoEnd, FAILS),
    (NeverEnds, END),
    (TakesNoNoticeOfItsEnd, END),
    (LeavesAThread, END),
    (LeavesAFileOpen, END),
    (GivesUpWhenTheWallIsAway, AWAY_TEST),
    (HoldsItAcrossRestarts, RESTART),
    (WantsNothing, TAKEN),
    (HasNoDescription, TAKEN),
]


@pytest.mark.parametrize(("planted", "test"), PLANTED, ids=lambda one: getattr(one, "__name__", None))
async def test_a_planted_bug_is_noticed(planted: type[Listener], test: str, hub_kit: Kit) -> None:
    suite = ListenerContract()
    suite.listener_type = planted
    arguments = {} if test == TAKEN else {"hub_kit": hub_kit, "witness": Wall()}
    with pytest.raises((AssertionError, PluginError)):
        await noticing(getattr(suite, test), arguments)


async def noticing(test: Callable[..., Any], arguments: dict[str, Any]) -> None:
    found = test(**arguments)
    if found is not None:
        await found
