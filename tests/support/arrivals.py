"""Drop files before a hub in this process and wait for what becomes of them, without polling."""

from __future__ import annotations

import asyncio
import hashlib
import os
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
GATED = """id: drop
namespace: files
triggers:
  - {{id: arrived, type: file.arrival, path: inbox, {more}}}
tasks:
  - {{id: wait, type: script.shell, env: {{GATE: "{gates}/{{{{ trigger.sha256 }}}}"}}, script: '[ ! -p "$GATE" ] || cat "$GATE"'}}
  - {{id: read, type: file.read, path: "{{{{ trigger.path }}}}"}}
outputs:
  - {{id: content, type: STRING, value: "{{{{ outputs.read.content }}}}"}}
"""
MOVES = "after: {move: done, failed: failed}"
SOON = "settle: PT0.05S"


def flow(more: str = f"{SOON}, {MOVES}") -> str:
    """The flow above; ``more`` is added to its trigger."""
    return FLOW.format(more=more)


class Arrivals:
    """A running hub with a folder for files, and its news."""

    def __init__(self, hub: Harness, folder: Path, ends: Subscription, events: Subscription) -> None:
        self.hub = hub
        self.folder = folder
        self.inbox = folder / "inbox"
        self._ends = ends
        self._events = events

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
            told = await self._ends.next()
            if "seconds" in told.details:
                found[told.id] = await self.hub.node.services.storage.execution(told.id)
        return list(found.values())

    async def emitted(self, count: int = 1) -> None:
        """Wait until so many more events are stored."""
        for _ in range(count):
            await self._events.next()

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


class Gates:
    """A named pipe for each content, that a flow's script waits at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "gates"
        self.folder.mkdir()
        self._reached: dict[str, int] = {}

    def flow(self, more: str = f"{SOON}, {MOVES}") -> str:
        return GATED.format(more=more, gates=self.folder)

    def put(self, *contents: str) -> None:
        """Let the scripts of files with these contents wait."""
        for content in contents:
            os.mkfifo(self._path(content))

    def put_again(self, *contents: str) -> None:
        """Begin anew, for scripts of a hub that was started again."""
        for content in contents:
            self._path(content).unlink()
            handle = self._reached.pop(content, None)
            if handle is not None:
                os.close(handle)
        self.put(*contents)

    def _path(self, content: str) -> Path:
        return self.folder / hashlib.sha256(content.encode()).hexdigest()

    async def reached(self, content: str) -> None:
        """Wait until a script stands at the gate."""
        self._reached[content] = await asyncio.to_thread(os.open, self._path(content), os.O_WRONLY)

    async def open(self, *contents: str) -> None:
        """Let scripts pass, also those that have not come yet."""
        for content in contents:
            if content not in self._reached:
                await self.reached(content)
            os.close(self._reached.pop(content))


@asynccontextmanager
async def arrivals(
    folder: Path,
    source: str | None = None,
    *,
    storage: str = "memory:",
    before: Mapping[str, str] | None = None,
) -> AsyncIterator[Arrivals]:
    """A hub over a folder with a flow; ``before`` are files that lie in the inbox already."""
    (folder / "inbox").mkdir(exist_ok=True)
    for name, content in (before or {}).items():
        path = folder / "inbox" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    async with harness(folder, storage=storage) as hub:
        bus = hub.node.services.bus
        with bus.subscribe("execution", size=100_000) as ends, bus.subscribe("event", size=100_000) as events:
            if source is not None:
                await hub.put(source)
            async with asyncio.timeout(60):
                yield Arrivals(hub, folder, ends, events)
