"""Lists of the storage: what a filter means, and pages."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TypeVar

from hub.plugin import Event, EventFilter, Execution, ExecutionFilter, InvalidInput, Page, Slice, StoredEvent

Item = TypeVar("Item")


def matches(filter: ExecutionFilter, execution: Execution, moment: datetime | None = None) -> bool:
    """Whether a filter shows an execution; ``moment`` is what ``since`` and ``until`` are about, its creation
    by default."""
    moment = moment or execution.created_at
    parent = execution.parent.execution_id if execution.parent is not None else None
    return (
        filter.namespace in (None, execution.flow.namespace)
        and filter.flow in (None, execution.flow.id)
        and filter.parent in (None, parent)
        and (not filter.states or execution.state in filter.states)
        and all(execution.labels.get(name) == value for name, value in filter.labels.items())
        and (filter.since is None or moment >= filter.since)
        and (filter.until is None or moment < filter.until)
    )


def shows(filter: EventFilter, stored: StoredEvent) -> bool:
    """Whether a filter shows an event."""
    event: Event = stored.event
    return (
        filter.namespace in (None, event.namespace)
        and filter.flow in (None, event.flow)
        and filter.dead in (None, stored.dead is not None)
    )


def page_of(
    found: list[tuple[int, Item]], page: Page, *, newest_first: bool, total: int | None = None
) -> Slice[Item]:
    """The part of a numbered list that a page shows."""
    if page.cursor is not None:
        start = _number_of(page.cursor)
        found = [one for one in found if (one[0] < start if newest_first else one[0] > start)]
    shown = found[: page.limit]
    more = len(found) > page.limit
    return Slice(tuple(item for _, item in shown), _cursor(shown[-1][0]) if more else None, total)


def _cursor(number: int) -> str:
    return base64.urlsafe_b64encode(f"s{number}".encode()).decode().rstrip("=")


def _number_of(cursor: str) -> int:
    try:
        number = int(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).removeprefix(b"s"))
        # spelled as it was given out, or it is none of ours
        if _cursor(number) != cursor or not 0 <= number < 2**63:
            raise ValueError(cursor)
        return number
    except ValueError:
        raise InvalidInput(f'"{cursor}" is not a cursor of this list') from None
