"""The fixtures that plugins' tests use, each against tasks and triggers written here."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hub.errors import InvalidFlow
from hub.plugin import (
    Delivery,
    Emit,
    Failed,
    HttpAnswer,
    HttpRequest,
    HttpTrigger,
    Occurrence,
    StorageUnavailable,
    Task,
    TaskContext,
    Trigger,
    TriggerContext,
)
from hub.testing import HttpReceiver, Leaked, NothingCame, VirtualClock


class Send(Task):
    """Send a token."""

    type: ClassVar[str] = "kit.send"
    target_url: str
    token: str = ""

    def run(self, ctx: TaskContext) -> dict[str, Any]:
        request = urllib.request.Request(self.target_url, data=self.token.encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            ctx.logger.info(f"sent {self.token}")
            return {"status": answer.status, "body": answer.read().decode()}


async def test_a_task_is_run_with_secrets_and_a_real_receiver(
    run_task: Any, http_receiver: HttpReceiver, secrets: dict[str, str]
) -> None:
    secrets["TOKEN"] = "s3cr3t-value"
    http_receiver.answer(201, "made")
    result = await run_task(Send, target_url=f"{http_receiver.url}/a?b=1", token="{{ secret('TOKEN') }}")
    assert (result.state, result.outputs) == ("SUCCESS", {"status": 201, "body": "made"})
    assert result.logs == ("sent ******",)
    received = await http_receiver.next()
    assert (received.method, received.path, received.query) == ("POST", "/a", {"b": ["1"]})
    assert received.body == b"s3cr3t-value"


async def test_a_field_that_could_not_be_saved_is_refused(run_task: Any) -> None:
    with pytest.raises(InvalidFlow, match="unknown property"):
        await run_task(Send, targetUrl="x", tokn="y")


async def test_a_built_in_task_is_run_by_its_name(run_task: Any) -> None:
    result = await run_task("return", value={"text": "no", "line": "a\u2028b\x85"})
    assert result.outputs == {"value": {"text": "no", "line": "a\u2028b\x85"}}


class Flaky(Task):
    """Fail twice."""

    type: ClassVar[str] = "kit.flaky"

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        if ctx.attempt < 3:
            raise Failed(f"not yet: {ctx.attempt}")
        return {"at": ctx.now().isoformat()}


async def test_a_retry_after_hours_comes_at_once_by_the_virtual_clock(
    run_task: Any, virtual_clock: VirtualClock
) -> None:
    before = virtual_clock.now()
    result = await run_task(Flaky, retry={"interval": "PT3H", "maxAttempts": 5})
    assert (result.state, result.attempts) == ("SUCCESS", 3)
    assert virtual_clock.now() == before + timedelta(hours=6)


async def test_a_flow_is_run_with_its_inputs_and_the_flows_it_calls(run_flow: Any) -> None:
    called = (
        "id: child\nnamespace: t\ninputs: [{id: n, type: INT}]\ntasks: [{id: a, type: log, message: x}]\n"
    )
    called += 'outputs: [{id: twice, type: INT, value: "{{ inputs.n * 2 }}"}]\n'
    flow = """id: parent
namespace: t
inputs: [{id: n, type: INT}]
tasks:
  - {id: call, type: flow.subflow, namespace: t, flowId: child, inputs: {n: "{{ inputs.n }}"}}
