"""``hub triggers``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import output_option, show
from hub.cli.places import flow_query, server_options, with_hub

if TYPE_CHECKING:
    from hub.client import HubClient


@click.group()
def triggers() -> None:
    """List triggers."""


@triggers.command("list")
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", help="Only this flow: its id, or NAMESPACE/FLOW.")
@output_option
@server_options
def list_(
    namespace: str | None, flow: str | None, format: str, server: str | None, data: Path | None
) -> None:
    """List triggers: each webhook's URL with a line that calls it, each schedule's next times."""
    query = flow_query(namespace, flow)

    async def work(client: HubClient) -> Any:
        return await client.get("/triggers", query)

    items = with_hub(server, data, work)["items"]
    show(
        items,
        {
            "trigger": _name,
            "type": lambda item: item["type"],
            "state": lambda item: item["state"],
            "where or when": lambda item: item.get("url") or item.get("nextTimes") or item.get("error"),
        },
        format=format,
        name=_name,
        empty="no triggers",
    )
    if format == "table":
        for item in items:
            if item.get("curl"):
                click.echo(f"\n# {_name(item)}\n{item['curl']}")


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['namespace']}/{item['flow']}/{item['id']}"
