"""Moving a hub's state: every row out of one storage, into an empty one, or into a file.

Tables and columns are the same whatever the storage: numbers, text and nothing else, as the first of them, SQLite,
spells them. What only one process needs (leases, live views' change sets) stays behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hub.errors import Conflict

if TYPE_CHECKING:
    from hub.plugin.storage import StorageSettings

Cell = str | int | None
TABLES: Mapping[str, tuple[str, ...]] = {
    "flows": (
        "namespace",
        "id",
        "revision",
        "source_hash",
        "origin",
        "disabled",
        "summary",
        "updated_at",
        "retired_at",
    ),
    "flow_revisions": ("namespace", "id", "revision", "source", "created_at"),
    "events": (
        "seq",
        "id",
        "source",
        "type",
        "time",
        "subject",
        "namespace",
        "flow",
        "trigger",
        "depth",
        "received_at",
        "data",
        "verdicts",
        "replay_of",
        "dead",
        "repeats",
        "batch",
    ),
    "delivery_keys": ("scope", "key", "body_hash", "event_id", "expires_at"),
    "executions": (
        "seq",
        "id",
        "namespace",
        "flow",
        "revision",
        "state",
        "trigger",
        "event_id",
        "inputs",
        "labels",
        "outputs",
        "error",
        "variables",
        "created_at",
        "started_at",
        "ended_at",
        "claimed",
        "fence",
        "ready_at",
        "wake_at",
        "progress",
        "suspect",
        "suspect_starts",
        "queue",
        "queue_limit",
        "depth",
        "parent_id",
        "parent_path",
        "replay_of",
        "restarts",
    ),
    "execution_labels": ("name", "value", "seq", "created_at"),
    "task_runs": (
        "seq",
        "execution_id",
        "scope",
        "name",
        "task",
        "type",
        "state",
        "attempts",
        "outputs",
        "error",
        "decisions",
        "started_at",
        "ended_at",
        "wake_at",
    ),
    "logs": ("seq", "execution_id", "first", "last", "lines"),
    "trigger_states": ("namespace", "flow", "trigger", "version", "state"),
    "notices": (
        "seq",
        "id",
        "notifier",
        "state",
        "namespace",
        "flow",
        "execution_id",
        "content",
        "topic",
        "gap",
        "created_at",
        "due_at",
        "settled_at",
        "delivery_id",
        "claimed",
        "fence",
        "attempts",
        "crashes",
        "error",
        "progress",
    ),
    "notice_topics": ("notifier", "topic", "open_at"),
    "disabled_notifiers": ("name", "reason", "at"),
}
"""Every table that moves, and its columns, in the order in which they are moved."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of one table, in the order of ``TABLES``' columns."""

    table: str
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Schema:
    """Which steps have made a storage's tables what they are, and which are missing."""

    applied: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


class PortableStorage:
    """What a storage does to be moved; one that does not say how cannot be."""

    @classmethod
    async def schema(cls, settings: StorageSettings) -> Schema:
        """How its tables stand, changing nothing."""
        return Schema()

    def dumped(self) -> AbstractAsyncContextManager[AsyncIterator[Rows]]:
        """Every row as of one moment, whatever is written meanwhile."""
        raise Conflict(f"a {type(self).__name__} cannot be moved: it says nothing of how")

    def loading(self) -> AbstractAsyncContextManager[PortableLoad]:
        """Take rows in: all of them once the block ends well, none otherwise.

        Raises ``Conflict`` when it holds anything already.
        """
        raise Conflict(f"nothing can be moved into a {type(self).__name__}")


class PortableLoad:
    """Takes rows in."""

    async def take(self, rows: Rows) -> None:
        """Store some rows."""
        raise NotImplementedError
