"""Lists: read a few rows at a time, and carry no more of the users' data than a reader can want of a list.

What is left out is named in the item's ``omitted``, with the reason; so is data whose file is gone, which is
no reason to refuse the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from hub.engine.payloads import LARGEST_INLINE, Payloads, is_put_away, size_of
from hub.errors import HubError
from hub.model import jsontext
from hub.plugin.storage import Page, Slice

Row = TypeVar("Row")
Item = TypeVar("Item")

LIST_BYTES = 1024 * 1024
TASK_RUN_BYTES = 4 * 1024 * 1024
_ROWS_AT_ONCE = 50


async def listed(
    fetch: Callable[[Page], Awaitable[Slice[Row]]],
    page: Page,
    show: Callable[[Sequence[Row]], Awaitable[Sequence[Item]]],
) -> tuple[list[Item], str | None]:
    """A page's items and the next cursor; only a few rows at a time are held beside what is shown of them."""
    items: list[Item] = []
    cursor = page.cursor
    while True:
        found = await fetch(Page(min(page.limit - len(items), _ROWS_AT_ONCE), cursor))
        items += await show(found.items)
        cursor = found.next_cursor
        if cursor is None or len(items) >= page.limit:
            return items, cursor


class Fitting:
    """Shows values as long as they fit; collects for one item after the other what did not, and why.

    Without ``most`` everything fits. ``with_files`` reads what was put away too; a list does not.
    """

    def __init__(self, payloads: Payloads, most: int | None = None, *, with_files: bool = True) -> None:
        self._payloads = payloads
        self._left = most
        self._with_files = with_files
        self._omitted: dict[str, str] = {}

    async def stored(self, name: str, value: Mapping[str, Any] | None, where: str = "") -> Any:
        """A value of a row, which may be a reference to a file; null where it is left out."""
        if value is None:
            return None
        if is_put_away(value):
            size = size_of(value)
            fits = (self._with_files or size <= LARGEST_INLINE) and self._takes(size)
        else:
            size = len(jsontext.dump_bytes(value)) if self._left is not None else 0
            fits = self._takes(size)
        if not fits:
            self._omitted[name] = f"{size:,} bytes, too many for a list; read {where}"
            return None
        try:
            return await self._payloads.unpack(value)
        except HubError as error:
            self._omitted[name] = error.message
            return None

    def omitted(self) -> dict[str, str]:
        """What was left out since this was asked last."""
        found, self._omitted = self._omitted, {}
        return found

    def _takes(self, size: int) -> bool:
        if self._left is None:
            return True
        self._left -= size
        return self._left >= 0
