"""The outbox: notices owed, claimed and settled, by whichever node comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from hub.plugin import (
    MOST_TOGETHER,
    Conflict,
    NewNotice,
    NotFound,
    Notice,
    NoticeClaim,
    NoticeFilter,
    NoticeSettlement,
    NoticeState,
    Purged,
    jsontext,
    to_micros,
)
from hub.plugin.rows import NOTICE_COLUMNS, flow_name, json_or_none, notice_of
from plugins_core.postgres.commits import Commit
from plugins_core.postgres.rows import arrays, clean, lock_number

_TOPIC = "notice"
"""What live views are told of a notice under."""
_STANDS = " RETURNING id, state, namespace, flow"
_MICROSECOND = timedelta(microseconds=1)
_OWED, _FREE = "state = 'owed'", "state = 'owed' AND claimed = 0"
_CLAIMING = lock_number("claim notices")


# owed


async def owe(commit: Commit, notices: Sequence[tuple[NewNotice, datetime]]) -> None:
    """Store notices, each with the moment it is owed from; those whose ids are known are there already."""
    rows = arrays([_row(notice, to_micros(at)) for notice, at in notices])
    _tell(commit, await commit.connection.fetch(_INSERT, *rows))


def _tell(commit: Commit, rows: Sequence[Any]) -> None:
    """Tell live views where notices stand now: rows of ``_STANDS``."""
    commit.changes += [(_TOPIC, id, state, flow_name(namespace, flow)) for id, state, namespace, flow in rows]


_INSERT = (
    "INSERT INTO notices (id, notifier, state, namespace, flow, execution_id, content, topic, gap, created_at,"
    " due_at) SELECT v.id, v.notifier, 'owed', v.namespace, v.flow, v.execution, v.content, v.topic, v.gap,"
    " v.created, v.due FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],"
    " $7::text[], $8::bigint[], $9::bigint[], $10::bigint[])"
    " AS v(id, notifier, namespace, flow, execution, content, topic, gap, created, due)"
    f" ON CONFLICT (id) DO NOTHING{_STANDS}"
)


def _row(notice: NewNotice, at: int) -> tuple[Any, ...]:
    return (
        notice.id,
        notice.notifier,
        notice.flow.namespace if notice.flow else None,
        notice.flow.id if notice.flow else None,
        notice.execution_id,
        jsontext.dumps(notice.content),
        clean(notice.topic),
        None if notice.gap is None else notice.gap // _MICROSECOND,
        at,
        to_micros(notice.due_at),
    )


# claimed


async def claim(commit: Commit, at: datetime, room: Mapping[str, int], others: int) -> list[NoticeClaim]:
    """See ``NoticeStorage.claim_notices``."""
    connection, now = commit.connection, to_micros(at)
    # one node at a time: what goes out together is chosen once
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _CLAIMING)
    due = await connection.fetch(
        f"SELECT DISTINCT notifier FROM notices WHERE {_FREE} AND due_at <= $1 ORDER BY notifier", now
    )
    claims: list[NoticeClaim] = []
    for (notifier,) in due:
        for _ in range(room.get(notifier, others)):
            claimed = await _claim_one(commit, notifier, now)
            if claimed is None:
                break
            claims.append(claimed)
    return claims


async def _claim_one(commit: Commit, notifier: str, now: int) -> NoticeClaim | None:
    connection = commit.connection
    while True:
        first = await connection.fetchrow(
            f"SELECT id, topic, delivery_id, gap FROM notices WHERE notifier = $1 AND {_FREE} AND due_at <= $2"
            " ORDER BY due_at, seq LIMIT 1",
            notifier,
            now,
        )
        if first is None:
            return None
        id, topic, delivery_id, gap = first
        if delivery_id is not None:
            return await _claimed(commit, delivery_id)
        if topic is None:
            await connection.execute("UPDATE notices SET delivery_id = id WHERE id = $1", id)
            return await _claimed(commit, id)
        if not await _put_off(connection, notifier, topic, now):
            if gap is not None:
                await connection.execute(
                    "INSERT INTO notice_topics (notifier, topic, open_at) VALUES ($1, $2, $3)"
                    " ON CONFLICT (notifier, topic) DO UPDATE SET open_at = excluded.open_at",
                    notifier,
                    topic,
                    now + gap,
                )
            return await _claimed(commit, await _together(connection, notifier, topic))


async def _put_off(connection: Any, notifier: str, topic: str, now: int) -> bool:
    """Whether a topic's gap has not passed; what is owed of it is due then."""
    open_at = await connection.fetchval(
        "SELECT open_at FROM notice_topics WHERE notifier = $1 AND topic = $2 AND open_at > $3",
        notifier,
        topic,
        now,
    )
    if open_at is None:
        return False
    await connection.execute(
        f"UPDATE notices SET due_at = greatest(due_at, $1) WHERE notifier = $2 AND topic = $3 AND {_OWED}"
        " AND delivery_id IS NULL",
        open_at,
        notifier,
        topic,
    )
    return True


async def _together(connection: Any, notifier: str, topic: str) -> str:
    """Let the oldest of a topic go out together from now on; answers the id they have as one."""
    rows = await connection.fetch(
        f"SELECT id FROM notices WHERE notifier = $1 AND topic = $2 AND {_OWED} AND delivery_id IS NULL"
        " ORDER BY seq LIMIT $3",
        notifier,
        topic,
        MOST_TOGETHER,
    )
    delivery_id: str = rows[0][0]
    await connection.execute(
        "UPDATE notices SET delivery_id = $1 WHERE id = ANY($2::text[])",
        delivery_id,
        [row[0] for row in rows],
    )
    return delivery_id


