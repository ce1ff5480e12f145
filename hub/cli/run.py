"""``hub run``: a flow from a file in this very process, or one that a hub knows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hub.cli.given import pairs, read_inputs, read_json
from hub.cli.looping import run_loop
from hub.cli.places import with_hub
from hub.cli.steps import StepPrinter
from hub.errors import InvalidFlow, InvalidInput, NotFound, Unreachable
from hub.model.ids import FlowKey, is_id, is_namespace

if TYPE_CHECKING:
    from hub.client import HubClient
    from hub.engine.follow import Step
    from hub.engine.services import Services

T = TypeVar("T")


@click.command()
@click.argument("flow", metavar="FILE|NAMESPACE/FLOW")
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="KEY=VALUE|KEY=@FILE",
    help="An input, or a file that holds it; @@ stands for one @. Repeatable.",
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label; repeatable.")
@click.option("--trigger", metavar="ID", help="Start it as if this trigger had fired.")
@click.option("--data", "data_text", metavar="JSON|@FILE", help="What expressions then see as trigger.")
@click.option("--detach", is_flag=True, help="Only start it, and print its id; with -o json the execution.")
@click.option(
    "-o",
    "--output",
    "format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json prints the execution; states and logs then go to stderr.",
)
@click.option(
    "--flows",
    "task_folders",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder whose tasks.py is loaded, for a FILE that uses its local tasks; repeatable.",
)
@click.option("--server", envvar="HUB_SERVER", help="The hub's URL, for NAMESPACE/FLOW.")
@click.option(
    "--data-folder",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="HUB_DATA",
    help="The data folder of the hub, for NAMESPACE/FLOW; by default the current one.",
)
def run(
    flow: str,
    inputs: tuple[str, ...],
    labels: tuple[str, ...],
    trigger: str | None,
    data_text: str | None,
    detach: bool,
    format: str,
    task_folders: tuple[Path, ...],
    server: str | None,
    data_folder: Path | None,
) -> None:
    """Run a flow and follow it to its end.

    A FILE runs here, without a server; NAMESPACE/FLOW runs on the hub that knows it. Exit code 0 for SUCCESS
    and WARNING, 1 for FAILED and KILLED.
    """
    given = read_inputs(inputs)
    more = pairs(labels, "--label")
    data = read_json(data_text)
    printer = StepPrinter(to_stderr=format == "json")
    path = Path(flow)
    if path.is_file() or flow.endswith((".yaml", ".yml")):
        if detach:
            raise click.UsageError("--detach needs a hub: a FILE runs in this process")
        ended = _until_signalled(_run_file(path, given, more, trigger, data, printer, task_folders))
    else:
        key = _key(flow)
        try:
            ended = with_hub(
                server,
                data_folder,
                lambda client: _run_on_hub(client, key, given, more, trigger, data, detach, printer),
            )
        except _GoneMeanwhile:
            raise
        except Unreachable as error:
            raise Unreachable(f"there is no file {flow}, and {error.message}", hint=error.hint) from error
    if format == "json":
        click.echo(json.dumps(ended, indent=2, ensure_ascii=False))
    elif detach:
        click.echo(ended["id"])
    if not detach and ended["state"] not in ("SUCCESS", "WARNING"):
        raise click.exceptions.Exit(1)


class _GoneMeanwhile(Unreachable):
    """The hub has gone while an execution was followed."""


def _key(flow: str) -> FlowKey:
    """A flow's name. Raises ``NotFound`` for what can be none."""
    namespace, _, id = flow.partition("/")
    if not is_namespace(namespace) or not is_id(id):
        raise NotFound(
            f"there is no file {flow}, and it is not the name of a flow either",
            hint="give the path of a file, or NAMESPACE/FLOW for a flow that a hub knows",
        )
    return FlowKey(namespace, id)


