"""``hub executions``."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.given import pairs, read_inputs
from hub.cli.output import output_option, show, show_one
from hub.cli.places import flow_query, newest_execution, server_options, with_hub

if TYPE_CHECKING:
    from hub.client import HubClient

_MOST_COUNTED = 100_000
_BATCH = 1000


@click.group()
def executions() -> None:
    """List, get, follow, kill, restart, replay and purge executions; `last` names the newest."""


@executions.command("list")
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", help="Only this flow: its id, or NAMESPACE/FLOW.")
@click.option("--state", "states", multiple=True, help="Only this state; repeatable.")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only with this label; repeatable."
)
@click.option("--since", help="Created at or after this moment, ISO 8601.")
@click.option("--until", help="Created before this moment, ISO 8601.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@output_option
@server_options
def list_(
    namespace: str | None,
    flow: str | None,
    states: tuple[str, ...],
    labels: tuple[str, ...],
    since: str | None,
    until: str | None,
    limit: int,
    format: str,
    server: str | None,
    data: Path | None,
) -> None:
    """List executions, newest first."""
    given = {"since": since, "until": until, "limit": str(limit)}
    query = flow_query(namespace, flow) + [(name, value) for name, value in given.items() if value]
    query += [("state", state) for state in states] + [("label", label) for label in labels]

    async def work(client: HubClient) -> Any:
        return await client.get("/executions", query)

    show(
        with_hub(server, data, work)["items"],
        {
            "id": lambda item: item["id"],
            "flow": lambda item: f"{item['namespace']}/{item['flow']}",
            "state": lambda item: item["state"],
            "created": lambda item: item["createdAt"],
            "error": lambda item: _short(item.get("error")),
        },
        format=format,
        name=lambda item: str(item["id"]),
        empty="no executions"
        if any((namespace, flow, states, labels, since, until))
        else "no executions yet: hub triggers list shows what starts them, hub run starts one by hand",
    )


@executions.command()
@click.argument("execution", metavar="ID|last")
@output_option
@server_options
def get(execution: str, format: str, server: str | None, data: Path | None) -> None:
    """Get one execution with its task runs."""

    async def work(client: HubClient) -> Any:
        return await client.get(f"/executions/{await newest_execution(client, execution)}")

    found = with_hub(server, data, work)
    show_one(found, format=format, name=found["id"])


@executions.command()
@click.argument("execution", metavar="ID|last")
@click.option("-f", "--follow", is_flag=True, help="Go on until the execution ends.")
@server_options
def logs(execution: str, follow: bool, server: str | None, data: Path | None) -> None:
    """Print an execution's log."""
    from hub.cli.steps import log_line

    async def work(client: HubClient) -> None:
        id = await newest_execution(client, execution)
        if follow:
            async for line in client.lines(f"/executions/{id}/logs", [("follow", "true")]):
                click.echo(log_line(line))
            return
        after: int | None = 0
        while after is not None:
            page = await client.get(f"/executions/{id}/logs", [("after", str(after))])
            for line in page["items"]:
                click.echo(log_line(line))
            after = page.get("nextAfter")

    with_hub(server, data, work)


@executions.command()
@click.argument("execution", metavar="ID|last")
@server_options
def kill(execution: str, server: str | None, data: Path | None) -> None:
    """Kill an execution, its processes included."""

    async def work(client: HubClient) -> Any:
        return await client.post(f"/executions/{await newest_execution(client, execution)}/kill")

    found: Mapping[str, Any] = with_hub(server, data, work)
    click.echo(f"{found['id']} {found['state']}")


@executions.command()
@click.argument("names", metavar="ID|last...", nargs=-1, required=True)
@click.option("-f", "--follow", is_flag=True, help="Follow each to its end.")
@output_option
@server_options
def restart(names: tuple[str, ...], follow: bool, format: str, server: str | None, data: Path | None) -> None:
    """Go on with failed, killed or cancelled executions.

    What has completed is not run again. Id, inputs and revision stay. With --follow, exit code 1 when one of
    them fails.
    """

    async def one(client: HubClient, name: str) -> Any:
        return await client.post(f"/executions/{await newest_execution(client, name)}/restart")

    _do(names, one, follow, format, server, data, empty="nothing was restarted")


