"""kill -9 while requests wait for their batches: each that was acknowledged is done, in exactly one batch.

Each brings a file, which is whole on the disk for every event that is stored.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.hub_process import HubProcess

_FLOW = """id: batches
namespace: faults
triggers:
  - id: hook
    type: webhook
    key: k
    batch: {{maxEvents: 7, maxWait: PT0.2S}}
    dedup: {{key: "{{{{ trigger.headers['x-delivery'] }}}}"}}
tasks:
  - id: done
    type: http.request
    method: POST
    uri: {ledger}
    json: {{execution: "{{{{ execution.id }}}}", events: "{{{{ trigger.events }}}}", count: "{{{{ trigger.count }}}}"}}
"""
_SENDERS = 6
_START_SCRIPT = str(Path(__file__).with_name("start_hub.py"))
_PATIENCE = 60.0


@dataclass
class _Ledger:
    """What the world outside the hub knows."""

    acknowledged: dict[int, str] = field(default_factory=dict)
    """The event of each delivery that was answered with 202."""
    done: dict[str, list[int]] = field(default_factory=dict)
    """The deliveries of each execution that called; one that is tried again calls again."""
    sent: int = 0
    wrong: list[str] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        async def take(request: web.Request) -> web.Response:
            said = await request.json()
            numbers = [int(event["body"]["n"]) for event in said["events"]]
            if self.done.setdefault(said["execution"], numbers) != numbers or said["count"] != len(numbers):
                self.wrong.append(f"execution {said['execution']} saw its batch change")
            self.called.set()
            return web.json_response({})

        application = web.Application()
        application.router.add_post("/", take)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    def missing(self) -> set[int]:
        """Those acknowledged that no execution has seen."""
        return self.acknowledged.keys() - {number for numbers in self.done.values() for number in numbers}

    def check(self, executions: list[dict[str, Any]], events: list[dict[str, Any]]) -> list[str]:
        wrong = [
            *self.wrong,
            *(f"delivery {number} was acknowledged and is lost" for number in self.missing()),
        ]
        seen = Counter(number for numbers in self.done.values() for number in numbers)
        wrong += [f"delivery {number} was in {count} batches" for number, count in seen.items() if count > 1]
        wrong += [
            f"a batch of {len(numbers)}" for numbers in self.done.values() if not 1 <= len(numbers) <= 7
        ]
        batches = Counter(one["eventId"] for one in executions)
        wrong += [
            f"batch {event} started {count} executions" for event, count in batches.items() if count > 1
        ]
        wrong += [f"{one['id']} is {one['state']}" for one in executions if one["state"] != "SUCCESS"]
        wrong += [f"event {one['id']} waits still" for one in events if one["batch"] == ""]
        return wrong


async def _rounds(folder: Path, kills: int, bug: str = "none") -> tuple[_Ledger, list[str]]:
    chance, ledger = random.Random(), _Ledger()
    async with ledger.listening() as port:
        flows = folder / "flows"
        flows.mkdir()
        (flows / "batches.hub.yaml").write_text(_FLOW.format(ledger=f"http://127.0.0.1:{port}/"))
        hub = HubProcess(folder, flows=flows, start=(sys.executable, _START_SCRIPT, bug))
        await asyncio.to_thread(hub.start)
        try:
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as senders:
                for _ in range(_SENDERS):
                    senders.create_task(_send(hub, ledger, stop))
                for _ in range(kills):
                    await asyncio.sleep(chance.uniform(0.2, 0.9))
                    hub.kill()
                    await asyncio.to_thread(hub.start)
                await asyncio.sleep(0.3)
                stop.set()
            wrong = await _account(hub, ledger)
        finally:
            await asyncio.to_thread(hub.stop)
    return ledger, wrong


async def _send(hub: HubProcess, ledger: _Ledger, stop: asyncio.Event) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        while not stop.is_set():
            number = ledger.sent = ledger.sent + 1
            while (answer := await _deliver(session, hub, number)) is None:
                await asyncio.sleep(0.05)
            if not answer.get("batched"):
                ledger.wrong.append(f"delivery {number}: {answer}")
            if ledger.acknowledged.setdefault(number, answer["eventId"]) != answer["eventId"]:
                ledger.wrong.append(f"delivery {number} is two events")


async def _deliver(session: aiohttp.ClientSession, hub: HubProcess, number: int) -> dict[str, Any] | None:
    try:
        async with session.post(
            f"{hub.url}/api/v1/webhooks/faults/batches/k",
            data=_form(number),
            headers={"X-Delivery": str(number)},
        ) as answer:
            said: dict[str, Any] = await answer.json()
            return said if answer.status == 202 else None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def _content(number: int) -> bytes:
    return b"\xff" + str(number).encode() * 50


def _form(number: int) -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("n", str(number))
    form.add_field("f", _content(number), filename="f.bin", content_type="application/octet-stream")
    return form


def _broken_files(hub: HubProcess, events: list[dict[str, Any]]) -> list[str]:
    wrong = []
    for event in events:
        if (body := event["data"].get("body")) is not None:
            path = hub.data / "files" / body["f"]["uri"].removeprefix("hub:///")
            if not path.is_file() or path.read_bytes() != _content(int(body["n"])):
                wrong.append(f"the file of delivery {body['n']} is not whole: {path}")
    return wrong


async def _account(hub: HubProcess, ledger: _Ledger) -> list[str]:
    """Wait until everything acknowledged was done, then hold the hub's own account against the ledger."""
    async with asyncio.timeout(_PATIENCE):
        while ledger.missing():
            ledger.called.clear()
            await ledger.called.wait()
    until = time.monotonic() + _PATIENCE
    executions: list[dict[str, Any]] = []
    while time.monotonic() < until:
        executions = await asyncio.to_thread(hub.all_of, "/api/v1/executions")
        live = [one for one in executions if one["state"] not in ("SUCCESS", "FAILED", "KILLED")]
        if not live:
            break
        await asyncio.to_thread(hub.ended, live[0]["id"])
    events = await asyncio.to_thread(hub.all_of, "/api/v1/events")
    return ledger.check(executions, events) + _broken_files(hub, events)


@pytest.mark.timeout(240)
async def test_kills_lose_no_request_of_a_batch_and_repeat_none(tmp_path: Path) -> None:
    ledger, wrong = await _rounds(tmp_path, 6)
    print(f"batches: 6 kills, {len(ledger.acknowledged)} acknowledged, {len(ledger.done)} batches")
    assert not wrong, "\n".join(wrong[:20])
    assert len(ledger.acknowledged) > 30
    assert len(ledger.done) > 5


@pytest.mark.faults
async def test_sixty_kills_lose_no_request_of_a_batch_and_repeat_none(tmp_path: Path) -> None:
    ledger, wrong = await _rounds(tmp_path, 60)
    print(f"batches: 60 kills, {len(ledger.acknowledged)} acknowledged, {len(ledger.done)} batches")
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.timeout(240)
async def test_the_same_rounds_find_a_batch_that_takes_nothing_up(tmp_path: Path) -> None:
    _, wrong = await _rounds(tmp_path, 0, bug="batch-takes-nothing")
    assert any("batches" in line for line in wrong), wrong[:20]
