"""``hub notices``."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import output_option, show, show_one
from hub.cli.places import flow_query, server_options, with_hub

if TYPE_CHECKING:
    from hub.client import HubClient

_STATES = ("owed", "delivered", "dead", "dropped")
_COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "id": lambda item: item["id"],
    "owed since": lambda item: item["createdAt"],
    "to": lambda item: item["notifier"],
    "state": lambda item: item["state"],
    "subject": lambda item: item["subject"],
    "attempts": lambda item: item["attempts"],
    "next at": lambda item: item["dueAt"],
    "error": lambda item: item["error"],
}
_NOTIFIER_COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    name: operator.itemgetter(name)
    for name in ("name", "type", "sending", "delivered", "failed", "dead", "disabled")
}


@click.group()
def notices() -> None:
    """List, show, retry and drop notices: what is owed to whom, what arrived, what was given up."""


@notices.command("list")
@click.option(
    "--state",
    "states",
    type=click.Choice(_STATES),
    multiple=True,
    help="Only this state; may be given again.",
)
@click.option("--to", "notifier", metavar="NAME", help="Only those to this notifier.")
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", help="Only this flow: its id, or NAMESPACE/FLOW.")
@click.option("--execution", metavar="ID", help="Only those of this execution.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@output_option
@server_options
def list_(
    states: tuple[str, ...],
    notifier: str | None,
    namespace: str | None,
    flow: str | None,
    execution: str | None,
    limit: int,
    format: str,
    server: str | None,
    data: Path | None,
) -> None:
    """List notices, newest first, with where each stands and why."""
    more = [(name, value) for name, value in (("notifier", notifier), ("execution", execution)) if value]
    query = [*flow_query(namespace, flow), *(("state", one) for one in states), *more, ("limit", str(limit))]

    async def work(client: HubClient) -> Any:
        return await client.get("/notices", query)

    found = with_hub(server, data, work)["items"]
    show(
        found,
        _COLUMNS,
        format=format,
        name=_id,
        empty="no notices: notify: in a flow or in hub.yaml says who is told of what",
    )


@notices.command("show")
@click.argument("notice", metavar="ID")
@output_option
@server_options
def show_(notice: str, format: str, server: str | None, data: Path | None) -> None:
    """Show one notice: where it stands, and what it says."""

    async def work(client: HubClient) -> Any:
        return await client.get(f"/notices/{notice}")

    found = with_hub(server, data, work)
    show_one(found, format=format, name=found["id"])


@notices.command()
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@output_option
@server_options
def retry(names: tuple[str, ...], format: str, server: str | None, data: Path | None) -> None:
    """Send them at once: what is owed, was given up or was dropped. It enables a disabled notifier."""
    from hub.cli.several import each

    async def work(client: HubClient) -> tuple[list[Any], int]:
        async def one(name: str) -> Any:
            return await client.post(f"/notices/{name}/retry")

        return await each(names, one)

    done, code = with_hub(server, data, work)
    show(done, _COLUMNS, format=format, name=_id, empty="nothing was retried")
    if code:
        raise click.exceptions.Exit(code)


@notices.command()
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@server_options
def drop(names: tuple[str, ...], server: str | None, data: Path | None) -> None:
    """Drop them: nobody needs to be told any more."""
    from hub.cli.several import each

    async def work(client: HubClient) -> tuple[list[str], int]:
        async def one(name: str) -> str:
            await client.delete(f"/notices/{name}")
            return name

        return await each(names, one)

    done, code = with_hub(server, data, work)
    for name in done:
        click.echo(f"dropped {name}")
    if code:
        raise click.exceptions.Exit(code)


@notices.command()
@output_option
@server_options
def notifiers(format: str, server: str | None, data: Path | None) -> None:
    """List the notifiers of hub.yaml.

    With what was sent since the hub started.
    """

    async def work(client: HubClient) -> Any:
        return await client.get("/notifiers")

    found = with_hub(server, data, work)["items"]
    show(
        found,
        _NOTIFIER_COLUMNS,
        format=format,
        name=lambda item: str(item["name"]),
        empty="no notifiers; add some under notifiers: in hub.yaml",
    )


def _id(item: Mapping[str, Any]) -> str:
    return str(item["id"])