outputs: [{id: found, type: INT, value: "{{ outputs.call.outputs.twice }}"}]
"""
    result = await run_flow(flow, {"n": 21}, also=[called])
    assert (result.error, result.outputs) == (None, {"found": 42})
    assert result.tasks["call"].state == "SUCCESS"


class Numbers(Trigger):
    """Emit the lines of a file, each once."""

    type: ClassVar[str] = "kit.numbers"
    file: str

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        seen = int(ctx.state.get("seen", 0))
        while True:
            lines = Path(self.file).read_text().split()
            for number, line in enumerate(lines[seen:], start=seen + 1):
                await emit(Occurrence({"line": line}, delivery=Delivery(str(number))), state={"seen": number})
                seen = number
            await ctx.sleep_until(ctx.now() + timedelta(minutes=5))


async def test_a_trigger_shows_its_events_and_goes_on_where_it_was(
    trigger: Any, tmp_path: Path, virtual_clock: VirtualClock
) -> None:
    file = tmp_path / "numbers"
    file.write_text("one two")
    async with trigger(Numbers, file=file) as running:
        assert [(await running.next()).data["line"] for _ in range(2)] == ["one", "two"]
        assert running.state == {"seen": 2}
        file.write_text("one two three")
        assert (await running.next()).data["line"] == "three"
        file.write_text("one two three four")
        await running.restart(crash=True)
        assert (await running.next()).data["line"] == "four"
        assert len(running.events) == 4


async def test_a_schedule_comes_by_the_virtual_clock(trigger: Any, virtual_clock: VirtualClock) -> None:
    async with trigger("schedule.cron", cron="0 2 * * *") as running:
        dates = [(await running.next()).data["date"] for _ in range(3)]
    assert [date[:13] for date in dates] == ["2026-01-01T02", "2026-01-02T02", "2026-01-03T02"]


async def test_a_trigger_that_brings_nothing_says_how_it_does(trigger: Any) -> None:
    async with trigger(Numbers, file="/nowhere/at/all") as running:
        with pytest.raises(
            NothingCame, match=r"no event came within 0\.3 s; the trigger is failing: .*nowhere"
        ):
            await running.next(timeout=0.3)


async def test_a_storage_that_is_away_is_steered_by_the_test(
    trigger: Any, tmp_path: Path, virtual_clock: VirtualClock
) -> None:
    file = tmp_path / "numbers"
    file.write_text("one")
    refused = asyncio.Event()

    async def refuse_once(arrivals: Any) -> None:
        if not refused.is_set():
            refused.set()
            raise StorageUnavailable("away")

    async with trigger(Numbers, file=file) as running:
        running.storage.before_accept = refuse_once
        file.write_text("one two")
        assert [(await running.next()).data["line"] for _ in range(2)] == ["one", "two"]


class Hook(HttpTrigger):
    """Take a body."""

    type: ClassVar[str] = "kit.hook"

    async def receive(self, request: HttpRequest, ctx: TriggerContext, emit: Emit) -> HttpAnswer:
        [receipt] = await emit(Occurrence({"text": request.body.decode()}))
        return HttpAnswer(202, {"id": receipt.event_id})


async def test_a_webhook_is_sent_a_real_request(trigger: Any) -> None:
    async with trigger(Hook) as running:
        answer = await running.send("hello")
        event = await running.next()
        assert (answer.status, answer.json) == (202, {"id": event.id})
        assert event.data == {"text": "hello"}


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class Leaking(Task):
    """Leave something behind."""

    type: ClassVar[str] = "kit.leaking"
    what: str
    left: ClassVar[list[Callable[[], Any]]] = []

    async def run(self, ctx: TaskContext) -> None:
        if self.what == "task":
            task = asyncio.create_task(asyncio.sleep(60), name="forgotten")
            self.left.append(task.cancel)
        if self.what == "thread":
            over = threading.Event()
            threading.Thread(target=over.wait, args=(60,), name="forgotten").start()
            self.left.append(over.set)
        if self.what == "process":
            process = subprocess.Popen(["sleep", "60"])
            self.left.append(lambda: end(process))
        if self.what == "file":
            file = open("/etc/hostname")
            self.left.append(file.close)


@pytest.fixture(autouse=True)
def _tidy() -> Any:
    yield
    while Leaking.left:
        Leaking.left.pop()()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("task", 'the task "forgotten" '),
        ("thread", 'the thread "forgotten"'),
        ("process", "the process .*sleep 60"),
        ("file", "the open file .*hostname"),
    ],
)
async def test_what_a_task_leaves_behind_fails_its_test(run_task: Any, what: str, message: str) -> None:
    with pytest.raises(Leaked, match=message):
        await run_task(Leaking, what=what)


@pytest.mark.leaks_allowed
async def test_leaks_may_be_allowed(run_task: Any) -> None:
    assert (await run_task(Leaking, what="task")).state == "SUCCESS"


def test_a_receiver_answers_in_order_and_hangs_up(http_receiver: HttpReceiver) -> None:
    http_receiver.answer_next(503, headers={"Retry-After": "1"})
    http_receiver.answer_next(hang_up=True)
    seen = []
    for _ in range(3):
        try:
            with urllib.request.urlopen(http_receiver.url, timeout=5) as answer:
                seen.append(answer.status)
        except urllib.error.HTTPError as error:
            seen.append(error.code)
        except OSError:
            seen.append(0)
    assert seen == [503, 0, 200]
    assert len(http_receiver.requests) == 3
