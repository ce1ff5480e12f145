"""Drop files before a hub in this process and wait for what becomes of them, without polling."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from watchfiles import awatch

from hub.bus import Subscription
from hub.model.execution import Execution
from hub.model.ids import FlowKey, TriggerKey
from hub.testing import Harness, harness

FLOW = """id: drop
namespace: files
triggers:
  - {{id: arrived, type: file.arrival, path: inbox, {more}}}
tasks:
  - {{id: read, type: file.read, path: "{{{{ trigger.path }}}}"}}
outputs:
  - {{id: content, type: STRING, value: "{{{{ outputs.read.content }}}}"}}
  - {{id: name, type: STRING, value: "{{{{ trigger.name }}}}"}}
  - {{id: path, type: STRING, value: "{{{{ trigger.path }}}}"}}
"""
MOVES = "after: {move: done, failed: failed}"
SOON = "settle: PT0.05S"


def flow(more: str = f"{SOON}, {MOVES}") -> str:
    """The flow above; ``more`` is added to its trigger."""
    return FLOW.format(more=more)


class Arrivals:
    """A running hub with a folder for files, and its news."""

    def __init__(self, hub: Harness, folder: Path, news: Subscription) -> None:
        self.hub = hub
        self.folder = folder
        self.inbox = folder / "inbox"
        self._news = news

    def put(self, name: str, content: str = "content") -> Path:
        """A file that comes as good programs bring one: renamed into place."""
        path = self.inbox / name
        part = self.folder / f"part-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        part.write_text(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        part.rename(path)
        return path

    async def ended(self, count: int = 1) -> list[Execution]:
        """The next executions to end."""
        found: dict[str, Execution] = {}
        while len(found) < count:
            told = await self._news.next()
            if "seconds" in told.details:
                found[told.id] = await self.hub.node.services.storage.execution(told.id)
        return list(found.values())

    async def outputs(self, execution: Execution) -> Mapping[str, Any]:
        assert execution.state.value == "SUCCESS", execution.error
        return await self.hub.node.services.payloads.unpack(execution.outputs or {})

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something about the folder is true."""
        if holds():
            return
        async for _ in awatch(self.folder, step=10, debounce=50, rust_timeout=200, yield_on_timeout=True):
            if holds():
                return

    def names(self, folder: str) -> list[str]:
        """The files below a folder, hidden ones included."""
        return sorted(
            str(path.relative_to(self.folder / folder))
            for path in (self.folder / folder).rglob("*")
            if path.is_file()
        )

    def claimed(self) -> list[str]:
        return self.names("inbox/.hub-claimed")

    async def events(self) -> list[Mapping[str, Any]]:
        """What is told of every file event."""
        from hub.plugin.storage import EventFilter, Page

        found = await self.hub.node.services.storage.events(EventFilter(), Page(1000))
        return [one.event.data for one in found.items if one.event.type == "hub.file.arrived"]

    def status(self, trigger: str = "arrived", flow: str = "drop") -> Any:
        return self.hub.node.triggers.status(TriggerKey("files", flow, trigger))

    async def retire(self) -> None:
        await self.hub.node.catalog.retire(FlowKey("files", "drop"))
        await self.hub.node.triggers.settle()


@asynccontextmanager
async def arrivals(
    folder: Path,
    source: str | None = None,
    *,
    storage: str = "memory:",
    before: Mapping[str, str] | None = None,
) -> AsyncIterator[Arrivals]:
    """A hub over a folder with a flow; ``before`` are files that lie in the inbox already."""
    for name, content in (before or {}).items():
        path = folder / "inbox" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    async with harness(folder, storage=storage) as hub:
        with hub.node.services.bus.subscribe("execution", size=100_000) as news:
            if source is not None:
                await hub.put(source)
            async with asyncio.timeout(60):
                yield Arrivals(hub, folder, news)
