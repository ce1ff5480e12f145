"""Listeners are told what happens, and whatever one does, it does to itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from hub.engine.listeners import ListenerStatus
from hub.model.execution import ExecutionState
from hub.model.task_run import TaskRunState
from hub.plugin import (
    EventAccepted,
    ExecutionChanged,
    Fail,
    Listener,
    ListenerContext,
    News,
    NewsStream,
    TaskContext,
    TaskRunEnded,
)
from hub.testing import Harness, harness
from tests.support.stage import Stage

_S = ExecutionState
FLOW = "id: f\nnamespace: t\ntasks: [{id: a, type: return, value: 1}]\n"
Run = Callable[[ListenerContext, NewsStream], Awaitable[None]]


def listening(
    run: Run, *, name: str = "one", size: int = 1000, wants: tuple[type[News], ...] = Listener.wants
) -> type[Listener]:
    """A listener whose ``run`` a test writes."""

    class Told(Listener):
        type: ClassVar[str] = f"test.{name}"
        queue_size: ClassVar[int] = size

        async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
            await run(ctx, news)

    Told.wants = wants
    return Told


class Heard:
    """What a listener has heard, seen from the test's thread."""

    def __init__(self) -> None:
        self.news: list[News] = []
        self._more = threading.Condition()

    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        async for one in news:
            with self._more:
                self.news.append(one)
                self._more.notify_all()

    async def until(self, is_enough: Callable[[list[News]], bool]) -> list[News]:
        def wait() -> list[News]:
            with self._more:
                assert self._more.wait_for(lambda: is_enough(self.news), 20), self.news
                return list(self.news)

        return await asyncio.to_thread(wait)

    async def end_of(self, execution: str) -> list[News]:
        return await self.until(
            lambda news: any(
                isinstance(one, ExecutionChanged) and one.id == execution and one.state.is_terminal
                for one in news
            )
        )


def hub_with(
    folder: Path, *listeners: type[Listener], storage: str = "memory:", stage: Stage | None = None
) -> AbstractAsyncContextManager[Harness]:
    stage = stage or Stage()
    registry = replace(stage.registry, listeners=tuple(listeners))
    return harness(folder, storage=storage, registry=registry, environ={"HUB_SECRET_TOKEN": "s3cr3t-value"})


def status(hub: Harness, name: str = "one") -> ListenerStatus:
    return next(one for one in hub.node.listeners.statuses() if one.type == f"test.{name}")


