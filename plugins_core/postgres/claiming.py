"""Claims: what may run is shared out over namespaces and nodes, and taken back from nodes that have died."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hub.plugin import Claim, to_micros
from plugins_core.postgres.commits import Commit
from plugins_core.postgres.queues import claimed

_READY = (
    # each namespace that has a ready one, found by jumping along the index, not by reading all of it
    "WITH RECURSIVE n(name) AS ("
    " (SELECT namespace FROM executions WHERE ready_at IS NOT NULL AND suspect = $1 ORDER BY namespace LIMIT 1)"
    " UNION ALL SELECT (SELECT e.namespace FROM executions e WHERE e.ready_at IS NOT NULL AND e.suspect = $1"
    " AND e.namespace > n.name ORDER BY e.namespace LIMIT 1) FROM n WHERE n.name IS NOT NULL)"
    " SELECT r.id, r.ready_at, r.seq, n.name FROM n CROSS JOIN LATERAL (SELECT e.id, e.ready_at, e.seq"
    " FROM executions e WHERE e.ready_at IS NOT NULL AND e.suspect = $1 AND e.namespace = n.name"
    " AND e.ready_at <= $2 ORDER BY e.ready_at, e.seq LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED) r"
    " WHERE n.name IS NOT NULL"
)


async def claim_ready(commit: Commit, limit: int, at: datetime, held: Mapping[str, int]) -> list[Claim]:
    """Claim what may run by ``at``: suspects last, each namespace its share, in it the oldest first.

    What another node is just claiming is passed over.
    """
    ids: list[str] = []
    for suspect in (0, 1):
        if len(ids) < limit:
            ids += await _ready(commit, suspect, limit - len(ids), to_micros(at), held)
    if not ids:
        return []
    await commit.connection.execute(
        "UPDATE executions SET claimed = 1, node = $2, fence = fence + 1, ready_at = NULL, progress = 0"
        " WHERE id = ANY($1::text[])",
        ids,
        commit.node,
    )
    return await claimed(commit, ids)


async def _ready(commit: Commit, suspect: int, limit: int, at: int, held: Mapping[str, int]) -> list[str]:
    """Ready ones, taken from the namespaces in turn, so that one which floods leaves the others their share."""
    rows = await commit.connection.fetch(_READY, suspect, at, limit)
    taken: dict[str, list[Any]] = {}
    for row in sorted(rows, key=lambda row: (row[1], row[2])):
        taken.setdefault(row[3], []).append(row)
    # the n-th of each namespace stands before the n+1-th of any, those that are held counted in
    turns = [
        (turn, row[1], row[2], row[0])
        for namespace, found in taken.items()
        for turn, row in enumerate(found, held.get(namespace, 0))
    ]
    chosen = heapq.nsmallest(limit, turns)
    # within the chosen: as they came
    return [id for _, _, _, id in sorted(chosen, key=lambda one: one[1:3])]


async def release_all_of(connection: Any, node: int, at: int) -> int:
    """Release every claim of a node that has ended; who ended no task run under it is a suspect now.

    Answers how many executions there were among them.
    """
    released = await connection.fetch(
        "UPDATE executions SET claimed = 0, node = NULL, ready_at = $1, wake_at = NULL,"
        " suspect = CASE WHEN progress = 2 THEN 0 ELSE 1 END,"
        " suspect_starts = suspect_starts + CASE WHEN progress = 1 THEN 1 ELSE 0 END"
        " WHERE claimed = 1 AND node = $2 RETURNING seq",
        at,
        node,
    )
    # what was being sent is due at once
    await connection.execute(
        "UPDATE notices SET claimed = 0, node = NULL, crashes = crashes + 1 WHERE claimed = 1 AND node = $1",
        node,
    )
    await connection.execute("DELETE FROM trigger_leases WHERE node = $1", node)
    return len(released)
