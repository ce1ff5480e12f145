"""The trigger contract notices bugs: each planted here makes one of its tests fail, which passes without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import ClassVar

import pytest
from pydantic import BaseModel, Field

from hub.errors import StorageUnavailable
from hub.plugin import (
    Delivery,
    Emit,
    HttpAnswer,
    HttpRequest,
    HttpTrigger,
    Occurrence,
    Trigger,
    TriggerContext,
)
from hub.testing import Kit, TriggerContract
from hub.testing.contracts.trigger import Source
from hub.testing.kit import TriggerRun


class Broker:
    """A queue that gives a message again until it is acknowledged."""

    def __init__(self) -> None:
        self.messages: list[int] = []
        self.taken = 0
        self.news = asyncio.Event()

    def put(self, number: int) -> None:
        self.messages.append(number)
        self.news.set()

    async def messages_after(self, count: int) -> AsyncIterator[tuple[int, int]]:
        while True:
            while count < len(self.messages):
                yield count, self.messages[count]
                count += 1
            self.news.clear()
            await self.news.wait()


BROKER: list[Broker] = []


class Messages(Trigger):
    """Start the flow for every message of a queue."""

    type: ClassVar[str] = "planted.messages"
    examples: ClassVar[tuple[str, ...]] = ("id: queue\ntype: planted.messages\nqueue: orders",)

    queue: str = Field("orders", description="The queue's name.")

    class Data(BaseModel):
        number: int = Field(description="The message.")

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        broker = BROKER[-1]
        async for place, number in broker.messages_after(broker.taken):
            await emit(Occurrence({"number": number}, delivery=Delivery(str(place))))
            broker.taken = place + 1


class Queue(Source):
    """The broker in the hands of the contract."""

    def __init__(self) -> None:
        self.broker = Broker()
        BROKER.append(self.broker)

    async def happen(self, running: TriggerRun, number: int) -> None:
        self.broker.put(number)

    def acknowledged(self) -> int:
        return self.broker.taken


class TestMessages(TriggerContract):
    trigger_type = Messages

    @pytest.fixture
    def source(self) -> Source:
        return Queue()


class AcknowledgesEarly(Messages):
    """Start the flow for every message."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        broker = BROKER[-1]
        async for place, number in broker.messages_after(broker.taken):
            broker.taken = place + 1
            await emit(Occurrence({"number": number}, delivery=Delivery(str(place))))


class AcknowledgesBesides(Messages):
    """Start the flow for every message."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        broker = BROKER[-1]
        async for place, number in broker.messages_after(broker.taken):
            async with asyncio.TaskGroup() as group:
                group.create_task(_emit(emit, place, number))
                broker.taken = place + 1


async def _emit(emit: Emit, place: int, number: int) -> None:
    await emit(Occurrence({"number": number}, delivery=Delivery(str(place))))


class NeverAcknowledges(Messages):
    """Start the flow for every message."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        async for place, number in BROKER[-1].messages_after(0):
            await _emit(emit, place, number)


class SwallowsRefusals(Messages):
    """Start the flow for every message."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        broker = BROKER[-1]
        async for place, number in broker.messages_after(broker.taken):
            with suppress(StorageUnavailable):
                await _emit(emit, place, number)
            broker.taken = place + 1


class HasNoKeys(Messages):
    """Start the flow for every message."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        broker = BROKER[-1]
        async for place, number in broker.messages_after(broker.taken):
            await emit(Occurrence({"number": number}))
            broker.taken = place + 1


class BeginsAnew(Messages):
    """Start the flow for every message."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        broker = BROKER[-1]
        async for place, number in broker.messages_after(0):
            await emit(Occurrence({"number": number}))
            broker.taken = place + 1


class BeginsWithTheNewest(Messages):
    """Start the flow for every message."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        broker = BROKER[-1]
        async for place, number in broker.messages_after(len(broker.messages)):
            await _emit(emit, place, number)
            broker.taken = place + 1


class EmitsTwice(Messages):
    """Start the flow for every message."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        broker = BROKER[-1]
        async for place, number in broker.messages_after(broker.taken):
            await emit([Occurrence({"number": number}, delivery=Delivery(f"{place}-{n}")) for n in (1, 2)])
            broker.taken = place + 1


class BringsOtherData(Messages):
    """Start the flow for every message."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        broker = BROKER[-1]
        async for place, number in broker.messages_after(broker.taken):
            await emit(Occurrence({"number": f"number {number}"}, delivery=Delivery(str(place))))
            broker.taken = place + 1


class TakesNoNoticeOfItsEnd(Messages):
    """Start the flow for every message."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        until = asyncio.get_running_loop().time() + 8
        while True:
            try:
                await super().run(ctx, emit)
            except asyncio.CancelledError:
                if asyncio.get_running_loop().time() >= until:
                    raise
                await self._linger(until)
                raise

    async def _linger(self, until: float) -> None:
        await asyncio.sleep(until - asyncio.get_running_loop().time())


class LeavesATask(Messages):
    """Start the flow for every message."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        LEFT.append(asyncio.create_task(asyncio.sleep(60)))
        await super().run(ctx, emit)


