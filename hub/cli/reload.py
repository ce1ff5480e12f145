"""``hub reload``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.places import server_options, with_hub

if TYPE_CHECKING:
    from hub.client import HubClient

_LOOK_EVERY = 0.05


@click.command()
@server_options
def reload(server: str | None, data: Path | None) -> None:
    """Have a new process take over, without a refused request.

    It has the plugins, the settings and the hub as they are installed now. What runs ends first, in 30 seconds
    at most; what has not is handed over and begun again. Where the new process cannot start, the old one goes on and
    the exit code is 7.
    """
    after = with_hub(server, data, _reload)
    if after["state"] == "failed":
        from hub.errors import Conflict

        raise Conflict(f"no new process took over: {after['error']}", hint="the old one goes on")
    waited = f" after {after['seconds']:.2f} s" if after["seconds"] is not None else ""
    click.echo(f"asynchub {after['version']} has taken over{waited}, as process {after['pid']}")


async def _reload(client: HubClient) -> Any:
    """Ask for it and wait for what becomes of it."""
    begun = await client.post("/reload")
    while True:
        # asked while nobody answers, it waits like any other request
        found = await client.get("/reload")
        if found["number"] >= begun["number"] and found["state"] in ("done", "failed"):
            return found
        await asyncio.sleep(_LOOK_EVERY)
