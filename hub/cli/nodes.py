"""``hub nodes``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import output_option, show
from hub.cli.places import server_options, with_hub

if TYPE_CHECKING:
    from hub.client import HubClient


@click.group()
def nodes() -> None:
    """List the hubs over one storage, and drain one."""


@nodes.command("list")
@output_option
@server_options
def list_(format: str, server: str | None, data: Path | None) -> None:
    """List the hubs that share this hub's storage.

    The hub that was asked is marked. One that is silent has missed its lease: the others take over what it moves.
    Over SQLite there is one hub, and nothing to list.
    """

    async def work(client: HubClient) -> Any:
        return await client.get("/nodes")

    show(
        with_hub(server, data, work)["items"],
        {
            "node": _marked,
            "name": lambda item: item["name"],
            "version": lambda item: item["version"],
            "state": lambda item: item["state"],
            "executions": lambda item: item["executions"],
            "heartbeat": lambda item: item["heartbeatAt"],
        },
        format=format,
        name=lambda item: str(item["number"]),
        empty="one hub at a time uses this storage",
    )


@nodes.command()
@click.argument("node", type=click.IntRange(min=1))
@server_options
def drain(node: int, server: str | None, data: Path | None) -> None:
    """Ask a hub to take nothing new.

    What it moves ends within its grace or goes on elsewhere.

    It stays up, not ready, until it is stopped. NODE is a number of `hub nodes list`.
    """

    async def work(client: HubClient) -> Any:
        return await client.post(f"/nodes/{node}/drain", {})

    done = with_hub(server, data, work)
    click.echo(f"node {done['number']} ({done['name']}) takes nothing new from its next heartbeat on")


def _marked(item: Mapping[str, Any]) -> str:
    return f"{item['number']}{' (this)' if item['this'] else ''}"
