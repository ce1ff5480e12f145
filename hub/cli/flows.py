"""``hub flows``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.deploy import diff, pull, push
from hub.cli.output import output_option, show, show_one
from hub.cli.places import server_options, with_hub
from hub.model.ids import FlowKey, is_id, is_namespace

if TYPE_CHECKING:
    from hub.client import HubClient


def _flow_key(ctx: click.Context, param: click.Parameter, value: str) -> FlowKey:
    """``NAMESPACE/FLOW`` as the two it is made of."""
    namespace, slash, id = value.partition("/")
    if not slash or not is_namespace(namespace) or not is_id(id):
        raise click.BadParameter(f'expected NAMESPACE/FLOW, got "{value}"')
    return FlowKey(namespace, id)


flow_argument = click.argument("flow", metavar="NAMESPACE/FLOW", callback=_flow_key)


@click.group()
def flows() -> None:
    """List, get, push, pull, compare and delete the flows of a hub."""


flows.add_command(push)
flows.add_command(pull)
flows.add_command(diff)


@flows.command("list")
@click.option("--namespace", help="Only this namespace.")
@output_option
@server_options
def list_(namespace: str | None, format: str, server: str | None, data: Path | None) -> None:
    """List the flows in use.

    Files that cannot be used are listed after them, with what is wrong.
    """

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
        empty="no flows"
        if namespace
        else "no flows: put a *.hub.yaml file into a flow folder; hub blueprints list has ready ones",
    )
    for broken in found["broken"]:
        for problem in broken["problems"]:
            if problem["severity"] == "error":
                where = f"{broken['file']}:{problem['line']}:{problem['column']}"
                hint = f" ({problem['hint']})" if problem["hint"] else ""
                click.echo(f"{where}  {problem['message']}{hint}", err=True)


@flows.command()
@flow_argument
@click.option("--revision", type=click.IntRange(1), help="This revision instead of the newest.")
@click.option(
    "-o",
    "--output",
    "format",
    type=click.Choice(["source", "json"]),
    default="source",
    show_default=True,
    help="source is the YAML byte for byte; json holds it with its revision.",
)
@server_options
def get(flow: FlowKey, revision: int | None, format: str, server: str | None, data: Path | None) -> None:
    """Print a flow's source as it was put, byte for byte."""
    if format == "json":
        view = with_hub(server, data, lambda client: client.flow(flow, revision))
        show_one(view, format="json", name=str(flow))
        return
    source = with_hub(server, data, lambda client: client.flow_source(flow, revision))
    sys.stdout.buffer.write(source)


@flows.command()
@flow_argument
@output_option
@server_options
def revisions(flow: FlowKey, format: str, server: str | None, data: Path | None) -> None:
    """List a flow's revisions, newest first."""

    async def work(client: HubClient) -> Any:
        return await client.get(f"/flows/{flow.namespace}/{flow.id}/revisions")

    show(
        with_hub(server, data, work)["items"],
        {"revision": lambda item: item["revision"], "created": lambda item: item["createdAt"]},
        format=format,
        name=lambda item: str(item["revision"]),
        empty="no revisions",
    )


@flows.command()
@flow_argument
@server_options
def delete(flow: FlowKey, server: str | None, data: Path | None) -> None:
    """Take a flow out of use; its revisions and executions are kept."""
    with_hub(server, data, lambda client: client.delete_flow(flow))
    click.echo(f"deleted {flow}")
