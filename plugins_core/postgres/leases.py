"""What hubs know of each other: who is there, whose lease has run out, and who runs which trigger."""

from __future__ import annotations

from typing import Any

import structlog

from hub.plugin import HubNode, NotFound, TriggerKey, from_micros
from hub.plugin.rows import moment
from plugins_core.postgres.commits import NOW, Commit
from plugins_core.postgres.membership import end_node

log = structlog.get_logger("hub.postgres")


async def nodes(connection: Any, own: int) -> list[HubNode]:
    """See ``NodeStorage.nodes``."""
    rows = await connection.fetch(
        "SELECT number, name, version, started_at, heartbeat_at, lease_expires_at, drain_requested_at, probe,"
        f" lease_expires_at < {NOW}, (SELECT count(*) FROM executions e WHERE e.node = n.number AND e.claimed = 1)"
        " FROM nodes n WHERE ended_at IS NULL ORDER BY number"
    )
    return [
        HubNode(
            number=row[0],
            name=row[1],
            version=row[2],
            started_at=from_micros(row[3]),
            heartbeat_at=from_micros(row[4]),
            lease_expires_at=from_micros(row[5]),
            drain_requested_at=moment(row[6]),
            probe=row[7],
            is_silent=row[8],
            executions=row[9],
            is_this=row[0] == own,
        )
        for row in rows
    ]


async def request_drain(commit: Commit, number: int) -> None:
    """See ``NodeStorage.request_drain``; the node reads it with its next heartbeat."""
    found = await commit.connection.execute(
        f"UPDATE nodes SET drain_requested_at = coalesce(drain_requested_at, {NOW})"
        " WHERE number = $1 AND ended_at IS NULL",
        number,
    )
    if found == "UPDATE 0":
        raise NotFound(f"no node {number}", hint="hub nodes list names those that are there")


async def put_probe(commit: Commit, uri: str) -> None:
    """See ``NodeStorage.put_probe``."""
    await commit.connection.execute("UPDATE nodes SET probe = $1 WHERE number = $2", uri, commit.node)


async def recover(connection: Any, own: int) -> int:
    """End the nodes whose lease has run out by the database's clock; answers what they held."""
    silent = await connection.fetch(
        f"SELECT number, name FROM nodes WHERE ended_at IS NULL AND lease_expires_at < {NOW} AND number <> $1",
        own,
    )
    from plugins_core.postgres.driver import Failure, spelled

    released = 0
    for number, name in silent:
        try:
            held = await end_node(connection, number, only_silent=True)
        except Failure as error:
            if connection.is_closed():
                raise
            # it froze in the middle of a transaction, which the server ends soon
            log.warning("a silent node cannot be ended yet", node=name, error=spelled(error))
            continue
        if held is not None:
            log.warning(
                "a node was silent for longer than its lease; it is ended", node=name, executions=held
            )
            released += held
    return released


async def lease(commit: Commit, key: TriggerKey) -> bool:
    """See ``NodeStorage.lease``. A lease ends with the node that has it."""
    holder = await commit.connection.fetchval(
        "INSERT INTO trigger_leases (namespace, flow, trigger, node) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (namespace, flow, trigger) DO UPDATE SET node = excluded.node"
        " WHERE NOT EXISTS (SELECT 1 FROM nodes n WHERE n.number = trigger_leases.node AND n.ended_at IS NULL)"
        " OR trigger_leases.node = excluded.node RETURNING node",
        *key,
        commit.node,
    )
    return holder is not None


async def give_back(commit: Commit, key: TriggerKey) -> None:
    """See ``NodeStorage.give_back``."""
    await commit.connection.execute(
        "DELETE FROM trigger_leases WHERE namespace = $1 AND flow = $2 AND trigger = $3 AND node = $4",
        *key,
        commit.node,
    )
