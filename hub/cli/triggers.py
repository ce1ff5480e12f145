"""``hub triggers``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.given import read_json
from hub.cli.output import output_option, show
from hub.cli.places import flow_query, hub_options, server_options, with_hub
from hub.model.ids import is_id, is_namespace

if TYPE_CHECKING:
    from hub.client import HubClient


def _parts(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, str, str]:
    parts = value.split("/")
    if len(parts) != 3 or not is_namespace(parts[0]) or not all(map(is_id, parts[1:])):
        raise click.BadParameter(f'expected NAMESPACE/FLOW/TRIGGER, got "{value}"')
    return parts[0], parts[1], parts[2]


@click.group()
def triggers() -> None:
    """List and test triggers."""


@triggers.command("list")
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", help="Only this flow: its id, or NAMESPACE/FLOW.")
@output_option
@server_options
def list_(
    namespace: str | None, flow: str | None, format: str, server: str | None, data: Path | None
) -> None:
    """List triggers, their URLs and next times.

    Each webhook has its URL and a line that calls it, each schedule its next planned times.
    """
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
            "where or when": lambda item: item.get("url") or item.get("nextTimes") or _how(item),
        },
        format=format,
        name=_name,
        empty="no triggers: a flow has them under triggers:, and hub blueprints list has ready flows",
    )
    if format == "table":
        for item in items:
            if item.get("curl"):
                click.echo(f"\n# {_name(item)}\n{item['curl']}")


@triggers.command()
@click.argument("trigger", metavar="NAMESPACE/FLOW/TRIGGER", callback=_parts)
@click.option("--data", "data_text", metavar="JSON|@FILE", help="What it brings.  [default: a sample]")
@click.option(
    "-o",
    "--output",
    "format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json prints the request, the answer and the events.",
)
@hub_options
def test(
    trigger: tuple[str, str, str],
    data_text: str | None,
    format: str,
    server: str | None,
    data_folder: Path | None,
) -> None:
    """Let a trigger happen once: what it starts is real.

    A webhook gets a request with --data as its body, signed as its sender would sign it; any other trigger
    brings --data, what expressions see as `trigger`. Exit code 1 when the webhook refuses.
    """
    body = {"data": read_json(data_text)} if data_text is not None else {}

    async def work(client: HubClient) -> Any:
        return await client.post(f"/triggers/{'/'.join(trigger)}/test", body)

    done = with_hub(server, data_folder, work)
    if format == "json":
        click.echo(json.dumps(done, indent=2, ensure_ascii=False))
    else:
        _say(done)
    if done["status"] is not None and done["status"] >= 400:
        raise click.exceptions.Exit(1)


def _say(done: Mapping[str, Any]) -> None:
    if done["status"] is not None:
        answer = json.dumps(done["answer"], ensure_ascii=False)
        click.echo(f"{done['sent']['method']} answered {done['status']} {answer}")
    for event in done["events"]:
        what = f"started {', '.join(event['executionIds'])}" if event["executionIds"] else "started nothing"
        reason = f": {event['reason']}" if event["reason"] else ""
        again = " (a delivery that is known)" if event["duplicate"] else ""
        click.echo(f"event {event['eventId']} {what}{again}{reason}")


def _how(item: Mapping[str, Any]) -> str | None:
    """What is wrong with it, or how far it has read."""
    error, source = item.get("error"), item.get("source")
    if error or source is None:
        return error
    parts = len(source["assignment"])
    lag = "lag unknown" if source["lag"] is None else f"lag {source['lag']}"
    dead = f", {source['dead']} dead" if source["dead"] else ""
    return f"{parts} partition{'s' if parts != 1 else ''}, {lag}, {source['taken']} taken{dead}"


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['namespace']}/{item['flow']}/{item['id']}"
