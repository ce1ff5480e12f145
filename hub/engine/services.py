"""What the engine's parts share; put together once, in ``hub.app``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hub.bus import Bus
from hub.clock import Clock
from hub.engine.payloads import Payloads
from hub.engine.places import Places
from hub.engine.secrets import SecretVault
from hub.engine.timer import WallTimer
from hub.engine.watches import Watches
from hub.expressions import FunctionTable
from hub.plugin.storage import Storage
from hub.registry import Registry

T = TypeVar("T")


class SharedResources:
    """One producer, watcher or session for all users of a plugin; opened on first use, closed at the end."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._open: dict[str, Any] = {}

    async def get(self, key: str, open: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        if key not in self._open:
            self._open[key] = await self._stack.enter_async_context(open())
        found: T = self._open[key]
        return found

    async def close(self) -> None:
        self._open.clear()
        await self._stack.aclose()


@dataclass(frozen=True)
class Services:
    """Storage, time, secrets and the rest, as every part of the engine needs them."""

    storage: Storage
    bus: Bus
    clock: Clock
    vault: SecretVault
    payloads: Payloads
    registry: Registry
    functions: FunctionTable
    work_dir: Path
    """Where task runs get their working folders."""
    instance: str
    """Names this installation in the environment of every process it starts."""
    timer: WallTimer
    """Waits for moments of the wall clock."""
    places: Places
    """Where flows may reach into the file system."""
    watches: Watches = field(default_factory=Watches)
    shared: SharedResources = field(default_factory=SharedResources)
