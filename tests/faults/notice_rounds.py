"""Rounds of kill -9 among notices: a hub that owes mail is killed at random moments, its mail server misbehaves too."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.hub_process import HubProcess
from tests.support.mail_server import PASSWORD, USER, MailServer, Received, mail_server

_FLOW = """id: work
namespace: faults
notify: {on: [SUCCESS], to: oncall, template: "end of {{ inputs.n }}"}
inputs: [{id: n, type: INT}]
triggers:
  - id: hook
    type: webhook
    key: k
    dedup: {key: "{{ trigger.headers['x-delivery'] }}"}
    inputs: {n: "{{ trigger.body.n }}"}
tasks:
  - {id: before, type: log, message: x}
  - {id: tell, type: notify, to: oncall, message: "task of {{ inputs.n }}"}
  - {id: after, type: log, message: x}
"""
_SENDERS = 6
_AT_ONCE = 4
"""How many mails the hub sends side by side: so many answers a kill can lose."""
_START_SCRIPT = str(Path(__file__).with_name("start_hub.py"))
_PATIENCE = 120.0


@dataclass
class Account:
    """What the rounds did, and what is wrong with it."""

    kills: int = 0
    died: int = 0
    refused: int = 0
    executions: int = 0
    notices: int = 0
    mails: int = 0
    repeats: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.notices} notices of {self.executions} executions, {self.mails} mails"
            f" ({self.repeats} repeated; {self.died} answers lost by the server, {self.refused} refusals),"
            f" {len(self.wrong)} promises broken"
        )


async def run_rounds(
    folder: Path, *, kills: int, notices: int, bug: str = "none", seed: int | None = None
) -> Account:
    """Deliver, kill and start again; then let everything be sent, and hold the hub's account against the server's."""
    chance = random.Random(seed)
    account = Account()
    async with mail_server(folder) as server:
        server.choose = _choosing(chance, account)
        flows = folder / "flows"
        flows.mkdir()
        (flows / "work.hub.yaml").write_text(_FLOW)
        (folder / "hub.yaml").write_text(_settings(server))
        env = {"HUB_SECRET_SMTP": PASSWORD}
        hub = HubProcess(folder, flows=flows, start=(sys.executable, _START_SCRIPT, bug), env=env)
        await asyncio.to_thread(hub.start)
        try:
            numbers = iter(range(notices // 2))
            senders = [asyncio.create_task(_sender(hub, numbers, chance)) for _ in range(_SENDERS)]
            for _ in range(kills):
                await asyncio.sleep(chance.uniform(0.2, 0.9))
                hub.kill()
                account.kills += 1
                await asyncio.to_thread(hub.start)
            await asyncio.gather(*senders)
            await asyncio.to_thread(_settle, hub)
            found = await asyncio.to_thread(
                lambda: (hub.all_of("/api/v1/executions"), hub.all_of("/api/v1/notices"))
            )
        finally:
            await asyncio.to_thread(hub.stop)
    _compare(account, server, notices // 2, *found)
    return account


def _settings(server: MailServer) -> str:
    oncall = {
        "type": "email",
        "to": ["ops@example.org"],
        "from": "hub@example.org",
        "host": "localhost",
        "port": server.port,
        "caFile": server.ca_file,
        "username": USER,
        "password": "{{ secret('SMTP') }}",
        "schedule": ["200ms"] * 50,
    }
    return json.dumps({"notifiers": {"oncall": oncall}})


def _choosing(chance: random.Random, account: Account) -> Any:
    """A server that is unkind to one mail in ten."""

    def choose() -> str:
        drawn = chance.random()
        if drawn < 0.05:
            account.died += 1
            return "die"
        if drawn < 0.1:
            account.refused += 1
            return "451 try later"
        return ""

    return choose


async def _sender(hub: HubProcess, numbers: Any, chance: random.Random) -> None:
    """Deliver one number after another, each until it is acknowledged."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        for number in numbers:
            while not await _deliver(hub, session, number):
                await asyncio.sleep(0.05)
            await asyncio.sleep(chance.uniform(0, 0.03))


async def _deliver(hub: HubProcess, session: aiohttp.ClientSession, number: int) -> bool:
    url = f"{hub.url}/api/v1/webhooks/faults/work/k"
    try:
        async with session.post(url, json={"n": number}, headers={"X-Delivery": str(number)}) as answer:
            return answer.status == 202
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


def _settle(hub: HubProcess) -> None:
    """Wait until every execution has ended and nothing is owed any more."""
    until = time.monotonic() + _PATIENCE
    live = "CREATED,QUEUED,RUNNING,PAUSED,RETRYING,KILLING"
    for path in (f"/api/v1/executions?state={live}", "/api/v1/notices?state=owed"):
        while time.monotonic() < until and hub.call("GET", f"{path}&limit=1").json["items"]:
            time.sleep(0.1)


def _compare(
    account: Account, server: MailServer, deliveries: int, executions: list[Any], notices: list[Any]
) -> None:
    wrong, ids = account.wrong, server.ids()
    account.executions, account.notices = len(executions), len(notices)
    account.mails, account.repeats = sum(ids.values()), sum(ids.values()) - len(ids)
    texts = _texts(server, wrong)
    if len(executions) != deliveries:
        wrong.append(f"{deliveries} deliveries were acknowledged, {len(executions)} executions are there")
    for execution in executions:
        if execution["state"] != "SUCCESS":
            wrong.append(f"execution {execution['id']} ended {execution['state']}: {execution['error']}")
        for said in ("task of", "end of"):
            text = f"{said} {execution['inputs']['n']}"
            if texts.get(text, 0) != 1:
                wrong.append(f'lost or told under several ids: "{text}" has {texts.get(text, 0)} ids')
    for notice in notices:
        if notice["state"] != "delivered":
            wrong.append(f"notice {notice['id']} is {notice['state']}: {notice['error']}")
    known = {f"<{notice['id']}@example.org>" for notice in notices}
    wrong += [f"a mail of no notice: {id}" for id in ids if id not in known]
    wrong += [f"lost: the notice {id} is delivered and never arrived" for id in known if id not in ids]
    allowed = account.died + account.kills * _AT_ONCE
    if account.repeats > allowed:
        wrong.append(f"{account.repeats} repeats where {allowed} answers may have been lost")


def _texts(server: MailServer, wrong: list[str]) -> dict[str, int]:
    """Under how many ids each text has arrived; what comes again must be the same to the last byte."""
    first: dict[str, Received] = {}
    for one in server.received:
        id = str(one.mail["Message-ID"])
        if first.setdefault(id, one).raw != one.raw:
            wrong.append(f"the mail {id} came again with other content")
    return Counter(one.mail.get_content().strip() for one in first.values())
