"""``hub events``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import output_option, show
from hub.cli.places import flow_query, server_options, with_hub

if TYPE_CHECKING:
    from hub.client import HubClient

_LOOK_EVERY = 0.5
_FIRST_LOOK = 10
_PAGE = 200


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
        printed: frozenset[str] | None = None
        while True:
            fresh, printed = await _news(client, namespace, flow, printed)
            for item in reversed(fresh):
                _say(item, format)
            await asyncio.sleep(_LOOK_EVERY)

    with_hub(server, data, work)


async def _news(
    client: HubClient, namespace: str | None, flow: str | None, printed: frozenset[str] | None
) -> tuple[list[Any], frozenset[str]]:
    """The events newer than those of the last look, newest first, and what the next look starts from.

    Read page by page until one is met that was printed, so that no burst is too large.
    """
    query = _query(namespace, flow, _FIRST_LOOK if printed is None else _PAGE)
    page = await client.get("/events", query)
    newest = frozenset(item["id"] for item in page["items"])
    fresh: list[Any] = []
    while True:
        for item in page["items"]:
            if printed is not None and item["id"] in printed:
                return fresh, newest
            fresh.append(item)
        if printed is None or page["nextCursor"] is None:
            return fresh, newest
        page = await client.get("/events", [*query, ("cursor", page["nextCursor"])])


def _say(item: Mapping[str, Any], format: str) -> None:
    if format == "jsonl":
        click.echo(json.dumps(item, ensure_ascii=False))
    else:
        click.echo(
            f"{item['receivedAt']}  {item['source']}  {item['type']}  {item['id']}\n    {_outcome(item)}"
        )


def _query(namespace: str | None, flow: str | None, limit: int) -> list[tuple[str, str]]:
    return [*flow_query(namespace, flow), ("limit", str(limit))]


def _outcome(item: Mapping[str, Any]) -> str:
    """What an event started, and why other triggers did not."""
    said = [_verdict(one) for one in item["verdicts"]]
    if item.get("dead"):
        said.append(f"dead letter: {item['dead']}")
    return "; ".join(said) or "nothing wanted it"


def _verdict(one: Mapping[str, Any]) -> str:
    flow = f"{one['namespace']}/{one['flow']}"
    if one["outcome"] == "started":
        return f"started {flow} {one['executionId']} {one['state']}"
    return f"{one['outcome']} by {flow}/{one['trigger']}: {one['reason']}"
