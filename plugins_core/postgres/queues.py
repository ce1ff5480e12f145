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

_AT_ONCE = 8
# read off the index in its own order, from a place in it: every other way in which a planner might find the first of a
# line reads all that have ended, or all that stand in it
_LINE = (
    "FROM executions e WHERE (e.queue, e.state, e.seq) >= ({queue}, 'QUEUED', 0)"
    " AND e.queue IS NOT NULL AND e.ended_at IS NULL ORDER BY e.queue, e.state, e.seq LIMIT {limit}"
)
# those under way are counted before and behind those in line, whose number is nobody's concern
_UNDER_WAY = (
    "(SELECT count(*) FROM executions e WHERE e.queue = {queue} AND e.ended_at IS NULL AND e.state < 'QUEUED')"
    " + (SELECT count(*) FROM executions e WHERE e.queue = {queue} AND e.ended_at IS NULL AND e.state > 'QUEUED')"
)
_NEXT = (
    "SELECT seq, id, queue_limit, namespace || '/' || flow, under_way FROM (SELECT e.*, "
    + _UNDER_WAY.format(queue="$1")
    + f" AS under_way {_LINE.format(queue='$1', limit=_AT_ONCE)}) n WHERE queue = $1 AND state = 'QUEUED' ORDER BY seq"
)
_COUNT = (
    f"SELECT k.queue, {_UNDER_WAY.format(queue='k.queue')}, coalesce((SELECT e.queue = k.queue AND e.state = 'QUEUED'"
    f" {_LINE.format(queue='k.queue', limit=1)}), false) FROM unnest($1::text[]) AS k(queue)"
)
_ADMIT = (
    "WITH taken AS (UPDATE executions e SET state = 'CREATED', claimed = $1::smallint, node = $2,"
    " fence = fence + $1::smallint, ready_at = CASE WHEN $1::smallint = 1 THEN NULL ELSE created_at END, progress = 0"
    f" WHERE e.seq = ANY($3::bigint[]) RETURNING {CLAIM_COLUMNS}, e.queue, e.seq)"
    " SELECT taken.*, (SELECT v.data FROM events v WHERE v.id = taken.event_id) FROM taken ORDER BY seq"
)


class Queues:
    """The queues that a transaction has locked, and what they hold."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._counts: dict[str, list[int]] = {}
        """How many are under way, and whether any stands in line."""

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
        rows = await self._connection.fetch(_COUNT, list(wanted))
        self._counts.update((wanted[row[0]], [row[1], int(row[2])]) for row in rows)

    def admits(self, key: str, limit: int) -> bool:
        """Whether one more may be under way; it is from then on."""
        counts = self._counts[key]
        if counts[0] >= limit or counts[1]:
            return False
        counts[0] += 1
        return True

    def line_up(self, key: str) -> None:
        """One more stands in line."""
        self._counts[key][1] = 1


async def admit_next(commit: Commit, queue: str, *, claim: bool) -> list[Claim]:
    """Let the oldest of a queue in, as many as its limit has room for. The queue is locked already."""
    connection = commit.connection
    claims: list[Claim] = []
    while True:
        line = await connection.fetch(_NEXT, queue)
        admitted: list[int] = []
        for seq, id, limit, flow, under_way in line:
            if under_way + len(admitted) >= limit:
                break
            admitted.append(seq)
            commit.changes.append(("execution", id, "CREATED", flow))
        if admitted:
            rows = await connection.fetch(_ADMIT, int(claim), commit.node if claim else None, admitted)
            claims += [noted(commit, row) for row in rows if claim]
        if len(admitted) < _AT_ONCE:
            return claims


def noted(commit: Commit, row: Any) -> Claim:
    """A claim out of ``CLAIM_COLUMNS``, the queue, the number and the event's data; what it is kin to is remembered."""
    *_, queue, _, data = row
    claim = claim_of(row, jsontext.loads(data) if data is not None else None)
    commit.kin.note_claim(claim, queue)
    return claim
