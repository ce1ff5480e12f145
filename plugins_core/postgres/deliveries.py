"""Delivery keys: whose is the first wins, over all nodes, and every other one is told what the first became."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hub.plugin import Accepted, Arrival, DeliveryKey, Receipt, to_micros
from hub.plugin.rows import flow_name, verdicts_of
from plugins_core.postgres.commits import Commit
from plugins_core.postgres.rows import arrays, clean

_ADD = (
    "INSERT INTO delivery_keys (scope, key, body_hash, event_id, expires_at)"
    " SELECT scope, key, body_hash, event_id, expires_at"
    " FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])"
    " AS v(scope, key, body_hash, event_id, expires_at)"
    # in key order, so that two nodes which bring the same keys wait for each other in one direction only
    ' ORDER BY scope COLLATE "C", key COLLATE "C"'
    " ON CONFLICT (scope, key) DO UPDATE SET body_hash = excluded.body_hash, event_id = excluded.event_id,"
    " expires_at = excluded.expires_at WHERE delivery_keys.expires_at <= $6"
    " RETURNING scope, key"
)
_FIND = (
    "SELECT scope, key, event_id, body_hash FROM delivery_keys"
    " WHERE (scope, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))"
)
_Name = tuple[str, str]


class Deliveries:
    """The keys that a batch of arrivals brings."""

    def __init__(self, commit: Commit) -> None:
        self._connection = commit.connection
        self.known: dict[int, tuple[str, str]] = {}
        """The first event and its body's hash, by the ``id`` of each arrival that repeats one."""

    def is_known(self, arrival: Arrival) -> bool:
        return id(arrival) in self.known

    async def add(self, arrivals: Sequence[tuple[Arrival, datetime]]) -> None:
        """Add the keys of arrivals, each with its moment; those that were known are in ``known`` afterwards."""
        keyed = [(one, at) for one, at in arrivals if one.event is not None and one.delivery is not None]
        # two of one key in one statement would be refused: those that repeat another of this batch come later
        while keyed:
            first: dict[_Name, tuple[Arrival, datetime]] = {}
            later: list[tuple[Arrival, datetime]] = []
            for one, at in keyed:
                name = _name(one.delivery)
                if name in first:
                    later.append((one, at))
                else:
                    first[name] = (one, at)
            await self._add_one_of_each(first)
            keyed = later

    async def _add_one_of_each(self, wanted: dict[_Name, tuple[Arrival, datetime]]) -> None:
        rows = [_row(one) for one, _ in wanted.values()]
        # the arrivals of a batch differ in their moments by less than a key's window can tell
        now = min(to_micros(at) for _, at in wanted.values())
        added = {(row[0], row[1]) for row in await self._connection.fetch(_ADD, *arrays(rows), now)}
        repeats = {name: one for name, (one, _) in wanted.items() if name not in added}
        if not repeats:
            return
        # without its unique key the newest row would answer, so each repeat would look new
        for scope, key, event_id, body_hash in await self._connection.fetch(_FIND, *arrays(list(repeats))):
            one = repeats[scope, key]
            if one.event is not None and event_id != one.event.id:
                self.known[id(one)] = (event_id, body_hash)


def _name(delivery: DeliveryKey | None) -> _Name:
    assert delivery is not None
    return str(clean(delivery.scope)), str(clean(delivery.key))


def _row(one: Arrival) -> tuple[Any, ...]:
    delivery, event = one.delivery, one.event
    assert delivery is not None
    assert event is not None
    return (*_name(delivery), delivery.body_hash, event.id, to_micros(delivery.expires_at))


async def repeated(
    commit: Commit, deliveries: Deliveries, arrivals: Sequence[Arrival]
) -> dict[int, Accepted]:
    """The answers to those that repeat another, by the ``id`` of each, and the repeats counted."""
    found: dict[int, Accepted] = {}
    counted: dict[str, tuple[int, str | None]] = {}
    for arrival in arrivals:
        first = deliveries.known.get(id(arrival))
        if first is None or arrival.delivery is None:
            continue
        event_id, body_hash = first
        if arrival.delivery.body_hash and body_hash and arrival.delivery.body_hash != body_hash:
            found[id(arrival)] = Accepted(Receipt(event_id=event_id, conflict=True))
            continue
        event = arrival.event
        flow = flow_name(event.namespace, event.flow) if event is not None else None
        counted[event_id] = (counted.get(event_id, (0, None))[0] + 1, flow)
        found[id(arrival)] = await _known(commit, event_id)
    if counted:
        rows = await commit.connection.fetch(
            "UPDATE events e SET repeats = repeats + v.times"
            " FROM unnest($1::text[], $2::integer[]) AS v(id, times) WHERE e.id = v.id RETURNING e.id",
            *arrays([(id, times) for id, (times, _) in sorted(counted.items())]),
        )
        # a key outlives its event
        commit.changes += [("event", row[0], "repeated", counted[row[0]][1]) for row in rows]
    return found


async def _known(commit: Commit, event_id: str) -> Accepted:
    connection = commit.connection
    executions = await connection.fetch(
        "SELECT id FROM executions WHERE event_id = $1"
        " OR event_id = (SELECT batch FROM events WHERE id = $1 AND batch <> '') ORDER BY seq",
        event_id,
    )
    verdicts = await connection.fetchval("SELECT verdicts FROM events WHERE id = $1", event_id)
    return Accepted(
        Receipt(
            event_id=event_id,
            execution_ids=tuple(row[0] for row in executions),
            duplicate=True,
            verdicts=verdicts_of(verdicts) if verdicts is not None else (),
        )
    )
