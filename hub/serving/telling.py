"""What a hub that serves says to whoever started it, and where commands on this machine find it."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hub import __version__
from hub.api import Api
from hub.app import ADDRESS_FILE, Place, write_private
from hub.clock import process_age
from hub.engine.node import Node

Say = Callable[[str], None]


@dataclass
class Watching:
    """Who is told what while a hub serves."""

    say: Say
    """Gets the ready line."""
    on_ended: Callable[[Mapping[str, Any]], None] | None = None
    """Gets each execution's end."""
    on_ready: Callable[[str], Awaitable[None]] | None = None
    """Is called with the address once it is up."""


async def report_ends(node: Node, on_ended: Callable[[Mapping[str, Any]], None]) -> None:
    """Tell of each execution that ends, until cancelled."""
    with node.services.bus.subscribe("execution", size=10_000) as news:
        async for one in news:
            if "seconds" in one.details:
                on_ended({"id": one.id, **one.details})


def ready_line(node: Node, api: Api, waited: float | None) -> str:
    """The line that says where the hub is; ``waited`` is how long requests had to, after a reload."""
    plugins = sum(plugin.state == "loaded" for plugin in node.services.registry.plugins)
    flows = len(node.catalog.records())
    broken = len(node.catalog.broken)
    listening = f" · listening at {api.local_url}" if api.local_url != api.url else ""
    took = f"in {process_age():.2f} s" if waited is None else f"again after {waited:.2f} s"
    return (
        f"asynchub {__version__} ready at {api.url} {took}{listening}"
        f" · {flows} flow{'s' if flows != 1 else ''}"
        + (f" ({broken} file{'s' if broken != 1 else ''} with errors)" if broken else "")
        + f" · {plugins} plugins"
    )


def write_address(place: Place, url: str) -> None:
    """Leave the address in the data folder."""
    path = place.data_dir / ADDRESS_FILE
    temporary = path.with_suffix(".new")
    write_private(temporary, json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    temporary.replace(path)
