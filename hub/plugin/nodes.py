"""Several hubs over one storage: who is there, who holds what, and what the others did.

Every method has a default that is right for a storage which one process holds at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from hub.clock import Clock
from hub.errors import NotFound
from hub.model.ids import TriggerKey

if TYPE_CHECKING:
    from hub.plugin.storage import ChangeSet


@dataclass(frozen=True, slots=True)
class HubNode:
    """One incarnation of a hub over a shared storage."""

    number: int
    """Given by the storage, never given again."""
    name: str
    """Its machine and process."""
    version: str
    started_at: datetime
    heartbeat_at: datetime
    lease_expires_at: datetime
    """From when the others may take over what it holds."""
    is_silent: bool
    """Whether that moment has passed, by the storage's clock."""
    is_this: bool = False
    """Whether it is the one that was asked."""
    drain_requested_at: datetime | None = None
    executions: int = 0
    """How many it holds."""
    probe: str | None = None
    """A file that it put into its file store."""


class NodeStorage:
    """What a storage does for several hubs."""

    file_store: ClassVar[str] = "local"
    """The file store that goes with it where the settings name none."""

    @property
    def clock(self) -> Clock | None:
        """The one clock of all hubs, where the storage has one."""
        return None

    async def nodes(self) -> list[HubNode]:
        """Every hub that has not ended, the oldest first."""
        return []

    async def request_drain(self, number: int) -> HubNode:
        """Ask a hub to take nothing new and to hand back what it holds. Raises ``NotFound``."""
        raise NotFound(f"no node {number}: one hub at a time uses this storage")

    async def put_probe(self, uri: str) -> None:
        """Say which file of this hub's store the others can try to read."""

    async def recover(self) -> int:
        """End hubs that were silent for longer than their lease and release what they held; answers how many
        executions that were."""
        return 0

    async def lease(self, key: TriggerKey) -> bool:
        """Whether this hub is the one that runs a trigger from now on, until it ends or gives it back."""
        return True

    async def give_back(self, key: TriggerKey) -> None:
        """This hub does not run a trigger any more."""

    async def held_here(self, ids: Sequence[str]) -> set[str]:
        """Which of these executions this hub has claimed."""
        return set(ids)

    async def changes_of_others(self, *, after: int, limit: int = 500) -> tuple[list[ChangeSet], int]:
        """What other hubs committed after number ``after``, oldest first, and the number that was read up to."""
        return [], after

    async def wait_for_others(self, timeout: float) -> bool:
        """Return when another hub may have stored something, or after ``timeout`` seconds; answers whether it may
        have left something to be claimed."""
        await asyncio.sleep(timeout)
        return True

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call back in the loop when this hub was ended by another: all that it held is lost."""

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Call back in the loop when somebody has asked this hub to drain."""
