"""``hub events``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import output_option, show
from hub.cli.places import server_options, with_hub

if TYPE_CHECKING:
    from hub.client import HubClient

_LOOK_EVERY = 0.5


@click.group()
def events() -> None:
    """List and follow events."""


@events.command("list")
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", help="Only this flow: its id, or NAMESPACE/FLOW.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@output_option
@server_options
def list_(
    namespace: str | None, flow: str | None, limit: int, format: str, server: str | None, data: Path | None
) -> None:
    """List events, newest first, with what each started or why it did not."""
    query = _query(namespace, flow, limit)

    async def work(client: HubClient) -> Any:
        return await client.get("/events", query)

    show(
        with_hub(server, data, work)["items"],
        {
            "id": lambda item: item["id"],
            "received": lambda item: item["receivedAt"],
            "source": lambda item: item["source"],
            "type": lambda item: item["type"],
            "outcome": _outcome,
        },
        format=format,
        name=lambda item: str(item["id"]),
        empty="no events",
    )


@events.command()
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", help="Only this flow: its id, or NAMESPACE/FLOW.")
@click.option(
    "-o",
    "--output",
    "format",
    type=click.Choice(["line", "jsonl"]),
    default="line",
    show_default=True,
    help="How to print.",
)
@server_options
def tail(namespace: str | None, flow: str | None, format: str, server: str | None, data: Path | None) -> None:
    """Print events as they come, until Ctrl-C."""

    async def work(client: HubClient) -> None:
        seen: list[str] = []
        first = True
        while True:
            page = await client.get("/events", _query(namespace, flow, 10 if first else 200))
            fresh = [item for item in page["items"] if item["id"] not in seen]
            for item in reversed(fresh):
                _say(item, format)
            seen = [item["id"] for item in page["items"]] + seen[:1000]
            first = False
            await asyncio.sleep(_LOOK_EVERY)

    with_hub(server, data, work)


def _say(item: Mapping[str, Any], format: str) -> None:
    if format == "jsonl":
        click.echo(json.dumps(item, ensure_ascii=False))
    else:
        click.echo(f"{item['receivedAt']}  {item['source']}  {_outcome(item)}  {item['id']}")


def _query(namespace: str | None, flow: str | None, limit: int) -> list[tuple[str, str]]:
    if flow and "/" in flow:
        namespace, _, flow = flow.partition("/")
    given = {"namespace": namespace, "flow": flow, "limit": str(limit)}
    return [(name, value) for name, value in given.items() if value]


def _outcome(item: Mapping[str, Any]) -> str:
    verdicts = item.get("verdicts") or []
    reasons = [f"{one['outcome']}: {one['reason']}" for one in verdicts if one.get("reason")]
    return "; ".join(reasons) or "started"
