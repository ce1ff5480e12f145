"""What is built on the base classes keeps the contracts, and does what the bases say."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, Field

from hub.plugin import (
    Batch,
    Delivery,
    HttpRequest,
    InvalidInput,
    Occurrence,
    Polled,
    PollingTrigger,
    ReceivingTrigger,
    Request,
    RequestTask,
    Response,
    StreamingTrigger,
    TaskContext,
    TriggerContext,
    jsontext,
)
from hub.testing import HttpReceiver, TaskContract, TriggerContract, TriggerRun, VirtualClock
from hub.testing.contracts.trigger import Source


class Ask(RequestTask):
    """Ask a service."""

    type: ClassVar[str] = "shapes.ask"
    examples: ClassVar[tuple[str, ...]] = ("id: ask\ntype: shapes.ask\nurl: http://127.0.0.1:9/",)

    url: str = Field(description="Where.")
    question: str = Field("why", description="What.")

    class Output(BaseModel):
        text: str = Field(description="The answer.")

    async def request(self, ctx: TaskContext) -> Request:
        return Request("POST", self.url, params={"a": "b"}, json={"question": self.question})

    def outputs(self, response: Response) -> Output:
        return self.Output(text=response.json["text"])


class TestAsk(TaskContract):
    task = Ask

    @pytest.fixture
    def fields(self, http_receiver: HttpReceiver) -> Mapping[str, Any]:
        http_receiver.answer(200, {"text": "because"})
        return {"url": http_receiver.url}

    @pytest.fixture
    def slow_fields(self, http_receiver: HttpReceiver) -> Mapping[str, Any]:
        http_receiver.answer(200, after=60)
        return {"url": http_receiver.url}


async def test_a_request_is_sent_as_it_was_said(run_task: Any, http_receiver: HttpReceiver) -> None:
    http_receiver.answer(200, {"text": "because"})
    assert (await run_task(Ask, url=http_receiver.url, question="now")).outputs == {"text": "because"}
    received = await http_receiver.next()
    assert (received.method, received.query, received.json) == ("POST", {"a": ["b"]}, {"question": "now"})


@pytest.mark.parametrize(
    ("status", "headers", "attempts", "waited"),
    [
        (400, {}, 1, timedelta()),
        (302, {"Location": "http://127.0.0.1:9/"}, 1, timedelta()),
        (429, {"Retry-After": "120"}, 3, timedelta(seconds=240)),
        (503, {"Retry-After": "nonsense"}, 3, timedelta(seconds=20)),
        (500, {}, 3, timedelta(seconds=20)),
    ],
)
async def test_what_a_retry_may_heal_is_tried_again(
    run_task: Any,
    http_receiver: HttpReceiver,
    virtual_clock: VirtualClock,
    status: int,
    headers: dict[str, str],
    attempts: int,
    waited: timedelta,
) -> None:
    http_receiver.answer(status, "no, not today", headers)
    began = virtual_clock.now()
    result = await run_task(Ask, url=http_receiver.url, retry={"interval": "10s", "maxAttempts": 3})
    assert (result.state, result.attempts) == ("FAILED", attempts)
    assert f"answered {status}: no, not today" in result.error
    assert virtual_clock.now() - began == waited


async def test_a_connection_that_breaks_is_a_failure_in_words(
    run_task: Any, http_receiver: HttpReceiver
) -> None:
    http_receiver.answer(hang_up=True)
    assert "the request failed: " in (await run_task(Ask, url=http_receiver.url)).error
    assert "is not an http:// or https:// address" in (await run_task(Ask, url="nonsense")).error


class Lines(PollingTrigger):
    """Start the flow for every new line of a file."""

    type: ClassVar[str] = "shapes.lines"
    examples: ClassVar[tuple[str, ...]] = ("id: lines\ntype: shapes.lines\nfile: lines.txt\nevery: PT5M",)

    file: str = Field(description="Which.")

    class Data(BaseModel):
        line: str = Field(description="The line.")

    async def poll(self, ctx: TriggerContext, state: Mapping[str, Any]) -> Polled:
        lines = (await asyncio.to_thread(ctx.place(self.file).read_text)).splitlines()
        seen = state.get("seen", 0)
        return Polled([Occurrence({"line": line}) for line in lines[seen:]], {"seen": len(lines)})


class File(Source):
    fields = {"file": "lines.txt", "every": "PT5M"}

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lines.txt"
        self.path.touch()

    async def happen(self, running: TriggerRun, number: int) -> None:
        with self.path.open("a") as file:
            file.write(f"line {number}\n")


class TestLines(TriggerContract):
    trigger_type = Lines

    @pytest.fixture
    def source(self, tmp_path: Path, virtual_clock: VirtualClock) -> Source:
        return File(tmp_path)


class Broker:
    def __init__(self) -> None:
        self.messages: list[int] = []
        self.taken = 0
        self.connections = 0
        self.news = asyncio.Event()


BROKER: list[Broker] = []


class Messages(StreamingTrigger):
    """Start the flow for every message."""

    type: ClassVar[str] = "shapes.messages"
    examples: ClassVar[tuple[str, ...]] = ("id: messages\ntype: shapes.messages",)

    async def batches(self, ctx: TriggerContext) -> AsyncIterator[Batch]:
        broker = BROKER[-1]
        broker.connections += 1
        try:
            at = broker.taken
            while True:
                while at < len(broker.messages):
                    number = broker.messages[at]
                    at += 1

                    async def acknowledge(upto: int = at) -> None:
                        broker.taken = upto

                    yield Batch([Occurrence({"n": number}, delivery=Delivery(str(number)))], acknowledge)
                broker.news.clear()
                await broker.news.wait()
        finally:
            broker.connections -= 1


class Queue(Source):
    def __init__(self) -> None:
        self.broker = Broker()
        BROKER.append(self.broker)

    async def happen(self, running: TriggerRun, number: int) -> None:
        self.broker.messages.append(number)
        self.broker.news.set()

    def acknowledged(self) -> int:
        return self.broker.taken


class TestMessages(TriggerContract):
    trigger_type = Messages

    @pytest.fixture
    def source(self) -> Any:
        queue = Queue()
        yield queue
        assert queue.broker.connections == 0


class Signed(ReceivingTrigger):
    """Start the flow for every signed request."""

    type: ClassVar[str] = "shapes.signed"
    examples: ClassVar[tuple[str, ...]] = ("id: signed\ntype: shapes.signed\nkey: k\nsecret: s",)

    secret: str = Field(description="What requests are signed with.")

    class Data(BaseModel):
        n: int = Field(description="What was sent.")

    def verify(self, request: HttpRequest, ctx: TriggerContext) -> bool:
        return hmac.compare_digest(
            _signature(self.secret, request.raw), request.headers.get("x-signature", "")
        )

    def occurrences(self, request: HttpRequest, ctx: TriggerContext) -> Sequence[Occurrence]:
        body = jsontext.loads(request.body)
        if body == "ping":
            return []
        if not isinstance(body, dict):
            raise InvalidInput("the body is no mapping")
        digest = hashlib.sha256(request.body).hexdigest()
        return [Occurrence({"n": body["n"]}, delivery=Delivery(request.headers["x-id"], digest))]


def _signature(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, "sha256").hexdigest()


class Sender(Source):
    fields = {"secret": "s3cr3t"}

    def __init__(self) -> None:
        self.taken = 0

    async def happen(self, running: TriggerRun, number: int) -> None:
        body = b'{"n": %d}' % number
        headers = {"X-Signature": _signature("s3cr3t", body), "X-Id": str(number)}
        reply = await running.send(body, headers=headers)
        if reply.status != 202:
            raise ConnectionError(f"answered {reply.status}")
        self.taken += 1

    def acknowledged(self) -> int:
        return self.taken


class TestSigned(TriggerContract):
    trigger_type = Signed

    @pytest.fixture
    def source(self) -> Source:
        return Sender()


async def test_a_request_that_is_no_good_one_is_refused_with_its_status(trigger: Any) -> None:
    async with trigger(Signed, secret="s3cr3t") as running:

        async def sent(body: bytes, id: str = "1", **more: Any) -> tuple[int, Any]:
            headers = {"X-Signature": _signature("s3cr3t", body), "X-Id": id}
            reply = await running.send(body, headers=headers, **more)
            return reply.status, reply.json

        assert (await running.send(b"{}", headers={"X-Signature": "wrong"})).status == 401
        assert (await running.send(b"{}")).status == 401
        assert (await sent(b"{}", method="PUT"))[0] == 405
        assert (await sent(b"[]"))[0] == 422
        assert (await sent(b"nonsense"))[0] == 422
        assert await sent(b'"ping"') == (202, {"eventIds": []})
        first = await sent(b'{"n": 1}')
        assert first[0] == 202
        assert await sent(b'{"n": 1}') == first
        assert (await sent(b'{"n": 2}'))[0] == 409
        assert [event.data for event in running.events] == [{"n": 1}]
