"""Lists that are in order by name, of what the node has in memory: a page of them, where somebody wants one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from hub.api.routing import Call, Query
from hub.errors import InvalidInput

Row = TypeVar("Row")

_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_-]*){1,2}"


def names_page(
    call: Call, items: Sequence[Row], name: Callable[[Row], tuple[str, ...]]
) -> tuple[Sequence[Row], str | None]:
    """What the query's ``limit`` and ``cursor`` leave of a list that is in order by ``name``, and the next cursor.

    A cursor is the last name that was shown, so a list that changes meanwhile shows nothing twice. Without a limit
    all of it is shown. Raises ``InvalidInput``.
    """
    after = call.text("cursor")
    if after is not None:
        if not re.fullmatch(_NAME, after):
            raise InvalidInput(f'"{after[:60]}" is not a cursor of this list')
        parts = tuple(after.split("/"))
        names = [name(item) for item in items]
        if parts in names:
            start = names.index(parts) + 1
        else:
            # it is gone: go on behind the flow that it was of
            start = next((place for place, one in enumerate(names) if one[:2] > parts[:2]), len(names))
        items = items[start:]
    limit = call.number("limit")
    if limit is None or len(items) <= limit:
        return items, None
    return items[:limit], "/".join(name(items[limit - 1]))


NAMES_PAGE = (
    Query("limit", "How many at most; all where none is given.", type="integer", least=1, most=1000),
    Query("cursor", "Where the last page said the next one starts.", pattern=_NAME),
)
"""What a list in order by name takes."""
