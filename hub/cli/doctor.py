"""``hub doctor``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from hub.cli.findings import FAIL, WARN, Finding, fail
from hub.cli.output import output_option, show
from hub.cli.places import hub_token, server_options

if TYPE_CHECKING:
    from hub.app import Place
    from hub.registry import Registry

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from importlib.metadata import entry_points

    names = sorted({point.name for point in entry_points(group="hub.plugins")})
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command()
@click.argument("plugin", required=False, shell_complete=_complete)
@output_option
@server_options
def doctor(plugin: str | None, format: str, server: str | None, data: Path | None) -> None:
    """Examine this machine and the current folder: what works, what does not, and what to do about it.

    With PLUGIN only that plugin: how it was loaded, its settings, and the flows that use it. Nothing is changed.
    Exit code 1 when something fails; a warning is no failure.
    """
    findings = list(_findings(plugin, server, data))
    if format == "table":
        _print(findings)
    else:
        show(
            [asdict(one) for one in findings],
            {},
            format=format,
            name=lambda item: str(item["check"]),
            empty="nothing was examined",
        )
    failed = sum(one.state == FAIL for one in findings)
    warned = sum(one.state == WARN for one in findings)
    click.echo(
        f"{len(findings)} looked at, {_count(failed, 'failure')}, {_count(warned, 'warning')}", err=True
    )
    if failed:
        raise click.exceptions.Exit(1)


def _findings(plugin: str | None, server: str | None, data: Path | None) -> Iterator[Finding]:
    from hub.app import Place
    from hub.cli.doctor_machine import examine_machine
    from hub.config.settings import load_settings
    from hub.errors import InvalidSettings
    from hub.registry import load_plugins

    if plugin is None:
        yield from examine_machine()
    folder = Path.cwd()
    try:
        settings = load_settings(os.environ, folder=folder).settings
    except InvalidSettings as error:
        yield fail("settings", error.message, error.hint or "the rest is looked at when they are right")
        return
    registry = load_plugins(settings.plugins)
    place = Place(settings, folder, (data or folder).resolve(), os.environ)
    if plugin is not None:
        yield from _of_plugin(plugin, place, registry)
    else:
        yield from _of_place(place, registry, server)


def _of_plugin(name: str, place: Place, registry: Registry) -> Iterator[Finding]:
    from hub.cli.doctor_place import examine_plugin, examine_with_plugin, read_flows
    from hub.errors import NotFound, did_you_mean

    reports = {report.name: report for report in registry.plugins}
    if name not in reports:
        raise NotFound(
            f'no plugin "{name}" is installed',
            hint=did_you_mean(name, list(reports)) or "hub plugins list shows what is",
        )
    flows = read_flows(place, registry)
    yield from examine_plugin(reports[name], registry, place.settings.plugins.get(name), flows)
    yield from examine_with_plugin(name, place, registry)


def _of_place(place: Place, registry: Registry, server: str | None) -> Iterator[Finding]:
    from hub.cli import doctor_place as examine
    from hub.cli.doctor_machine import examine_notification

    yield from examine.examine_data(place)
    yield examine.examine_storage(place, registry)
    address = examine.running_hub(place.data_dir)
    yield examine.examine_port(place, address)
    yield from examine.examine_access(place)
    yield examine.examine_server(server, address, hub_token())
    yield from examine.examine_plugins(registry)
    flows = examine.read_flows(place, registry)
    yield from examine.examine_flows(place, flows)
    yield from examine.examine_secrets(place, registry, flows)
    yield examine_notification([folder for folder in place.flow_folders if folder.is_dir()])


def _print(findings: list[Finding]) -> None:
    width = max(len(one.check) for one in findings)
    for one in findings:
        state = click.style(one.state.ljust(4), fg=_COLOURS[one.state])
        click.echo(f"{state}  {one.check.ljust(width)}  {one.found}")
        if one.hint:
            click.echo(f"      {' ' * width}  → {one.hint}")


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"
