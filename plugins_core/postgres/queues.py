"""Queues: how many of one are under way, the same for all nodes.

Whoever may change what a queue holds locks it first, by an advisory lock that ends with the transaction, and
counts afterwards: limits are derived from what is stored, never counted apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hub.plugin import Claim, jsontext
from hub.plugin.rows import CLAIM_COLUMNS, claim_of
from plugins_core.postgres.commits import Commit
from plugins_core.postgres.rows import clean, lock_number

_NEXT = (
    "SELECT seq, id, queue_limit, namespace || '/' || flow FROM executions"
    " WHERE queue = $1 AND state = 'QUEUED' AND ended_at IS NULL ORDER BY seq LIMIT 1"
)


class Queues:
    """The queues that a transaction has locked, and what they hold."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._counts: dict[str, list[int]] = {}
        """Under way and in line."""

    @classmethod
    async def locked(cls, connection: Any, keys: Iterable[str]) -> Queues:
        """Lock queues, always in the same order. Nothing else may be locked before."""
        queues = cls(connection)
        numbers = sorted({lock_number("queue", str(clean(key))) for key in keys})
        if numbers:
            await connection.fetch("SELECT pg_advisory_xact_lock(n) FROM unnest($1::bigint[]) AS n", numbers)
        return queues

    async def count(self, keys: Iterable[str]) -> None:
        """Count what these queues hold now."""
        wanted = {str(clean(key)): key for key in keys}
        if not wanted:
            return
        self._counts.update((key, [0, 0]) for key in wanted.values())
        rows = await self._connection.fetch(
            "SELECT queue, count(*) FILTER (WHERE state <> 'QUEUED'), count(*) FILTER (WHERE state = 'QUEUED')"
            " FROM executions WHERE queue = ANY($1::text[]) AND ended_at IS NULL GROUP BY queue",
            list(wanted),
        )
        self._counts.update((wanted[row[0]], [row[1], row[2]]) for row in rows)

    def admits(self, key: str, limit: int) -> bool:
        """Whether one more may be under way; it is from then on."""
        counts = self._counts[key]
        if counts[0] >= limit or counts[1]:
            return False
        counts[0] += 1
        return True

    def line_up(self, key: str) -> None:
        """One more stands in line."""
        self._counts[key][1] += 1


async def admit_next(commit: Commit, queue: str, *, claim: bool) -> list[Claim]:
    """Let the oldest of a queue in, as many as its limit has room for. The queue is locked already."""
    connection = commit.connection
    claims: list[Claim] = []
    while True:
        row = await connection.fetchrow(_NEXT, queue)
        if row is None or await _under_way(connection, queue) >= row[2]:
            return claims
        seq, id, _, flow = row
        await connection.execute(
            "UPDATE executions SET state = 'CREATED', claimed = $1::smallint, node = $2, fence = fence + $1::smallint,"
            " ready_at = CASE WHEN $1::smallint = 1 THEN NULL ELSE created_at END, progress = 0 WHERE seq = $3",
            int(claim),
            commit.node if claim else None,
            seq,
        )
        commit.changes.append(("execution", id, "CREATED", flow))
        if claim:
            claims += await claimed(commit, [id])


async def _under_way(connection: Any, queue: str) -> int:
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM executions WHERE queue = $1 AND ended_at IS NULL AND state <> 'QUEUED'",
            queue,
        )
    )


async def claimed(commit: Commit, ids: list[str]) -> list[Claim]:
    """The claims of executions that this transaction has claimed, in the order of their ids."""
    rows = await commit.connection.fetch(
        f"SELECT {CLAIM_COLUMNS}, e.queue, e.seq, v.data FROM executions e LEFT JOIN events v ON v.id = e.event_id"
        " WHERE e.id = ANY($1::text[])",
        ids,
    )
    found = {row[0]: noted(commit, row) for row in rows}
    return [found[id] for id in ids]


def noted(commit: Commit, row: Any) -> Claim:
    """A claim out of ``CLAIM_COLUMNS``, the queue, the number and the event's data; what it is kin to is remembered."""
    *_, queue, _, data = row
    claim = claim_of(row, jsontext.loads(data) if data is not None else None)
    commit.kin.note_claim(claim, queue)
    return claim
