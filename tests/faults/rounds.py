"""Rounds of load and kill -9: a hub under webhooks and a schedule is killed at random moments and started again."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

import aiohttp

from tests.faults.ledger import Ledger
from tests.support.hub_process import HubProcess

_WORK = """id: work
namespace: faults
triggers:
  - id: hook
    type: webhook
    key: k
    dedup: {{key: "{{{{ trigger.headers['x-delivery'] }}}}"}}
tasks:
  - id: first
    type: http.request
    uri: {ledger}
    query: {{execution: "{{{{ execution.id }}}}", step: first, index: 0}}
  - id: each
    type: flow.loop
    values: "{{{{ [now(), now(), now()] }}}}"
    concurrencyLimit: 2
    tasks:
      - id: a
        type: http.request
        uri: {ledger}
        query: {{execution: "{{{{ execution.id }}}}", step: a, index: "{{{{ item.index }}}}", value: "{{{{ item.value }}}}"}}
      - id: b
        type: http.request
        uri: {ledger}
        query: {{execution: "{{{{ execution.id }}}}", step: b, index: "{{{{ item.index }}}}", value: "{{{{ item.value }}}}"}}
  - id: last
    type: http.request
    uri: {ledger}
    query: {{execution: "{{{{ execution.id }}}}", step: last, index: 0}}
"""
_TICK = """id: clock
namespace: faults
triggers:
  - {{id: tick, type: schedule.every, interval: PT1S, missed: all, missedCap: 5000}}
tasks:
  - id: call
    type: http.request
    uri: {ledger}
    query: {{execution: "{{{{ execution.id }}}}", step: scheduled, value: "{{{{ trigger.date }}}}"}}
"""
_SENDERS = 6
_START_SCRIPT = str(Path(__file__).with_name("start_hub.py"))
_PATIENCE = 60.0


async def run_rounds(
    folder: Path, rounds: int, *, bug: str = "none", seed: int | None = None, stop_when_wrong: bool = False
) -> tuple[Ledger, list[str]]:
    """Load, kill, restart; then let everything end and hold the hub's account against the ledger."""
    chance = random.Random(seed)
    ledger = Ledger()
    async with ledger.listening() as port:
        flows = folder / "flows"
        flows.mkdir()
        uri = f"http://127.0.0.1:{port}/call"
        (flows / "work.hub.yaml").write_text(_WORK.format(ledger=uri))
        (flows / "clock.hub.yaml").write_text(_TICK.format(ledger=uri))
        hub = HubProcess(folder, flows=flows, start=(sys.executable, _START_SCRIPT, bug))
        await asyncio.to_thread(hub.start)
        try:
            async with _sending(hub, ledger, chance):
                for _ in range(rounds):
                    await asyncio.sleep(chance.uniform(0.2, 1.2))
                    hub.kill()
                    await asyncio.to_thread(hub.start)
                    if stop_when_wrong and (ledger.wrong or ledger._repeated() or ledger._changed_values()):
                        break
                await asyncio.sleep(0.5)
            wrong = await asyncio.to_thread(_account, hub, ledger)
        finally:
            await asyncio.to_thread(hub.stop)
    return ledger, wrong


def _account(hub: HubProcess, ledger: Ledger) -> list[str]:
    """Wait until every execution has ended, then compare."""
    until = time.monotonic() + _PATIENCE
    # the schedule never rests: retire it by emptying its file's place, so that its executions end too
    (hub.data / "flows" / "clock.hub.yaml").unlink()
    live = "CREATED,QUEUED,RUNNING,PAUSED,RETRYING,KILLING"
    while time.monotonic() < until:
        if not hub.call("GET", f"/api/v1/executions?state={live}&limit=1").json["items"]:
            break
        time.sleep(0.1)
    return ledger.check(hub.all_of("/api/v1/executions"), hub.all_of("/api/v1/events"))


class _sending:
    """Senders that repeat a delivery until it is answered, as a well-behaved service does."""

    def __init__(self, hub: HubProcess, ledger: Ledger, chance: random.Random) -> None:
        self._hub = hub
        self._ledger = ledger
        self._chance = chance
        self._stop = False
        self._jobs: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> None:
        self._jobs = [asyncio.create_task(self._sender()) for _ in range(_SENDERS)]

    async def __aexit__(self, *exception: object) -> None:
        self._stop = True
        await asyncio.gather(*self._jobs)

    async def _sender(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while not self._stop:
                self._ledger.sent += 1
                await self._deliver(session, self._ledger.sent)
                await asyncio.sleep(self._chance.uniform(0, 0.05))

    async def _deliver(self, session: aiohttp.ClientSession, number: int) -> None:
        while True:
            try:
                async with session.post(
                    f"{self._hub.url}/api/v1/webhooks/faults/work/k",
                    json={"n": number},
                    headers={"X-Delivery": str(number)},
                ) as answer:
                    if answer.status == 202:
                        self._ledger.answered(number, await answer.json())
                        # now and then a service repeats what was answered already
                        if self._chance.random() > 0.2:
                            return
                    elif answer.status < 500:
                        self._ledger.wrong.append(f"delivery {number}: {answer.status} {await answer.text()}")
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(0.05)