@pytest.fixture(params=["memory:", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hub.db'}" if request.param == "sqlite" else str(request.param)


def states(news: Iterable[News], execution: str) -> list[ExecutionState]:
    return [one.state for one in news if isinstance(one, ExecutionChanged) and one.id == execution]


async def test_it_is_told_of_events_executions_and_tasks_in_their_order(tmp_path: Path, storage: str) -> None:
    heard = Heard()
    async with hub_with(tmp_path, listening(heard.run), storage=storage) as hub:
        await hub.put("""id: f
namespace: t
labels: {team: a}
triggers:
  - {id: paid, type: event.matched, event: shop.paid, when: "{{ trigger.n > 5 }}"}
  - {id: never, type: event.matched, event: "shop.*", when: "{{ trigger.n > 50 }}"}
tasks:
  - {id: nap, type: flow.sleep, duration: 400ms}
  - {id: a, type: return, value: 1}
""")
        await hub.put(
            "id: e\nnamespace: t\ntasks: [{id: emit, type: event.emit, event: shop.paid, data: {n: 9}}]\n"
        )
        emitter = await hub.run("t/e")
        news = await heard.until(
            lambda news: any(
                isinstance(one, ExecutionChanged) and one.flow.id == "f" and one.state is _S.SUCCESS
                for one in news
            )
        )
    [event] = [one for one in news if isinstance(one, EventAccepted)]
    assert (event.type, event.source, event.depth) == ("shop.paid", "/t/e", 1)
    [refused] = event.verdicts
    assert (refused.trigger, refused.outcome) == ("never", "refused")
    [started] = event.execution_ids
    without_running = [one for one in states(news, started) if one is not _S.RUNNING]
    assert without_running == [_S.CREATED, _S.PAUSED, _S.SUCCESS]
    assert states(news, emitter.id)[0] is _S.CREATED
    ended = [one for one in news if isinstance(one, TaskRunEnded)]
    assert [(one.execution_id, one.path, one.state, one.attempts) for one in ended] == [
        (emitter.id, "emit", TaskRunState.SUCCESS, 1),
        (started, "nap", TaskRunState.SUCCESS, ended[1].attempts),
        (started, "a", TaskRunState.SUCCESS, 1),
    ]
    last = news[-1]
    assert isinstance(last, ExecutionChanged)
    assert (last.trigger, last.event_id, last.labels) == ("paid", event.id, {"team": "a"})


async def test_an_end_at_birth_a_kill_and_what_ends_start_are_told(tmp_path: Path, storage: str) -> None:
    heard = Heard()
    async with hub_with(tmp_path, listening(heard.run), storage=storage) as hub:
        await hub.put("""id: f
namespace: t
concurrency: {limit: 1, behavior: CANCEL}
tasks: [{id: nap, type: flow.sleep, duration: PT1H}]
""")
        await hub.put("""id: after
namespace: t
triggers: [{id: t, type: flow.finished, flow: f, states: [KILLED, CANCELLED]}]
tasks: [{id: a, type: return, value: 1}]
""")
        first = await hub.start("t/f")
        second = await hub.start("t/f")
        await heard.until(lambda news: _S.PAUSED in states(news, first.id))
        await hub.node.kill(first.id, "enough")
        news = await heard.until(
            lambda news: (
                sum(
                    isinstance(one, ExecutionChanged) and one.flow.id == "after" and one.state is _S.SUCCESS
                    for one in news
                )
                == 2
            )
        )
    assert states(news, first.id) == [_S.CREATED, _S.RUNNING, _S.PAUSED, _S.KILLED]
    assert states(news, second.id) == [_S.CANCELLED]
    reasons = {one.id: one.error for one in news if isinstance(one, ExecutionChanged) and one.error}
    assert reasons == {first.id: "enough", second.id: "over the concurrency limit of 1"}
    events = {one.id: one for one in news if isinstance(one, EventAccepted)}
    assert set(events) == {f"{first.id}.KILLED", f"{second.id}.CANCELLED"}
    assert all(len(one.execution_ids) == 1 for one in events.values())


async def test_a_repeated_delivery_is_no_news(tmp_path: Path) -> None:
    heard = Heard()
    async with hub_with(tmp_path, listening(heard.run, wants=(EventAccepted,))) as hub:
        await hub.put("""id: e
namespace: t
tasks:
  - {id: a, type: event.emit, event: x, deliveryId: same}
  - {id: b, type: event.emit, event: x, deliveryId: same}
  - {id: c, type: event.emit, event: y}
""")
        await hub.run("t/e")
        news = await heard.until(lambda news: any(getattr(one, "type", "") == "y" for one in news))
    assert [one.type for one in news if isinstance(one, EventAccepted)] == ["x", "y"]


async def test_a_secret_value_is_masked(tmp_path: Path, stage: Stage) -> None:
    heard = Heard()

    @stage.on("tell")
    async def tell(ctx: TaskContext) -> None:
        raise Fail(f"refused: {await ctx.secret('TOKEN')}")

    async with hub_with(tmp_path, listening(heard.run), stage=stage) as hub:
        await hub.put("id: f\nnamespace: t\ntasks: [{id: a, type: test.call, name: tell}]\n")
        ended = await hub.run("t/f")
        news = await heard.end_of(ended.id)
    errors = [one.error for one in news if isinstance(one, TaskRunEnded | ExecutionChanged) and one.error]
    assert len(errors) == 2
    assert all("refused: ******" in error for error in errors)


async def test_one_that_blocks_holds_nobody_up_and_what_it_misses_is_counted(tmp_path: Path) -> None:
    release = threading.Event()
    entered = threading.Event()

    async def block(ctx: ListenerContext, news: NewsStream) -> None:
        entered.set()
        release.wait()  # plain code that never gives way

    heard = Heard()
    slow = listening(block, name="slow", size=10)
    try:
        with capture_logs() as logs:
            async with hub_with(tmp_path, slow, listening(heard.run)) as hub:
                await hub.put(FLOW)
                assert await asyncio.to_thread(entered.wait, 20)
                for _ in range(30):
                    last = await hub.run("t/f")
                news = await heard.end_of(last.id)
                found = status(hub, "slow")
                assert (found.waiting, found.missed) == (10, len(news) - 10)
                assert status(hub).missed == 0
        dropped = [one for one in logs if "news are dropped" in one["event"]]
        assert [(one["listener"], one["dropped"]) for one in dropped] == [("test.slow", 1)]
        assert any("left behind" in one["event"] for one in logs)
    finally:
        release.set()


async def test_one_that_fails_is_shown_and_started_again(tmp_path: Path) -> None:
    runs: list[int] = []
    heard = Heard()

    async def fail_at_first(ctx: ListenerContext, news: NewsStream) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError("the other end is away")
        await heard.run(ctx, news)

    async with hub_with(tmp_path, listening(fail_at_first)) as hub:
        await hub.put(FLOW)
        ended = await hub.run("t/f")
        # what was told meanwhile has waited for it
        await heard.end_of(ended.id)
        found = status(hub)
        assert (found.state, found.failures, found.error) == (
            "running",
            1,
            "ValueError: the other end is away",
        )


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, MemoryError])
async def test_one_that_ends_everything_ends_itself_alone(tmp_path: Path, end: type[BaseException]) -> None:
    ended = threading.Event()

    async def fall(ctx: ListenerContext, news: NewsStream) -> None:
        ended.set()
        raise end

    heard = Heard()
    async with hub_with(tmp_path, listening(fall, name="bad"), listening(heard.run)) as hub:
        await hub.put(FLOW)
        assert await asyncio.to_thread(ended.wait, 20)
        execution = await hub.run("t/f")
        await heard.end_of(execution.id)