@executions.command()
@click.argument("names", metavar="ID|last...", nargs=-1, required=True)
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="KEY=VALUE|KEY=@FILE",
    help="An input in place of the original's. Repeatable.",
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label more; repeatable.")
@click.option("--revision", type=click.IntRange(min=1), help="Another revision of the flow.")
@click.option("--from", "from_task", metavar="TASK", help="Take over what completed before this task.")
@click.option("-f", "--follow", is_flag=True, help="Follow each to its end.")
@output_option
@server_options
def replay(
    names: tuple[str, ...],
    inputs: tuple[str, ...],
    labels: tuple[str, ...],
    revision: int | None,
    from_task: str | None,
    follow: bool,
    format: str,
    server: str | None,
    data: Path | None,
) -> None:
    """Start executions anew, as new ones.

    They start as the others were started, and say whose replay they are. With --follow, exit code 1 when one
    of them fails.
    """
    body: dict[str, Any] = {"inputs": read_inputs(inputs), "labels": pairs(labels, "--label")}
    body |= {"revision": revision, "fromTask": from_task}

    async def one(client: HubClient, name: str) -> Any:
        id = await newest_execution(client, name)
        started = await client.post(f"/executions/{id}/replay", body)
        if started["gone"]:
            click.echo(
                f"{started['id']}: not in its revision any more: {', '.join(started['gone'])}", err=True
            )
        return started

    _do(names, one, follow, format, server, data, empty="nothing was replayed")


def _do(
    names: tuple[str, ...],
    one: Callable[[HubClient, str], Awaitable[Any]],
    follow: bool,
    format: str,
    server: str | None,
    data: Path | None,
    *,
    empty: str,
) -> None:
    """Start several again, follow them where asked for, show them, and end with what became of them."""
    from hub.cli.several import each
    from hub.cli.steps import StepPrinter

    async def work(client: HubClient) -> tuple[list[Any], int]:
        done, code = await each(names, lambda name: one(client, name))
        for place, execution in enumerate(done if follow else ()):
            printer = StepPrinter(to_stderr=format != "table")
            async for step in client.lines(f"/executions/{execution['id']}/stream"):
                printer.show(step)
            done[place] = await client.get(f"/executions/{execution['id']}")
            if done[place]["state"] not in ("SUCCESS", "WARNING"):
                code = code or 1
        return done, code

    done, code = with_hub(server, data, work)
    show(
        done,
        {
            "id": lambda item: item["id"],
            "flow": lambda item: f"{item['namespace']}/{item['flow']}",
            "state": lambda item: item["state"],
            "replay of": lambda item: item["replayOf"],
            "restarts": lambda item: item["restarts"] or None,
        },
        format=format,
        name=lambda item: str(item["id"]),
        empty=empty,
    )
    if code:
        raise click.exceptions.Exit(code)


@executions.command()
@click.option("--older-than", metavar="DURATION", help="Ended longer ago than this: 30d, 12h, P30D.")
@click.option("--before", metavar="MOMENT", help="Ended before this moment, ISO 8601.")
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", help="Only this flow: its id, or NAMESPACE/FLOW.")
@click.option("--state", "states", multiple=True, help="Only those that ended in this state; repeatable.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Remove without asking; asked is on a terminal only.")
@server_options
def purge(
    older_than: str | None,
    before: str | None,
    namespace: str | None,
    flow: str | None,
    states: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    server: str | None,
    data: Path | None,
) -> None:
    """Remove ended executions with their task runs, logs and files.

    One of --older-than and --before is needed. What runs or is waited for stays.
    """
    if (older_than is None) == (before is None):
        raise click.UsageError("give one of --older-than and --before")
    body: dict[str, Any] = dict(flow_query(namespace, flow))
    body |= {"states": list(states)}
    body |= {"olderThan": older_than} if older_than is not None else {"before": before}

    async def count(client: HubClient) -> Any:
        return await client.post("/executions/purge", {**body, "dryRun": True, "limit": _MOST_COUNTED})

    found = with_hub(server, data, count)
    plural = "" if found["executions"] == 1 else "s"
    counted = f"{'more than ' if found['more'] else ''}{found['executions']} execution{plural}"
    if dry_run:
        click.echo(f"{counted} would be removed", err=True)
        click.echo(found["executions"])
        return
    is_asked = bool(found["executions"]) and not yes and sys.stdin.isatty() and sys.stderr.isatty()
    if is_asked and not click.confirm(f"Remove {counted}?", err=True):
        click.echo("nothing was removed", err=True)
        raise click.exceptions.Exit(1)
    click.echo(with_hub(server, data, lambda client: _purged(client, body)))


async def _purged(client: HubClient, body: Mapping[str, Any]) -> int:
    """Remove batch after batch; answers how many."""
    removed = 0
    while True:
        found = await client.post("/executions/purge", {**body, "limit": _BATCH})
        removed += int(found["executions"])
        if sys.stderr.isatty():
            click.echo(f"\r{removed} removed", nl=not found["more"], err=True)
        if not found["more"]:
            return removed


def _short(text: str | None) -> str:
    first = (text or "").split("\n", 1)[0]
    return first if len(first) <= 80 else first[:79] + "…"
