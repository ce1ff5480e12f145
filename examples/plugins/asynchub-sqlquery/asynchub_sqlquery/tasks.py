"""The task ``sql.query``."""

from typing import Any, ClassVar

from pydantic import BaseModel, Field

from asynchub_sqlquery import postgres, sqlite
from asynchub_sqlquery.answers import Found
from asynchub_sqlquery.settings import Connection
from hub.plugin import Fail, Script, Task, TaskContext, did_you_mean


class Query(Task):
    """Ask a database, SQLite or PostgreSQL, and give its rows.

    The text is sent as it stands: no expression is ever put into it, what changes goes into `parameters`. A
    query changes nothing unless `write` is set; everything it does is one transaction.
    """

    type: ClassVar[str] = "sql.query"
    examples: ClassVar[tuple[str, ...]] = (
        "id: orders\ntype: sql.query\nconnection: shop\n"
        "sql: SELECT id, total FROM orders WHERE customer = ? LIMIT 100\n"
        'parameters: ["{{ inputs.name }}"]',
        "id: book\ntype: sql.query\nconnection: warehouse\nwrite: true\n"
        "sql: INSERT INTO bookings (key, at) VALUES ($1, $2::text::timestamptz) ON CONFLICT (key) DO NOTHING\n"
        'parameters: ["{{ execution.id }}", "{{ now() }}"]',
    )

    connection: str = Field(description="The database: a name under `plugins.sql.connections`.")
    sql: Script = Field(
        description="The query, with `?` (SQLite) or `$1`, `$2` … (PostgreSQL) where parameters go; never rendered."
    )
    parameters: list[Any] = Field([], description="The values of the parameters, in order.")
    write: bool = Field(False, description="Whether it may change anything.")
    max_rows: int = Field(1000, ge=1, le=100_000, description="How many rows it gives; more is a failure.")

    class Output(BaseModel):
        rows: list[dict[str, Any]] = Field(description="The rows, by column.")
        count: int = Field(description="How many rows there are, or were changed.")

    async def run(self, ctx: TaskContext) -> Any:
        connection = self._connection(ctx)
        ask = sqlite.ask if connection.scheme == "sqlite" else postgres.ask
        found: Found = await ask(
            ctx, self.connection, connection, self.sql, self.parameters, write=self.write, most=self.max_rows
        )
        return self.Output(rows=found.rows, count=found.count)

    def _connection(self, ctx: TaskContext) -> Connection:
        known: dict[str, Connection] = ctx.settings.connections
        if self.connection not in known:
            near = did_you_mean(self.connection, list(known)) or f"there are {', '.join(known) or 'none'}"
            raise Fail(f'no database is called "{self.connection}" under plugins.sql.connections ({near})')
        return known[self.connection]
