"""The stream: everything that changes arrives, in order, and nothing is skipped over a break."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support.hub_process import HubProcess

_FLOW = "id: f{n}\nnamespace: live\ntriggers: [{{id: hook, type: webhook, key: k}}]\ntasks: [{{id: t, type: return, value: 1}}]\n"


@pytest.fixture
def hub(tmp_path: Path) -> HubProcess:
    flows = tmp_path / "flows"
    flows.mkdir()
    for n in (1, 2):
        (flows / f"f{n}.hub.yaml").write_text(_FLOW.format(n=n))
    return HubProcess(tmp_path, flows=flows)


class Reader:
    """A reader of server-sent events, as a browser is one."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.last_id: str | None = None

    async def next(self) -> tuple[str, dict[str, str]]:
        """The next event and its data."""
        name, data = "", ""
        async with asyncio.timeout(20):
            async for raw in self._answer.content:
                line = raw.decode().rstrip("\n")
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data = value
                elif field == "id":
                    self.last_id = value
                elif not line and data:
                    return name, json.loads(data)
        raise AssertionError("the stream ended")


@asynccontextmanager
async def reading(hub: HubProcess, query: str = "", last: str | None = None) -> AsyncIterator[Reader]:
    headers = {"Last-Event-ID": last} if last else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{hub.url}/api/v1/stream{query}", headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        yield Reader(answer)


async def _deliver(hub: HubProcess, flow: str = "f1") -> str:
    answer = await asyncio.to_thread(hub.call, "POST", f"/api/v1/webhooks/live/{flow}/k", {})
    id: str = answer.json["executionIds"][0]
    return id


async def _until_success(reader: Reader, wanted: set[str]) -> list[tuple[str, str | None]]:
    seen: list[tuple[str, str | None]] = []
    left = set(wanted)
    while left:
        name, data = await reader.next()
        if name == "execution" and data["id"] in wanted:
            seen.append((data["id"], data["state"]))
            if data["state"] == "SUCCESS":
                left.discard(data["id"])
    return seen


async def test_an_execution_is_seen_from_its_birth_to_its_end(hub: HubProcess) -> None:
    with hub:
        async with reading(hub) as reader:
            assert (await reader.next())[0] == "reset"
            id = await _deliver(hub)
            seen = await _until_success(reader, {id})
            assert seen[0] == (id, "CREATED")
            assert seen[-1] == (id, "SUCCESS")


async def test_what_happened_while_nobody_read_is_replayed_even_over_a_restart(hub: HubProcess) -> None:
    with hub:
        async with reading(hub) as reader:
            await reader.next()
            await _until_success(reader, {await _deliver(hub)})
            last = reader.last_id
        missed = {await _deliver(hub) for _ in range(20)}
        hub.kill()
        await asyncio.to_thread(hub.start)
        async with reading(hub, last=last) as reader:
            seen = await _until_success(reader, missed)
        assert {id for id, state in seen if state == "CREATED"} == missed


async def test_a_number_that_is_not_known_begins_anew(hub: HubProcess) -> None:
    with hub:
        async with reading(hub, last="999999999") as reader:
            assert (await reader.next())[0] == "reset"


async def test_a_reader_gets_what_it_asked_for_alone(hub: HubProcess) -> None:
    with hub:
        async with reading(hub, "?topic=execution&flow=f2") as reader:
            await reader.next()
            await _deliver(hub, "f1")
            wanted = await _deliver(hub, "f2")
            name, data = await reader.next()
            assert (name, data["id"]) == ("execution", wanted)


async def test_a_notice_is_seen_from_being_owed_to_its_end(hub: HubProcess) -> None:
    (hub.data / "flows" / "tell.hub.yaml").write_text(
        "id: tell\nnamespace: live\ntriggers: [{id: hook, type: webhook, key: k}]\n"
        "tasks: [{id: a, type: notify, to: nobody, message: x}]\n"
    )
    with hub:
        async with reading(hub, "?topic=notice") as reader:
            await reader.next()
            await _deliver(hub, "tell")
            name, owed = await reader.next()
            assert (name, owed["state"], owed["flow"]) == ("notice", "owed", "live/tell")
            name, dead = await reader.next()
            assert (name, dead["state"], dead["id"]) == ("notice", "dead", owed["id"])
            await asyncio.to_thread(hub.call, "DELETE", f"/api/v1/notices/{owed['id']}")
            assert (await reader.next())[1]["state"] == "dropped"


@pytest.mark.parametrize("query", ["?topic=nonsense", "?lastEventId=x", "?lastEventId=99999999999999999999"])
async def test_nonsense_is_refused(hub: HubProcess, query: str) -> None:
    with hub:
        answer = await asyncio.to_thread(hub.call, "GET", f"/api/v1/stream{query}")
        assert answer.status == 422


async def test_a_reader_that_never_reads_holds_nobody_back(hub: HubProcess) -> None:
    with hub:
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.write(f"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1:{hub.port}\r\n\r\n".encode())
        await writer.drain()
        async with reading(hub) as quick:
            await quick.next()
            ids = {await _deliver(hub) for _ in range(300)}
            await _until_success(quick, ids)
        writer.close()
        assert reader is not None
