"""``hub events``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.event_page import event_page, outcome_of
from hub.cli.given import read_json
from hub.cli.output import output_option, show, show_one
from hub.cli.places import flow_query, hub_client, hub_options, server_options, with_hub

if TYPE_CHECKING:
    from hub.client import HubClient


_COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "id": lambda item: item["id"],
    "received": lambda item: item["receivedAt"],
    "source": lambda item: item["source"],
    "type": lambda item: item["type"],
    "outcome": lambda item: outcome_of(item),
}


@click.group()
def events() -> None:
    """List, follow, show, send and replay events; look after dead letters."""


@events.command("list")
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", help="Only this flow: its id, or NAMESPACE/FLOW.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@output_option
@server_options
def list_(
    namespace: str | None, flow: str | None, limit: int, format: str, server: str | None, data: Path | None
) -> None:
    """List events, newest first.

    With what each started, or why it started nothing.
    """
    _list(
        _query(namespace, flow, limit),
        format,
        server,
        data,
        empty="no events: hub triggers list shows what brings them",
    )


def _list(
    query: list[tuple[str, str]], format: str, server: str | None, data: Path | None, *, empty: str
) -> None:
    async def work(client: HubClient) -> Any:
        return await client.get("/events", query)

    found = with_hub(server, data, work)["items"]
    show(found, _COLUMNS, format=format, name=lambda item: str(item["id"]), empty=empty)


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
    """Print events of all sources as they come, until Ctrl-C.

    Each with what it started or why nothing. It begins with the newest ten and goes on when the hub is started again, with nothing left out.
    """
    from hub.cli.tailing import Tail

    following = Tail(
        flow_query(namespace, flow), lambda item: _say(item, format), lambda text: click.echo(text, err=True)
    )
    # a hub that was started again may be at another address
    asyncio.run(following.follow(lambda: hub_client(server, data)))


def _say(item: Mapping[str, Any], format: str) -> None:
    if format == "jsonl":
        click.echo(json.dumps(item, ensure_ascii=False))
    else:
        again = f"  replay of {item['replayOf']}" if item.get("replayOf") else ""
        head = f"{item['receivedAt']}  {item['source']}  {item['type']}  {item['id']}{again}"
        click.echo(f"{head}\n    {outcome_of(item)}")


@events.command("show")
@click.argument("event", metavar="ID")
@output_option
@server_options
def show_(event: str, format: str, server: str | None, data: Path | None) -> None:
    """Show one event.

    Its attributes, its data, and what each trigger that might have wanted it did.
    """
    _show(event, format, server, data)


@events.command()
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@output_option
@server_options
def replay(names: tuple[str, ...], format: str, server: str | None, data: Path | None) -> None:
    """Let events happen once more.

    For the flows as they are now; a dead letter is settled by it.
    """
    _replay(names, format, server, data)


@events.command()
@click.argument("type", metavar="TYPE")
@click.option("--data", "data_text", metavar="JSON|@FILE", help="Its data.  [default: none]")
@click.option(
    "--source", default="/hub/cli", show_default=True, help="Where it comes from, a URI or the path of one."
)
@click.option("--subject", help="What it is about.")
@click.option("--id", "id", help="Its id; one that its source has used already starts nothing.")
@click.option("--time", "time", metavar="MOMENT", help="When it happened, as 2026-01-31T12:00:00Z.")
@output_option
@hub_options
def emit(
    type: str,
    data_text: str | None,
    source: str,
    subject: str | None,
    id: str | None,
    time: str | None,
    format: str,
    server: str | None,
    data_folder: Path | None,
) -> None:
    """Send an event of TYPE.

    Flows with an `event.matched` trigger for it start.
    """
    import uuid

    event = {"specversion": "1.0", "type": type, "source": source, "id": id or str(uuid.uuid4())}
    event |= {name: text for name, text in (("subject", subject), ("time", time)) if text is not None}
    found: dict[str, Any] = {**event, **({"data": read_json(data_text)} if data_text is not None else {})}

    async def work(client: HubClient) -> Any:
        return await client.emit(found)

    _receipts([with_hub(server, data_folder, work)], format)


@events.group()
def dead() -> None:
    """List, show, replay and drop dead letters.

    Those are the events that somebody has to look at.
    """


@dead.command("list")
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", help="Only this flow: its id, or NAMESPACE/FLOW.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@output_option
@server_options
def dead_list(
    namespace: str | None, flow: str | None, limit: int, format: str, server: str | None, data: Path | None
) -> None:
    """List dead letters, newest first, with the reason."""
    query = [*_query(namespace, flow, limit), ("dead", "true")]
    _list(query, format, server, data, empty="no dead letters: every event could be used")


@dead.command("show")
@click.argument("event", metavar="ID")
@output_option
@server_options
def dead_show(event: str, format: str, server: str | None, data: Path | None) -> None:
    """Show one, as `hub events show` does."""
    _show(event, format, server, data)


@dead.command("replay")
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--with",
    "repaired",
    metavar="JSON|@FILE",
    help='What stands in place of its data under the same names: \'{"value": {"id": 7}}\'.',
)
@output_option
@server_options
def dead_replay(
    names: tuple[str, ...], repaired: str | None, format: str, server: str | None, data: Path | None
) -> None:
    """Let them happen once more.

    For the flows as they are now, what could not be read is read again; they are dead letters no more.
    """
    _replay(names, format, server, data, given=read_json(repaired, "--with"))


@dead.command("drop")
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@server_options
def dead_drop(names: tuple[str, ...], server: str | None, data: Path | None) -> None:
    """Drop them: nobody needs to look any more; the events stay stored."""
    from hub.cli.several import each

    async def work(client: HubClient) -> tuple[list[str], int]:
        async def drop(name: str) -> str:
            await client.delete(f"/events/{name}/dead")
            return name

        return await each(names, drop)

    done, code = with_hub(server, data, work)
    for name in done:
        click.echo(f"dropped {name}")
    if code:
        raise click.exceptions.Exit(code)


def _show(event: str, format: str, server: str | None, data: Path | None) -> None:
    async def work(client: HubClient) -> Any:
        return await client.get(f"/events/{event}")

    found = with_hub(server, data, work)
    if format == "table":
        click.echo(event_page(found))
    else:
        show_one(found, format=format, name=found["id"])


def _replay(
    names: tuple[str, ...], format: str, server: str | None, data: Path | None, given: Any = None
) -> None:
    from hub.cli.several import each

    body = {"data": given} if given is not None else {}

    async def work(client: HubClient) -> tuple[list[Any], int]:
        async def one(name: str) -> Any:
            return {**await client.post(f"/events/{name}/replay", body), "replayOf": name}

        return await each(names, one)

    done, code = with_hub(server, data, work)
    _receipts(done, format)
    if code:
        raise click.exceptions.Exit(code)


def _receipts(items: Sequence[Mapping[str, Any]], format: str) -> None:
    show(
        items,
        {
            "event": lambda item: item["eventId"],
            "executions": lambda item: item["executionIds"],
            "outcome": lambda item: "duplicate" if item["duplicate"] else item["reason"] or "started",
        },
        format=format,
        name=lambda item: str(item["eventId"]),
        empty="nothing was sent",
    )


def _query(namespace: str | None, flow: str | None, limit: int) -> list[tuple[str, str]]:
    return [*flow_query(namespace, flow), ("limit", str(limit))]