def _until_signalled(work: Coroutine[Any, Any, T]) -> T:
    """Run it; a SIGTERM or a terminal that closes ends it as Ctrl-C does, with all that it started."""

    async def run() -> T:
        job = asyncio.current_task()
        assert job is not None
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, job.cancel)
        return await work

    try:
        return run_loop(run(), fastest=False)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _run_file(
    path: Path,
    inputs: Mapping[str, Any],
    labels: Mapping[str, str],
    trigger: str | None,
    data: Any,
    printer: StepPrinter,
    task_folders: Sequence[Path],
) -> dict[str, Any]:
    from hub.api.answers import masked_data
    from hub.api.executions import step_view, view_of
    from hub.app import Place, open_node
    from hub.cli.logs import configure_logs
    from hub.config.settings import load_settings
    from hub.engine.follow import follow

    configure_logs("WARNING")
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    settings = load_settings(os.environ, folder=Path.cwd()).settings
    with tempfile.TemporaryDirectory(prefix="hub-run-") as folder:
        place = Place(settings.of_one_run(), Path.cwd(), Path(folder), os.environ)
        async with open_node(place, task_folders=task_folders) as node, node.running(with_triggers=False):
            try:
                record, loaded, *_ = await node.catalog.put(source, file=str(path))
            except InvalidFlow as error:
                _say_problems(error, source)
                raise click.exceptions.Exit(3) from None
            for warning in loaded.warnings:
                click.echo(warning.text(), err=True)
            node.drain_grace = 0.0
            started = await node.intake.start(
                record.key, inputs=inputs, labels=labels, trigger=trigger, data=data
            )
            try:
                async for step in follow(node.services, started.id):
                    name, shown = await step_view(node.services, step)
                    printer.show({name: masked_data(shown, node.services.vault)})
            except asyncio.CancelledError:
                # Ctrl-C: what runs is killed, process trees and all, before this process goes
                await node.kill(started.id, "interrupted")
                last = await asyncio.shield(_last_step(node.services, started.id))
                name, shown = await step_view(node.services, last)
                printer.show({name: masked_data(shown, node.services.vault)})
                raise KeyboardInterrupt from None
            ended = await node.services.storage.execution(started.id)
            await node.notifications.drain(node.notices_grace)
            await _say_unsent(node.services)
            return masked_data(await view_of(node.services, ended), node.services.vault)


async def _say_unsent(services: Services) -> None:
    """Tell of the notices that go with this run's memory."""
    from hub.plugin.notices import NoticeFilter, NoticeState
    from hub.plugin.storage import Page

    unsent = NoticeFilter(states=(NoticeState.OWED, NoticeState.DEAD))
    for notice in (await services.storage.notices(unsent, Page(20))).items:
        reason = notice.error or "there was no time to send it"
        click.echo(f"not told {notice.notifier}: {reason}", err=True)


async def _last_step(services: Services, execution_id: str) -> Step:
    """Wait for the end."""
    from hub.engine.follow import Step, follow

    last = Step()
    async for step in follow(services, execution_id, with_task_runs=False):
        last = step
    return last


def _say_problems(error: InvalidFlow, source: str) -> None:
    from hub.config.text import render_problem

    for problem in error.problems:
        click.echo(render_problem(problem, source), err=True)


async def _run_on_hub(
    client: HubClient,
    flow: FlowKey,
    inputs: Mapping[str, Any],
    labels: Mapping[str, str],
    trigger: str | None,
    data: Any,
    detach: bool,
    printer: StepPrinter,
) -> dict[str, Any]:
    body: dict[str, Any] = {"inputs": inputs, "labels": labels}
    if trigger is not None:
        body["trigger"] = trigger
    if data is not None:
        body["data"] = data
    started: dict[str, Any] = await client.post(f"/flows/{flow.namespace}/{flow.id}/executions", body)
    if detach:
        return started
    try:
        async for step in client.lines(f"/executions/{started['id']}/stream"):
            printer.show(step)
        ended: dict[str, Any] = await client.get(f"/executions/{started['id']}")
    except asyncio.CancelledError:
        click.echo(f"it goes on: hub executions logs {started['id']} -f", err=True)
        raise KeyboardInterrupt from None
    except Unreachable as error:
        raise _GoneMeanwhile(
            f"the hub has gone while the execution {started['id']} ran: {error.message}",
            hint=f"it goes on when the hub is started again: hub executions logs {started['id']} -f",
        ) from error
    return ended
