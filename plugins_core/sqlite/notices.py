"""The outbox: notices owed, claimed and settled, inside the writer's transaction."""

from __future__ import annotations

import sqlite3
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
from plugins_core.sqlite.rows import write_many
from plugins_core.sqlite.writer import Commit

_TOPIC = "notice"
"""What live views are told of a notice under."""
_STANDS = "RETURNING id, state, namespace, flow"
_MICROSECOND = timedelta(microseconds=1)
_OWED, _FREE = "state = 'owed'", "state = 'owed' AND claimed = 0"


# owed


def owe(commit: Commit, notices: Sequence[NewNotice], at: datetime) -> None:
    """Store notices; those whose ids are known are there already."""
    ids = jsontext.dumps([notice.id for notice in notices])
    known = commit.connection.execute(
        "SELECT id FROM notices WHERE id IN (SELECT value FROM json_each(?))", (ids,)
    ).fetchall()
    new = [notice for notice in notices if (notice.id,) not in known]
    write_many(commit.connection, _insert, 10, [_row(notice, to_micros(at)) for notice in new])
    for notice in new:
        flow = str(notice.flow) if notice.flow else None
        commit.changes.append((_TOPIC, notice.id, NoticeState.OWED.value, flow))


def _insert(values: str) -> str:
    return (
        "INSERT INTO notices (id, notifier, state, namespace, flow, execution_id, content, topic, gap, created_at,"
        " due_at) SELECT column1, column2, 'owed', column3, column4, column5, column6, column7, column8,"
        f" column9, column10 FROM (VALUES {values}) WHERE true ON CONFLICT (id) DO NOTHING"
    )


def _row(notice: NewNotice, at: int) -> tuple[Any, ...]:
    return (
        notice.id,
        notice.notifier,
        notice.flow.namespace if notice.flow else None,
        notice.flow.id if notice.flow else None,
        notice.execution_id,
        jsontext.dumps(notice.content),
        notice.topic,
        None if notice.gap is None else notice.gap // _MICROSECOND,
        at,
        to_micros(notice.due_at),
    )


# claimed


def claim(
    connection: sqlite3.Connection, at: datetime, room: Mapping[str, int], others: int
) -> list[NoticeClaim]:
    """See ``NoticeStorage.claim_notices``."""
    now = to_micros(at)
    due = connection.execute(
        f"SELECT DISTINCT notifier FROM notices WHERE {_FREE} AND due_at <= ?", (now,)
    ).fetchall()
    claims: list[NoticeClaim] = []
    for (notifier,) in due:
        for _ in range(room.get(notifier, others)):
            claimed = _claim_one(connection, notifier, now)
            if claimed is None:
                break
            claims.append(claimed)
    return claims


def _claim_one(connection: sqlite3.Connection, notifier: str, now: int) -> NoticeClaim | None:
    while True:
        first = connection.execute(
            f"SELECT id, topic, delivery_id, gap FROM notices WHERE notifier = ? AND {_FREE} AND due_at <= ?"
            " ORDER BY due_at, seq LIMIT 1",
            (notifier, now),
        ).fetchone()
        if first is None:
            return None
        id, topic, delivery_id, gap = first
        if delivery_id is not None:
            return _claimed(connection, delivery_id)
        if topic is None:
            connection.execute("UPDATE notices SET delivery_id = id WHERE id = ?", (id,))
            return _claimed(connection, id)
        if not _put_off(connection, notifier, topic, now):
            if gap is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO notice_topics (notifier, topic, open_at) VALUES (?, ?, ?)",
                    (notifier, topic, now + gap),
                )
            return _claimed(connection, _together(connection, notifier, topic))


def _put_off(connection: sqlite3.Connection, notifier: str, topic: str, now: int) -> bool:
    """Whether a topic's gap has not passed; what is owed of it is due then."""
    row = connection.execute(
        "SELECT open_at FROM notice_topics WHERE notifier = ? AND topic = ? AND open_at > ?",
        (notifier, topic, now),
    ).fetchone()
    if row is None:
        return False
    connection.execute(
        f"UPDATE notices SET due_at = max(due_at, ?) WHERE notifier = ? AND topic = ? AND {_OWED}"
        " AND delivery_id IS NULL",
        (row[0], notifier, topic),
    )
    return True


def _together(connection: sqlite3.Connection, notifier: str, topic: str) -> str:
    """Let the oldest of a topic go out together from now on; answers the id they have as one."""
    ids = connection.execute(
        f"SELECT id FROM notices WHERE notifier = ? AND topic = ? AND {_OWED} AND delivery_id IS NULL"
        " ORDER BY seq LIMIT ?",
        (notifier, topic, MOST_TOGETHER),
    ).fetchall()
    delivery_id: str = ids[0][0]
    connection.execute(
        "UPDATE notices SET delivery_id = ? WHERE id IN (SELECT value FROM json_each(?))",
        (delivery_id, jsontext.dumps([id for (id,) in ids])),
    )
    return delivery_id


