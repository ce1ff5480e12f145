"""``hub flows``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import output_option, show
from hub.cli.places import server_options, with_hub

if TYPE_CHECKING:
    from hub.client import HubClient


@click.group()
def flows() -> None:
    """List flows."""


@flows.command("list")
@click.option("--namespace", help="Only this namespace.")
@output_option
@server_options
def list_(namespace: str | None, format: str, server: str | None, data: Path | None) -> None:
    """List the flows in use, and the files that cannot be used with what is wrong."""

    async def work(client: HubClient) -> Any:
        return await client.get("/flows", [("namespace", namespace)] if namespace else [])

    found = with_hub(server, data, work)
    show(
        found["items"],
        {
            "flow": lambda item: f"{item['namespace']}/{item['id']}",
            "revision": lambda item: item["revision"],
            "disabled": lambda item: "disabled" if item["disabled"] else "",
            "triggers": lambda item: item["triggers"],
            "origin": lambda item: item["origin"] or "API",
        },
        format=format,
        name=lambda item: f"{item['namespace']}/{item['id']}",
        empty="no flows",
    )
    for broken in found["broken"]:
        for problem in broken["problems"]:
            if problem["severity"] == "error":
                where = f"{broken['file']}:{problem['line']}:{problem['column']}"
                hint = f" ({problem['hint']})" if problem["hint"] else ""
                click.echo(f"{where}  {problem['message']}{hint}", err=True)
