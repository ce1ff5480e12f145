"""Follow a hub's events over its live stream, over restarts of the hub, none skipped and none twice.

Called by ``hub events tail``. The stream says which events there are; each is then asked for, with what it
started. What was printed is remembered, so that a commit which came twice is printed once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from hub.errors import NotFound, StorageUnavailable, Unreachable

if TYPE_CHECKING:
    from hub.client import HubClient

Say = Callable[[Mapping[str, Any]], None]

_FIRST_LOOK = 10
_PAGE = 200
_MOST_PAGES = 50
"""How far back to look for what was printed last, when the stream cannot go on where it stopped."""
_AT_ONCE = 16
_REMEMBERED = 20_000
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


class Tail:
    """What was printed, and where the stream goes on."""

    def __init__(self, query: Sequence[tuple[str, str]], say: Say, warn: Callable[[str], None]) -> None:
        self._query = list(query)
        self._say = say
        self._warn = warn
        self._number: int | None = None
        self._printed: OrderedDict[str, None] = OrderedDict()

    async def follow(self, connect: Callable[[], HubClient]) -> None:
        """Print events as they come, for ever. Raises what the first connection meets."""
        pause, is_away = _FIRST_PAUSE, False
        while True:
            try:
                async with connect() as client, aclosing(self._stream(client)) as commits:
                    async for _ in commits:
                        pause, is_away = _FIRST_PAUSE, False
            except (Unreachable, StorageUnavailable) as error:
                if self._number is None:
                    raise
                if not is_away:
                    self._warn(f"{error.message}; waiting for it")
                is_away = True
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _stream(self, client: HubClient) -> AsyncGenerator[None, None]:
        """Deal with commit after commit; yields after each."""
        query = [*self._query, ("topic", "event")]
        async with aclosing(client.stream(query, self._number)) as commits:
            async for commit in commits:
                if commit.is_reset:
                    await self._catch_up(client)
                # one that has a state was there before: it came again, or is no dead letter any more
                ids = [str(data["id"]) for _, data in commit.changes if data["state"] is None]
                await self._show(client, ids)
                self._number = commit.number
                yield

    async def _show(self, client: HubClient, ids: Sequence[str]) -> None:
        fresh = [id for id in dict.fromkeys(ids) if id not in self._printed]
        for start in range(0, len(fresh), _AT_ONCE):
            some = fresh[start : start + _AT_ONCE]
            for item in await asyncio.gather(*(_event(client, id) for id in some)):
                if item is not None:
                    self._print(item)

    async def _catch_up(self, client: HubClient) -> None:
        """Print the newest events, or those newer than what was printed last, page by page."""
        is_first = self._number is None
        query = [*self._query, ("limit", str(_FIRST_LOOK if is_first else _PAGE))]
        fresh: list[Mapping[str, Any]] = []
        cursor: list[tuple[str, str]] = []
        for _ in range(1 if is_first else _MOST_PAGES):
            page = await client.get("/events", [*query, *cursor])
            items = page["items"]
            known = next((n for n, item in enumerate(items) if item["id"] in self._printed), None)
            fresh += items[:known]
            if known is not None or page["nextCursor"] is None:
                break
            cursor = [("cursor", page["nextCursor"])]
        else:
            if not is_first:
                self._warn(f"more than {len(fresh)} events came meanwhile; older ones are left out")
        for item in reversed(fresh):
            self._print(item)

    def _print(self, item: Mapping[str, Any]) -> None:
        self._printed[item["id"]] = None
        if len(self._printed) > _REMEMBERED:
            self._printed.popitem(last=False)
        self._say(item)


async def _event(client: HubClient, id: str) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = await client.get(f"/events/{id}")
    except NotFound:
        return None  # purged since
    return found
