"""Flows and their revisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.plugin import Conflict, FlowKey, FlowRecord, NotFound, from_micros, jsontext, to_micros
from hub.plugin.rows import FLOW_COLUMNS, flow_of
from plugins_core.postgres.commits import Commit
from plugins_core.postgres.rows import lock_number


@dataclass(frozen=True, slots=True)
class Put:
    """A flow to be stored."""

    key: FlowKey
    source: str
    source_hash: str
    summary: Mapping[str, Any]
    disabled: bool
    origin: str | None
    at: datetime


async def put(commit: Commit, new: Put) -> tuple[FlowRecord, bool]:
    """See ``Storage.put_flow``."""
    connection, key = commit.connection, new.key
    # two nodes that bring the same flow: the second finds the first's
    await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_number("flow", *key))
    known = await _find(connection, key)
    if known is not None and known.retired_at is None and known.origin != new.origin:
        if known.origin is not None:
            raise Conflict(f"flow {key} belongs to the file {known.origin}")
        raise Conflict(f"flow {key} was put through the API and belongs to no file")
    same = known is not None and known.source_hash == new.source_hash
    if known is not None and same and known.retired_at is None:
        return known, False
    revision = (known.revision if known else 0) + (0 if same else 1)
    await connection.execute(
        f"INSERT INTO flows ({FLOW_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL)"
        " ON CONFLICT (namespace, id) DO UPDATE SET revision = excluded.revision,"
        " source_hash = excluded.source_hash, origin = excluded.origin, disabled = excluded.disabled,"
        " summary = excluded.summary, updated_at = excluded.updated_at, retired_at = NULL",
        *key,
        revision,
        new.source_hash,
        new.origin,
        int(new.disabled),
        jsontext.dumps(new.summary),
        to_micros(new.at),
    )
    if not same:
        await connection.execute(
            "INSERT INTO flow_revisions (namespace, id, revision, source, created_at) VALUES ($1, $2, $3, $4, $5)",
            *key,
            revision,
            new.source,
            to_micros(new.at),
        )
    commit.changes.append(("flow", str(key), None, str(key)))
    return await one(connection, key), True


async def retire(commit: Commit, key: FlowKey, at: datetime) -> None:
    """See ``Storage.retire_flow``."""
    found = await commit.connection.execute(
        "UPDATE flows SET retired_at = coalesce(retired_at, $1) WHERE namespace = $2 AND id = $3",
        to_micros(at),
        *key,
    )
    if found == "UPDATE 0":
        raise NotFound(f"no flow {key}")
    commit.changes.append(("flow", str(key), None, str(key)))


async def in_use(connection: Any) -> list[FlowRecord]:
    """See ``Storage.flows``."""
    rows = await connection.fetch(
        f"SELECT {FLOW_COLUMNS} FROM flows WHERE retired_at IS NULL ORDER BY namespace, id"
    )
    return [flow_of(row) for row in rows]


async def one(connection: Any, key: FlowKey) -> FlowRecord:
    """See ``Storage.flow``."""
    found = await _find(connection, key)
    if found is None:
        raise NotFound(f"no flow {key}")
    return found


async def source(connection: Any, key: FlowKey, revision: int | None) -> tuple[int, str]:
    """See ``Storage.flow_source``."""
    row = await connection.fetchrow(
        "SELECT revision, source FROM flow_revisions WHERE namespace = $1 AND id = $2"
        " AND ($3::integer IS NULL OR revision = $3) ORDER BY revision DESC LIMIT 1",
        *key,
        revision,
    )
    if row is None:
        wanted = f" revision {revision}" if revision is not None else ""
        raise NotFound(f"no flow {key}{wanted}")
    return row[0], row[1]


async def revisions(connection: Any, key: FlowKey) -> list[tuple[int, datetime]]:
    """See ``Storage.revisions``."""
    rows = await connection.fetch(
        "SELECT revision, created_at FROM flow_revisions WHERE namespace = $1 AND id = $2 ORDER BY revision DESC",
        *key,
    )
    if not rows:
        raise NotFound(f"no flow {key}")
    return [(row[0], from_micros(row[1])) for row in rows]


async def _find(connection: Any, key: FlowKey) -> FlowRecord | None:
    row = await connection.fetchrow(
        f"SELECT {FLOW_COLUMNS} FROM flows WHERE namespace = $1 AND id = $2", *key
    )
    return flow_of(row) if row is not None else None