def _claimed(connection: sqlite3.Connection, delivery_id: str) -> NoticeClaim:
    connection.execute(
        "UPDATE notices SET claimed = 1, fence ="
        " (SELECT max(fence) + 1 FROM notices WHERE delivery_id = ?1)"
        f" WHERE delivery_id = ?1 AND {_OWED}",
        (delivery_id,),
    )
    rows = connection.execute(
        f"SELECT {NOTICE_COLUMNS}, crashes, fence, progress FROM notices WHERE delivery_id = ? AND {_OWED} ORDER BY seq",
        (delivery_id,),
    ).fetchall()
    notices = tuple(map(notice_of, rows))
    first = notices[0]
    crashes, fence, progress = rows[0][-3:]
    return NoticeClaim(
        delivery_id,
        fence,
        first.notifier,
        notices,
        first.attempts,
        json_or_none(progress) or {},
        crashes,
    )


def take_over(connection: sqlite3.Connection) -> None:
    """Give every claim back; what was being sent is due at once."""
    connection.execute("UPDATE notices SET claimed = 0, crashes = crashes + 1 WHERE claimed = 1")


# settled


def settle(commit: Commit, settlements: Sequence[NoticeSettlement]) -> list[bool]:
    """See ``NoticeStorage.settle_notices``."""
    return [_settle(commit, one) for one in settlements]


def _tell(commit: Commit, rows: Sequence[tuple[str, str, str | None, str | None]]) -> None:
    """Tell live views where notices stand now: rows of ``_STANDS``."""
    commit.changes += [(_TOPIC, id, state, flow_name(namespace, flow)) for id, state, namespace, flow in rows]


def _settle(commit: Commit, one: NoticeSettlement) -> bool:
    at = to_micros(one.at)
    is_owed = one.state is NoticeState.OWED
    found = commit.connection.execute(
        "UPDATE notices SET claimed = 0, crashes = 0, state = ?, due_at = ?, settled_at = ?, error = ?,"
        " progress = coalesce(?, progress), attempts = attempts + ?"
        f" WHERE delivery_id = ? AND claimed = 1 AND fence = ? {_STANDS}",
        (
            one.state.value,
            to_micros(one.due_at or one.at) if is_owed else None,
            None if is_owed else at,
            one.error,
            None if one.progress is None else jsontext.dumps(one.progress),
            int(one.counts),
            one.delivery_id,
            one.fence,
        ),
    ).fetchall()
    _tell(commit, found)
    if found and one.disables is not None:
        commit.connection.execute(
            "INSERT OR REPLACE INTO disabled_notifiers (name, reason, at) VALUES (?, ?, ?)",
            (one.disables, one.error or "", at),
        )
    return bool(found)


# by hand


def find(connection: sqlite3.Connection, notice_id: str) -> Notice:
    """One notice. Raises ``NotFound``."""
    row = connection.execute(f"SELECT {NOTICE_COLUMNS} FROM notices WHERE id = ?", (notice_id,)).fetchone()
    if row is None:
        raise NotFound(f'no notice "{notice_id}"')
    return notice_of(row)


def retry(commit: Commit, notice_id: str, at: datetime) -> Notice:
    """See ``NoticeStorage.retry_notice``."""
    connection = commit.connection
    _undelivered(connection, notice_id)
    found = connection.execute(
        "UPDATE notices SET state = 'owed', due_at = ?2, settled_at = NULL, attempts = 0, crashes = 0"
        " WHERE claimed = 0 AND (id = ?1 OR (state IN ('owed', 'dead')"
        f" AND delivery_id = (SELECT delivery_id FROM notices WHERE id = ?1))) {_STANDS}",
        (notice_id, to_micros(at)),
    )
    _tell(commit, found.fetchall())
    return find(connection, notice_id)


def drop(commit: Commit, notice_id: str, at: datetime) -> Notice:
    """See ``NoticeStorage.drop_notice``."""
    connection = commit.connection
    _undelivered(connection, notice_id)
    found = connection.execute(
        "UPDATE notices SET state = 'dropped', due_at = NULL, settled_at = ?, claimed = 0 WHERE id = ?"
        f" {_STANDS}",
        (to_micros(at), notice_id),
    )
    _tell(commit, found.fetchall())
    return find(connection, notice_id)


def _undelivered(connection: sqlite3.Connection, notice_id: str) -> None:
    if find(connection, notice_id).state is NoticeState.DELIVERED:
        raise Conflict(f"notice {notice_id} has been delivered")


# read and removed


def where(filter: NoticeFilter) -> tuple[str, list[Any]]:
    """The condition over ``notices`` that a filter means, and its values."""
    parts, values = ["1"], list[Any]()
    same = {
        "notifier": filter.notifier,
        "namespace": filter.namespace,
        "flow": filter.flow,
        "execution_id": filter.execution_id,
    }
    for column, value in same.items():
        if value is not None:
            parts.append(f"{column} = ?")
            values.append(value)
    if filter.states:
        parts.append(f"state IN ({','.join('?' * len(filter.states))})")
        values += [state.value for state in filter.states]
    return " AND ".join(parts), values


def purge(connection: sqlite3.Connection, before: datetime, limit: int) -> Purged:
    """See ``NoticeStorage.purge_notices``."""
    rows = connection.execute(
        "SELECT id FROM notices WHERE settled_at < ? AND state IN ('delivered', 'dropped') ORDER BY seq LIMIT ?",
        (to_micros(before), limit + 1),
    ).fetchall()
    ids = tuple(row[0] for row in rows[:limit])
    connection.execute(
        "DELETE FROM notices WHERE id IN (SELECT value FROM json_each(?))", (jsontext.dumps(list(ids)),)
    )
    return Purged(ids, len(rows) > limit)