LEFT: list[asyncio.Task[None]] = []

ONE_EACH = "test_what_happens_is_one_event_each"
EARLY = "test_nothing_is_acknowledged_before_it_is_stored"
REFUSED = "test_what_could_not_be_stored_comes_again"
CRASH = "test_a_crash_after_storing_repeats_nothing"
RESTART = "test_a_restart_repeats_nothing_and_goes_on"
DOWN = "test_what_happens_while_the_hub_is_down_is_found"
END = "test_it_ends_at_once_and_leaves_nothing_behind"
PLANTED: list[tuple[type[Trigger], str]] = [
    (AcknowledgesEarly, EARLY),
    (AcknowledgesBesides, EARLY),
    (NeverAcknowledges, EARLY),
    (AcknowledgesEarly, REFUSED),
    (SwallowsRefusals, REFUSED),
    (HasNoKeys, CRASH),
    (BeginsAnew, RESTART),
    (BeginsWithTheNewest, DOWN),
    (EmitsTwice, ONE_EACH),
    (BringsOtherData, ONE_EACH),
    (TakesNoNoticeOfItsEnd, END),
    (LeavesATask, END),
]


@pytest.mark.parametrize(("planted", "test"), PLANTED, ids=lambda one: getattr(one, "__name__", None))
async def test_a_planted_bug_is_noticed(
    planted: type[Trigger], test: str, hub_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub.testing import kit
    from hub.testing.contracts import trigger

    monkeypatch.setattr(kit, "_PATIENCE", 3.0)
    monkeypatch.setattr(trigger, "_PATIENCE", 3.0)
    suite = TriggerContract()
    suite.trigger_type = planted
    with pytest.raises(AssertionError):
        await getattr(suite, test)(hub_kit, Queue())
    for task in LEFT:
        task.cancel()
    LEFT.clear()


# the same for those that are asked


class Hook(HttpTrigger):
    """Start the flow for every request."""

    type: ClassVar[str] = "planted.hook"
    examples: ClassVar[tuple[str, ...]] = ("id: hook\ntype: planted.hook\nkey: k",)

    key: str = Field(description="The last part of its URL.")

    class Data(BaseModel):
        number: int = Field(description="What was sent.")

    async def receive(self, request: HttpRequest, ctx: TriggerContext, emit: Emit) -> HttpAnswer:
        await emit(Occurrence({"number": int(request.body)}, delivery=Delivery(request.headers["x-id"])))
        return HttpAnswer(202, None)


class Sender(Source):
    """Sends numbers, each with its id, and counts what was taken."""

    def __init__(self) -> None:
        self.taken = 0

    async def happen(self, running: TriggerRun, number: int) -> None:
        reply = await running.send(str(number), headers={"X-Id": str(number)})
        if reply.status != 202:
            raise ConnectionError(f"answered {reply.status}")
        self.taken += 1

    def acknowledged(self) -> int:
        return self.taken


class TestHook(TriggerContract):
    trigger_type = Hook

    @pytest.fixture
    def source(self) -> Source:
        return Sender()


class AnswersEarly(Hook):
    """Start the flow for every request."""

    async def receive(self, request: HttpRequest, ctx: TriggerContext, emit: Emit) -> HttpAnswer:
        LEFT.append(asyncio.ensure_future(super().receive(request, ctx, emit)))  # type: ignore[arg-type]
        return HttpAnswer(202, None)


class AnswersRefusals(Hook):
    """Start the flow for every request."""

    async def receive(self, request: HttpRequest, ctx: TriggerContext, emit: Emit) -> HttpAnswer:
        with suppress(StorageUnavailable):
            await super().receive(request, ctx, emit)
        return HttpAnswer(202, None)


class TakesNoKeys(Hook):
    """Start the flow for every request."""

    async def receive(self, request: HttpRequest, ctx: TriggerContext, emit: Emit) -> HttpAnswer:
        await emit(Occurrence({"number": int(request.body)}))
        return HttpAnswer(202, None)


@pytest.mark.parametrize(
    ("planted", "test"),
    [(AnswersEarly, EARLY), (AnswersRefusals, REFUSED), (TakesNoKeys, CRASH)],
    ids=lambda one: getattr(one, "__name__", None),
)
async def test_a_bug_planted_in_a_webhook_is_noticed(
    planted: type[Trigger], test: str, hub_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub.testing import kit

    monkeypatch.setattr(kit, "_PATIENCE", 3.0)
    suite = TriggerContract()
    suite.trigger_type = planted
    with pytest.raises(AssertionError):
        await getattr(suite, test)(hub_kit, Sender())
