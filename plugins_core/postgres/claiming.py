"""Claims: what may run is shared out over namespaces and nodes, and taken back from nodes that have died."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hub.plugin import Claim, to_micros
from hub.plugin.rows import CLAIM_COLUMNS
from plugins_core.postgres.commits import Commit
from plugins_core.postgres.queues import noted


def _ready(suspect: int, limit: str) -> str:
    """Those that may run, the oldest of each namespace, as many as may be wanted of it alone."""
    return (
        # each namespace that has a ready one, found by jumping along the index, not by reading all of it
        f"names{suspect}(name) AS ("
        f" (SELECT namespace FROM executions WHERE ready_at IS NOT NULL AND suspect = {suspect}"
        " ORDER BY namespace LIMIT 1)"
        " UNION ALL SELECT (SELECT e.namespace FROM executions e WHERE e.ready_at IS NOT NULL"
        f" AND e.suspect = {suspect} AND e.namespace > n.name ORDER BY e.namespace LIMIT 1)"
        f" FROM names{suspect} n WHERE n.name IS NOT NULL),"
        f" ready{suspect} AS MATERIALIZED (SELECT {suspect} AS suspect, r.ready_at, r.seq, n.name"
        f" FROM names{suspect} n CROSS JOIN LATERAL (SELECT e.ready_at, e.seq FROM executions e"
        f" WHERE e.ready_at IS NOT NULL AND e.suspect = {suspect} AND e.namespace = n.name AND e.ready_at <= $1"
        f" ORDER BY e.ready_at, e.seq LIMIT {limit} FOR NO KEY UPDATE SKIP LOCKED) r WHERE n.name IS NOT NULL)"
    )


_CLAIM = (
    # one statement, since an execution that waits for an idle hub waits for each round trip
    f"WITH RECURSIVE {_ready(0, '$2')},"
    # a suspect is not even locked while there are others
    f" {_ready(1, '(SELECT greatest($2 - count(*), 0) FROM ready0)')},"
    # the n-th of each namespace stands before the n+1-th of any, those that are held counted in
    " chosen AS MATERIALIZED (SELECT suspect, ready_at, seq FROM (SELECT r.*, coalesce(h.held, 0) + row_number()"
    " OVER (PARTITION BY r.suspect, r.name ORDER BY r.ready_at, r.seq) AS turn"
    " FROM (SELECT * FROM ready0 UNION ALL SELECT * FROM ready1) r"
    " LEFT JOIN unnest($3::text[], $4::bigint[]) AS h(name, held) ON h.name = r.name) t"
    " ORDER BY suspect, turn, ready_at, seq LIMIT $2),"
    " taken AS (UPDATE executions e SET claimed = 1, node = $5, fence = fence + 1, ready_at = NULL, progress = 0"
    # an array, so that no plan reads the whole table for what it takes to be many
    f" WHERE e.seq = ANY(ARRAY(SELECT seq FROM chosen)) RETURNING {CLAIM_COLUMNS}, e.queue, e.seq)"
    " SELECT taken.*, (SELECT v.data FROM events v WHERE v.id = taken.event_id)"
    # within the chosen: as they came
    " FROM taken JOIN chosen USING (seq) ORDER BY chosen.suspect, chosen.ready_at, chosen.seq"
)


async def claim_ready(commit: Commit, limit: int, at: datetime, held: Mapping[str, int]) -> list[Claim]:
    """Claim what may run by ``at``: suspects last, each namespace its share, in it the oldest first.

    What another node is just claiming is passed over.
    """
    rows = await commit.connection.fetch(
        _CLAIM, to_micros(at), limit, list(held), list(held.values()), commit.node
    )
    commit.wrote = bool(rows)
    return [noted(commit, row) for row in rows]


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