async def test_what_waits_at_the_end_of_the_hub_is_still_heard(tmp_path: Path) -> None:
    heard: list[News] = []
    go = threading.Event()

    async def late(ctx: ListenerContext, news: NewsStream) -> None:
        await asyncio.to_thread(go.wait)
        async for one in news:
            heard.append(one)

    async with hub_with(tmp_path, listening(late)) as hub:
        hub.node.drain_grace = 30.0
        await hub.put(FLOW)
        ended = await hub.run("t/f")
        assert heard == []
        go.set()
    assert states(heard, ended.id) == [_S.CREATED, _S.SUCCESS]


async def test_one_that_takes_no_notice_of_the_end_is_left_behind_in_bounded_time(tmp_path: Path) -> None:
    async def stay(ctx: ListenerContext, news: NewsStream) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    began = 0.0
    async with hub_with(tmp_path, listening(stay)) as hub:
        await hub.put(FLOW)
        began = time.monotonic()
    assert time.monotonic() - began < 5


async def test_one_that_wants_no_more_is_kept_no_queue_for(tmp_path: Path) -> None:
    heard = Heard()

    async def enough(ctx: ListenerContext, news: NewsStream) -> None:
        return

    async with hub_with(tmp_path, listening(enough, name="short"), listening(heard.run)) as hub:
        await hub.put(FLOW)
        while status(hub, "short").state != "ended":
            await asyncio.sleep(0)
        first = status(hub, "short").told
        ended = await hub.run("t/f")
        await heard.end_of(ended.id)
        assert status(hub, "short").told == first


async def test_it_has_its_secrets_and_knows_what_it_missed(tmp_path: Path) -> None:
    said: list[Any] = []
    done = threading.Event()
    go = threading.Event()

    async def ask(ctx: ListenerContext, news: NewsStream) -> None:
        said.append(await ctx.secret("TOKEN"))
        await asyncio.to_thread(go.wait)
        async for _ in news:
            said.append(news.missed)
            done.set()

    async with hub_with(tmp_path, listening(ask, size=1)) as hub:
        await hub.put(FLOW)
        for _ in range(3):
            await hub.run("t/f")
        told = status(hub).told
        go.set()
        assert await asyncio.to_thread(done.wait, 20)
    assert said[:2] == ["s3cr3t-value", told - 1]
