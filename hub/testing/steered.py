"""A storage that outlives its hub, and whose every step a test may hold, refuse or cut off.

Around any storage of the installed plugins, the memory storage by default. A hub that is opened twice over the
same ``SteeredStorage`` finds what the first one stored, as after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, cast

from hub.errors import FenceRefused
from hub.model.execution import Claim
from hub.plugin.storage import Accepted, Arrival, Recorded, Storage, StorageSettings, Transition
from hub.registry import Registry

SCHEME = "steered"


class Steering:
    """What happens around the steps of a storage; each may be replaced, wait, or raise."""

    def __init__(self) -> None:
        async def nothing(step: Any) -> None:
            return None

        self.before_record: Callable[[Transition], Awaitable[None]] = nothing
        self.after_record: Callable[[Transition], Awaitable[None]] = nothing
        self.after_soon: Callable[[Transition], None] = lambda step: None
        """Called when a step that nobody waits for has reached the storage; its time is up to the storage."""
        self.before_accept: Callable[[Sequence[Arrival]], Awaitable[None]] = nothing
        self.after_accept: Callable[[Sequence[Arrival]], Awaitable[None]] = nothing
        self.after_claim: Callable[[Sequence[Claim]], Awaitable[None]] = nothing


class Line:
    """One hub's line to a storage that outlives it. Once it is cut nothing goes through, as after a crash."""

    def __init__(self, steering: Steering, kept: Storage) -> None:
        self._steering = steering
        self._kept = kept
        self._soon: list[Transition] = []
        self.is_cut = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)

    def cut(self) -> None:
        """The hub is gone, and with it what nobody had waited for."""
        self.is_cut = True
        self._soon.clear()

    def record_soon(self, transition: Transition) -> None:
        # kept back for as long as the contract allows it
        if not self.is_cut:
            self._soon.append(transition)
            asyncio.get_running_loop().call_later(0.02, self._send)

    def _send(self) -> None:
        if not self.is_cut:
            for step in self._soon:
                self._kept.record_soon(step)
                self._steering.after_soon(step)
                if self.is_cut:
                    return
        self._soon.clear()

    async def record(self, transition: Transition) -> Recorded:
        await self._steering.before_record(transition)
        self._refuse_when_cut(transition.execution_id)
        self._send()
        self._refuse_when_cut(transition.execution_id)
        recorded = await self._kept.record(transition)
        await self._steering.after_record(transition)
        self._refuse_when_cut(transition.execution_id)
        return recorded

    async def accept(self, arrivals: Sequence[Arrival], **given: Any) -> list[Accepted]:
        await self._steering.before_accept(arrivals)
        self._refuse_when_cut("")
        accepted = await self._kept.accept(arrivals, **given)
        await self._steering.after_accept(arrivals)
        self._refuse_when_cut("")
        return accepted

    async def execution(self, execution_id: str) -> Any:
        await asyncio.sleep(0.001)  # as long as a read takes: what is not waited for is on its way by then
        return await self._kept.execution(execution_id)

    async def claim(self, **given: Any) -> list[Any]:
        if self.is_cut:
            return []
        claims: list[Claim] = await self._kept.claim(**given)
        await self._steering.after_claim(claims)
        return claims

    async def request_kill(self, *given: Any, **more: Any) -> Any:
        self._refuse_when_cut("")
        self._send()
        return await self._kept.request_kill(*given, **more)

    def _refuse_when_cut(self, what: str) -> None:
        if self.is_cut:
            raise FenceRefused(f"the hub that moved {what} is gone")


class SteeredStorage(Steering):
    """A storage for hubs of the test kit: give them ``url`` and ``with_it(registry)``, and ``close`` it."""

    url = f"{SCHEME}:"

    def __init__(self, inner: str = "memory:") -> None:
        super().__init__()
        self._inner = inner
        self._stack = AsyncExitStack()
        self._kept: Storage | None = None
        self._lines: list[Line] = []

    def cut(self) -> None:
        """From here on nothing of what the present hub does is stored: leave its block, and open it again."""
        self._lines[-1].cut()

    def with_it(self, registry: Registry) -> Registry:
        """The registry in which ``url`` is this storage."""
        return replace(registry, storages={**registry.storages, SCHEME: self._class(registry)})

    async def close(self) -> None:
        """Forget what is stored."""
        await self._stack.aclose()

    def _class(self, registry: Registry) -> type[Storage]:
        kind = registry.storages[self._inner.split(":", 1)[0]]
        owner = self

        class Steered(kind):  # type: ignore[valid-type, misc]
            type: ClassVar[str] = SCHEME
            schemes: ClassVar[tuple[str, ...]] = (SCHEME,)

            @classmethod
            @asynccontextmanager
            async def open(cls, settings: StorageSettings) -> AsyncIterator[Storage]:
                if owner._kept is None:
                    inner = replace(settings, url=owner._inner)
                    owner._kept = await owner._stack.enter_async_context(kind.open(inner))
                line = Line(owner, owner._kept)
                owner._lines.append(line)
                yield cast("Storage", line)

        return Steered
