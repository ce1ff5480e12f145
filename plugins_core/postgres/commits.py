"""One transaction, from its beginning to a certain answer.

Every write runs under the shared lock of its node's incarnation: whoever ends the node takes that lock alone, so
nothing of an ended node is committed afterwards. When the line breaks while a commit is under way, the server is
asked what became of it, by a row that the commit has left: no write is answered wrongly and none is done twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import uuid4

from hub.plugin import StorageUnavailable, jsontext
from plugins_core.postgres.kin import Kin
from plugins_core.postgres.rows import arrays, together
from plugins_core.postgres.task_runs import END

T = TypeVar("T")

_ASKING = 30.0
"""Seconds in which a server that was lost during a commit has to come back, to say what became of it."""
_ASK_AGAIN = 0.1
_MOST_TRIES = 5
NOW = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
"""The database's clock in microseconds."""


class NodeEnded(Exception):
    """This incarnation was ended by another node: it was silent for longer than its lease."""


@dataclass(slots=True)
class Commit:
    """One transaction under way: its connection, its node, and what it changes that live views show."""

    connection: Any
    node: int
    kin: Kin
    changes: list[tuple[str | None, ...]] = field(default_factory=list)
    """Topic, id, state, flow and, of an execution that has ended, its parent."""
    ended: list[tuple[str, int]] = field(default_factory=list)
    """Executions that have ended, and when: with the commit ends what is left of their task runs."""
    last: tuple[list[str], list[tuple[Any, ...]]] = ([], [])
    """Statements with their values that nothing else of the transaction needs to see."""
    leaves_some: bool = False
    """Whether it leaves something that any hub may claim."""
    wrote: bool = True
    """Whether it has written at all: what has not need not be known again."""


class Mark(NamedTuple):
    """What a transaction is known by once it is committed: no other one leaves the same row."""

    transaction: str
    """Its number at the server."""
    question: str
    """Finds the row."""
    values: tuple[Any, ...]


_CHANGES = (
    "INSERT INTO changes (number, at, node, items)"
    f" VALUES (pg_current_xact_id()::text::bigint + $1, {NOW}, $2, $3)"
    " RETURNING pg_current_xact_id()::text, number, at"
)
_IS_CHANGE = "SELECT 1 FROM changes WHERE number = $1 AND at = $2 AND node = $3"
_LAST = (
    "INSERT INTO commits (connection, number, at)"
    f" SELECT $1, pg_current_xact_id()::text::bigint, {NOW}"
    " WHERE pg_current_xact_id_if_assigned() IS NOT NULL"
    " ON CONFLICT (connection) DO UPDATE SET number = excluded.number, at = excluded.at"
    " RETURNING pg_current_xact_id()::text, number, at"
)
_IS_LAST = "SELECT 1 FROM commits WHERE number = $1 AND at = $2 AND connection = $3"


class Member(Protocol):
    """The incarnation that writes."""

    @property
    def number(self) -> int: ...

    async def renew(self, ended: int) -> None:
        """Become another incarnation, once ``ended`` has been ended."""


