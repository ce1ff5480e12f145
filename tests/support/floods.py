"""Senders at full speed against a hub, each answer kept: what was accepted has to end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp

from tests.support.hub_process import HubProcess

LIVE = "CREATED,QUEUED,RUNNING,PAUSED,RETRYING,KILLING"


class Flood:
    """What the senders were answered."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        """The executions that a 202 named."""
        self.statuses: Counter[int] = Counter()
        self.broken = 0
        """How many requests got no answer."""
        self.is_over = False

    @asynccontextmanager
    async def of(self, url: str, senders: int) -> AsyncIterator[Flood]:
        """Send until the block ends, or until the hub takes no connection any more."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            jobs = [asyncio.create_task(self._send(session, url)) for _ in range(senders)]
            try:
                yield self
            finally:
                self.is_over = True
                await asyncio.gather(*jobs)

    async def _send(self, session: aiohttp.ClientSession, url: str) -> None:
        while not self.is_over:
            try:
                async with session.post(url, json={"text": "x" * 200}) as answer:
                    self.statuses[answer.status] += 1
                    found = await answer.json()
                    if answer.status == 202:
                        self.accepted.update(found["executionIds"])
                    else:
                        # a sender does as it is told
                        await asyncio.sleep(float(answer.headers.get("Retry-After", "0.1")) / 10)
            except aiohttp.ClientConnectorError:
                return
            except (aiohttp.ClientError, TimeoutError, OSError):
                self.broken += 1

    async def until(self, accepted: int) -> None:
        """Wait until so many were accepted."""
        async with asyncio.timeout(120):
            while len(self.accepted) < accepted:
                await asyncio.sleep(0.02)


def all_ended(hub: HubProcess, timeout: float = 120) -> dict[str, str]:
    """The state of every execution, once none is left that has not ended."""
    until = time.monotonic() + timeout
    while hub.call("GET", f"/api/v1/executions?state={LIVE}&limit=1").json["items"]:
        assert time.monotonic() < until, "executions do not end"
        time.sleep(0.1)
    return {one["id"]: one["state"] for one in hub.all_of("/api/v1/executions")}


def resident_mb(pid: int) -> float:
    """The memory that a process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


@contextmanager
def flooding(url: str, senders: int) -> Iterator[None]:
    """A flood from a process of its own, so that whoever measures beside it measures the hub alone."""
    command = [sys.executable, "-m", "tests.support.floods", url, str(senders)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"flooding\n"
            yield
        finally:
            process.kill()


async def _main(url: str, senders: int) -> None:
    async with Flood().of(url, senders) as flood:
        await flood.until(500)
        print("flooding", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
