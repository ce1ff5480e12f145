"""Change sets: what live views and other hubs read, in an order that no commit comes before any more.

A set's number is that of its transaction. Transactions end in another order than they begin, so a set is shown
only once every older transaction has ended; what was answered is waited for, which takes as long as the shortest
of commits.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hub.plugin import Change, ChangeSet, from_micros, jsontext
from plugins_core.postgres.commits import Transactions

_SETTLING = 0.5
"""Seconds that a reader waits for older transactions to end; a longer one delays what comes after it."""
_LOOK_AGAIN = 0.003
# one statement, so that what is seen and which transactions are over are of one moment
_HORIZON = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_AFTER = f"SELECT number, at, node, items, {_HORIZON} FROM changes WHERE number > $1 ORDER BY number LIMIT $2"
_OF_OTHERS = (
    f"SELECT c.number, c.at, c.node, c.items, h.horizon FROM (SELECT {_HORIZON} AS horizon) h LEFT JOIN LATERAL"
    " (SELECT * FROM changes WHERE number > $1 AND node <> $3 ORDER BY number LIMIT $2) c ON true ORDER BY c.number"
)
_NEWEST = f"SELECT coalesce(max(number), 0), {_HORIZON} FROM changes"


class Numbers:
    """Reads change sets."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def last(self, connection: Any) -> int:
        """See ``Storage.last_change``."""
        until = asyncio.get_running_loop().time() + _SETTLING
        while True:
            newest, horizon = await connection.fetchrow(_NEWEST)
            if newest < horizon + self._transactions.base or asyncio.get_running_loop().time() > until:
                break
            await asyncio.sleep(_LOOK_AGAIN)
        limit = horizon + self._transactions.base
        settled = await connection.fetchval("SELECT max(number) FROM changes WHERE number < $1", limit)
        purged = await connection.fetchval("SELECT purged FROM change_numbers")
        return max(int(settled or 0), int(purged))

    async def after(self, connection: Any, after: int, limit: int) -> tuple[list[ChangeSet], bool]:
        """See ``Storage.changes``."""
        rows = await self._settled(connection, after, limit)
        # asked after the rows were read: what was removed before they were is missed by none of them
        purged = await connection.fetchval("SELECT purged FROM change_numbers")
        return [_set_of(row) for row in rows], after >= purged

    async def of_others(
        self, connection: Any, after: int, limit: int, own: int
    ) -> tuple[list[ChangeSet], int]:
        """See ``NodeStorage.changes_of_others``."""
        rows, horizon = await self._settled_of_others(connection, after, limit, own)
        if len(rows) < limit:
            # all below the horizon has been read, this hub's own among it
            after = max(after, horizon + self._transactions.base - 1)
        return [_set_of(row) for row in rows], max([after, *(row[0] for row in rows)])

    async def _settled_of_others(
        self, connection: Any, after: int, limit: int, own: int
    ) -> tuple[list[Any], int]:
        until = asyncio.get_running_loop().time() + _SETTLING
        while True:
            found = await connection.fetch(_OF_OTHERS, after, limit, own)
            horizon = int(found[0][4])
            rows = [row for row in found if row[0] is not None]
            settled = [row for row in rows if row[0] < horizon + self._transactions.base]
            if len(settled) == len(rows) or asyncio.get_running_loop().time() > until:
                return settled, horizon
            await asyncio.sleep(_LOOK_AGAIN)

    async def _settled(self, connection: Any, after: int, limit: int) -> list[Any]:
        """Rows that nothing can come before any more."""
        until = asyncio.get_running_loop().time() + _SETTLING
        while True:
            rows = await connection.fetch(_AFTER, after, limit)
            settled = [row for row in rows if row[0] < row[4] + self._transactions.base]
            if len(settled) == len(rows) or asyncio.get_running_loop().time() > until:
                return settled
            await asyncio.sleep(_LOOK_AGAIN)


def _set_of(row: Any) -> ChangeSet:
    return ChangeSet(row[0], from_micros(row[1]), tuple(Change(*item) for item in jsontext.loads(row[3])))


async def base_of(connection: Any) -> int:
    """What is added to transactions' numbers. Moved on in a restored database, whose server counts from elsewhere."""
    async with connection.transaction():
        base, purged = await connection.fetchrow("SELECT base, purged FROM change_numbers FOR UPDATE")
        # of one moment: this transaction's own number is older than those that others have committed meanwhile
        newest, following = await connection.fetchrow(
            "SELECT coalesce(max(number), 0), pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM changes"
        )
        newest = max(newest, purged)
        if newest >= following + base:
            base = newest - following + 1
            await connection.execute("UPDATE change_numbers SET base = $1", base)
        return int(base)