async def _claimed(commit: Commit, delivery_id: str) -> NoticeClaim:
    connection = commit.connection
    await connection.execute(
        "UPDATE notices SET claimed = 1, node = $2,"
        " fence = (SELECT max(fence) + 1 FROM notices WHERE delivery_id = $1)"
        f" WHERE delivery_id = $1 AND {_OWED}",
        delivery_id,
        commit.node,
    )
    rows = await connection.fetch(
        f"SELECT {NOTICE_COLUMNS}, crashes, fence, progress FROM notices WHERE delivery_id = $1 AND {_OWED}"
        " ORDER BY seq",
        delivery_id,
    )
    notices = tuple(map(notice_of, rows))
    first = notices[0]
    crashes, fence, progress = rows[0][-3], rows[0][-2], rows[0][-1]
    return NoticeClaim(
        delivery_id,
        fence,
        first.notifier,
        notices,
        first.attempts,
        json_or_none(progress) or {},
        crashes,
    )


# settled


async def settle(commit: Commit, settlements: Sequence[NoticeSettlement]) -> list[bool]:
    """See ``NoticeStorage.settle_notices``."""
    return [await _settle(commit, one) for one in settlements]


async def _settle(commit: Commit, one: NoticeSettlement) -> bool:
    at = to_micros(one.at)
    is_owed = one.state is NoticeState.OWED
    found = await commit.connection.fetch(
        "UPDATE notices SET claimed = 0, node = NULL, crashes = 0, state = $1, due_at = $2, settled_at = $3,"
        " error = $4, progress = coalesce($5, progress), attempts = attempts + $6"
        f" WHERE delivery_id = $7 AND claimed = 1 AND fence = $8{_STANDS}",
        one.state.value,
        to_micros(one.due_at or one.at) if is_owed else None,
        None if is_owed else at,
        clean(one.error),
        None if one.progress is None else jsontext.dumps(one.progress),
        int(one.counts),
        one.delivery_id,
        one.fence,
    )
    _tell(commit, found)
    if found and one.disables is not None:
        await commit.connection.execute(
            "INSERT INTO disabled_notifiers (name, reason, at) VALUES ($1, $2, $3)"
            " ON CONFLICT (name) DO UPDATE SET reason = excluded.reason, at = excluded.at",
            one.disables,
            clean(one.error) or "",
            at,
        )
    return bool(found)


# by hand


async def find(connection: Any, notice_id: str) -> Notice:
    """One notice. Raises ``NotFound``."""
    row = await connection.fetchrow(f"SELECT {NOTICE_COLUMNS} FROM notices WHERE id = $1", notice_id)
    if row is None:
        raise NotFound(f'no notice "{notice_id}"')
    return notice_of(row)


async def retry(commit: Commit, notice_id: str, at: datetime) -> Notice:
    """See ``NoticeStorage.retry_notice``."""
    connection = commit.connection
    await _undelivered(connection, notice_id)
    found = await connection.fetch(
        "UPDATE notices SET state = 'owed', due_at = $2, settled_at = NULL, attempts = 0, crashes = 0"
        " WHERE claimed = 0 AND (id = $1 OR (state IN ('owed', 'dead')"
        f" AND delivery_id = (SELECT delivery_id FROM notices WHERE id = $1))){_STANDS}",
        notice_id,
        to_micros(at),
    )
    _tell(commit, found)
    return await find(connection, notice_id)


async def drop(commit: Commit, notice_id: str, at: datetime) -> Notice:
    """See ``NoticeStorage.drop_notice``."""
    connection = commit.connection
    await _undelivered(connection, notice_id)
    found = await connection.fetch(
        "UPDATE notices SET state = 'dropped', due_at = NULL, settled_at = $1, claimed = 0, node = NULL"
        f" WHERE id = $2{_STANDS}",
        to_micros(at),
        notice_id,
    )
    _tell(commit, found)
    return await find(connection, notice_id)


async def _undelivered(connection: Any, notice_id: str) -> None:
    await connection.execute("SELECT 1 FROM notices WHERE id = $1 FOR NO KEY UPDATE", notice_id)
    if (await find(connection, notice_id)).state is NoticeState.DELIVERED:
        raise Conflict(f"notice {notice_id} has been delivered")


# read and removed


def where(filter: NoticeFilter) -> tuple[str, list[Any]]:
    """The condition over ``notices`` that a filter means, and its values."""
    parts, values = ["true"], list[Any]()
    same = {
        "notifier": filter.notifier,
        "namespace": filter.namespace,
        "flow": filter.flow,
        "execution_id": filter.execution_id,
    }
    for column, value in same.items():
        if value is not None:
            values.append(value)
            parts.append(f"{column} = ${len(values)}")
    if filter.states:
        values.append([state.value for state in filter.states])
        parts.append(f"state = ANY(${len(values)}::text[])")
    return " AND ".join(parts), values


async def purge(commit: Commit, before: datetime, limit: int) -> Purged:
    """See ``NoticeStorage.purge_notices``."""
    rows = await commit.connection.fetch(
        "SELECT id FROM notices WHERE settled_at < $1 AND state IN ('delivered', 'dropped') ORDER BY seq LIMIT $2",
        to_micros(before),
        limit + 1,
    )
    ids = tuple(row[0] for row in rows[:limit])
    await commit.connection.execute("DELETE FROM notices WHERE id = ANY($1::text[])", list(ids))
    return Purged(ids, len(rows) > limit)