class Transactions:
    """Runs transactions for one node."""

    def __init__(self, driver: Any, member: Member, told: Callable[[Commit], None]) -> None:
        self._driver = driver
        self._member = member
        self._told = told
        self.kin = Kin()
        self.base = 0
        """What is added to a transaction's number to make it the number of a change."""
        self._name = uuid4().hex
        """What this process's connections are called in the rows of their last commits, with their own numbers."""

    async def on(self, connection: Any, work: Callable[[Commit], Awaitable[T]], *, by_key: bool = True) -> T:
        """Run ``work`` in a transaction of a connection; its answer once that is durable.

        ``by_key`` says that all it reads and changes is found by keys. Raises what ``work`` raises, with nothing stored, and the driver's ``Failure``. What stood in the way of
        another is run again.
        """
        tries = 0
        while True:
            tries += 1
            node = self._member.number
            try:
                return await self._once(connection, node, work, by_key)
            except NodeEnded:
                if tries >= _MOST_TRIES:
                    raise StorageUnavailable("this node is ended again and again by others") from None
                await self._member.renew(node)
            except Exception as error:
                from plugins_core.postgres.driver import is_transient

                if not is_transient(error) or tries >= _MOST_TRIES:
                    raise

    async def _once(
        self, connection: Any, node: int, work: Callable[[Commit], Awaitable[T]], by_key: bool
    ) -> T:
        if not await begin(connection, node, by_key):
            await roll_back(connection)
            raise NodeEnded
        commit = Commit(connection, node, self.kin)
        try:
            answer = await work(commit)
            mark = await self._mark(commit) if commit.wrote else None
        except BaseException:
            await roll_back(connection)
            raise
        await self._commit(connection, mark)
        self._told(commit)
        return answer

    async def _mark(self, commit: Commit) -> Mark | None:
        """Leave the row by which a transaction is known again; None where it has written nothing.

        Its number alone would not do: what a server that crashes has not flushed it forgets, number and all, and
        gives the number to another.
        """
        statements: list[str] = [*commit.last[0]]
        values: list[Any] = [*commit.last[1], *arrays(commit.ended)]
        if commit.ended:
            statements.append(END)
        if commit.changes:
            values += (self.base, commit.node, jsontext.dumps(commit.changes))
            row = await commit.connection.fetchrow(together(*statements, _CHANGES), *values)
            return Mark(row[0], _IS_CHANGE, (row[1], row[2], commit.node))
        if statements:
            await commit.connection.execute(together(*statements), *values)
        name = f"{self._name} {commit.connection.get_server_pid()}"
        row = await commit.connection.fetchrow(_LAST, name)
        return None if row is None else Mark(row[0], _IS_LAST, (row[1], row[2], name))

    async def _commit(self, connection: Any, mark: Mark | None) -> None:
        from plugins_core.postgres.driver import Failure

        try:
            await connection.execute("COMMIT")
        except Failure as error:
            connection.terminate()
            if mark is not None and not await self._was_committed(mark):
                raise StorageUnavailable(f"postgres: the commit did not arrive: {error}") from error

    async def _was_committed(self, mark: Mark) -> bool:
        """What became of a commit whose answer was lost. Raises ``StorageUnavailable`` when nobody says."""
        from plugins_core.postgres.driver import Failure, connected

        loop = asyncio.get_running_loop()
        until = loop.time() + _ASKING
        while True:
            try:
                async with connected(self._driver, "asks") as asking:
                    # in this order: it may end in between
                    status = await asking.fetchval("SELECT pg_xact_status($1::text::xid8)", mark.transaction)
                    found = await asking.fetchval(mark.question, *mark.values)
                if found or status != "in progress":
                    return bool(found)
            except Failure as error:
                if loop.time() >= until:
                    raise StorageUnavailable(f"postgres: nobody knows of a commit: {error}") from error
            if loop.time() >= until:
                raise StorageUnavailable("postgres: a commit is under way and does not end")
            await asyncio.sleep(_ASK_AGAIN)


_BY_KEY = "".join(
    f", set_config('enable_{way}', 'off', true)" for way in ("seqscan", "hashjoin", "mergejoin")
)
"""A planner that has seen a table while it was small keeps reading all of it, until
it is told of its growth, by which time that takes longer than everything else."""


async def begin(connection: Any, node: int, by_key: bool) -> bool:
    """Begin a transaction under the lock of a node; answers whether the node has not been ended."""
    told = await connection.execute(
        f"BEGIN; SELECT pg_advisory_xact_lock_shared({node}){_BY_KEY if by_key else ''};"
        f" SELECT 1 FROM nodes WHERE number = {node} AND ended_at IS NULL"
    )
    return bool(told == "SELECT 1")


async def roll_back(connection: Any) -> None:
    """Undo what is open; a connection that cannot is closed, which undoes it too."""
    from plugins_core.postgres.driver import Failure

    if connection.is_closed():
        return
    try:
        await connection.execute("ROLLBACK")
    except Failure:
        with contextlib.suppress(Exception):
            connection.terminate()
