"""``hub executions``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import output_option, show, show_one
from hub.cli.places import flow_query, newest_execution, server_options, with_hub

if TYPE_CHECKING:
    from hub.client import HubClient


@click.group()
def executions() -> None:
    """List, get, follow and kill executions; `last` names the newest."""


@executions.command("list")
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", help="Only this flow: its id, or NAMESPACE/FLOW.")
@click.option("--state", "states", multiple=True, help="Only this state; repeatable.")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only with this label; repeatable."
)
@click.option("--since", help="Created at or after this moment, ISO 8601.")
@click.option("--until", help="Created before this moment, ISO 8601.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@output_option
@server_options
def list_(
    namespace: str | None,
    flow: str | None,
    states: tuple[str, ...],
    labels: tuple[str, ...],
    since: str | None,
    until: str | None,
    limit: int,
    format: str,
    server: str | None,
    data: Path | None,
) -> None:
    """List executions, newest first."""
    given = {"since": since, "until": until, "limit": str(limit)}
    query = flow_query(namespace, flow) + [(name, value) for name, value in given.items() if value]
    query += [("state", state) for state in states] + [("label", label) for label in labels]

    async def work(client: HubClient) -> Any:
        return await client.get("/executions", query)

    show(
        with_hub(server, data, work)["items"],
        {
            "id": lambda item: item["id"],
            "flow": lambda item: f"{item['namespace']}/{item['flow']}",
            "state": lambda item: item["state"],
            "created": lambda item: item["createdAt"],
            "error": lambda item: _short(item.get("error")),
        },
        format=format,
        name=lambda item: str(item["id"]),
        empty="no executions",
    )


@executions.command()
@click.argument("execution", metavar="ID|last")
@output_option
@server_options
def get(execution: str, format: str, server: str | None, data: Path | None) -> None:
    """Get one execution with its task runs."""

    async def work(client: HubClient) -> Any:
        return await client.get(f"/executions/{await newest_execution(client, execution)}")

    found = with_hub(server, data, work)
    show_one(found, format=format, name=found["id"])


@executions.command()
@click.argument("execution", metavar="ID|last")
@click.option("-f", "--follow", is_flag=True, help="Go on until the execution ends.")
@server_options
def logs(execution: str, follow: bool, server: str | None, data: Path | None) -> None:
    """Print an execution's log."""
    from hub.cli.steps import log_line

    async def work(client: HubClient) -> None:
        id = await newest_execution(client, execution)
        if follow:
            async for line in client.lines(f"/executions/{id}/logs", [("follow", "true")]):
                click.echo(log_line(line))
            return
        after: int | None = 0
        while after is not None:
            page = await client.get(f"/executions/{id}/logs", [("after", str(after))])
            for line in page["items"]:
                click.echo(log_line(line))
            after = page.get("nextAfter")

    with_hub(server, data, work)


@executions.command()
@click.argument("execution", metavar="ID|last")
@server_options
def kill(execution: str, server: str | None, data: Path | None) -> None:
    """Kill an execution, its processes included."""

    async def work(client: HubClient) -> Any:
        return await client.post(f"/executions/{await newest_execution(client, execution)}/kill")

    found: Mapping[str, Any] = with_hub(server, data, work)
    click.echo(f"{found['id']} {found['state']}")


def _short(text: str | None) -> str:
    first = (text or "").split("\n", 1)[0]
    return first if len(first) <= 80 else first[:79] + "…"
