"""``hub plugins``."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.output import output_option, show
from hub.cli.places import server_options, with_hub
from hub.cli.plugin_check import check
from hub.cli.plugin_docs import docs
from hub.cli.plugin_packages import install, uninstall

if TYPE_CHECKING:
    from hub.client import HubClient


@click.group()
def plugins() -> None:
    """List plugins, begin a new one, check, install and uninstall them."""


plugins.add_command(check)
plugins.add_command(docs)
plugins.add_command(install)
plugins.add_command(uninstall)


@plugins.command("new")
@click.argument("name")
@click.option(
    "--with",
    "parts",
    metavar="PART,…",
    help="What it begins with: function, notifier, secret-source, storage, task, trigger.  [default: function,task,trigger]",
)
def new(name: str, parts: str | None) -> None:
    """Begin a plugin: a project with tests that pass.

    It gets a folder of its own. NAME is the plugin's, as in the types of its components: matrix gives asynchub-matrix and matrix.send.
    """
    from hub.registry import load_plugins
    from hub.scaffold.plugin import default_parts, parts_of, plugin_name, template_folder, write_plugin

    taken = [one.name for one in load_plugins({}).plugins if one.distribution == "asynchub"]
    chosen = [one.strip() for one in parts.split(",") if one.strip()] if parts is not None else None
    folder = write_plugin(Path.cwd(), plugin_name(name, taken), parts=chosen)
    click.echo(
        f"wrote {folder.name}: {', '.join(chosen or default_parts(parts_of(template_folder())))}", err=True
    )
    for command in _next_commands(folder.name):
        click.echo(command)


def _next_commands(folder: str) -> list[str]:
    """What to type next, for the very Python that runs this."""
    python = shlex.quote(sys.executable)
    install = f"{python} -m pip install"
    if importlib.util.find_spec("pip") is None:
        uv = shutil.which("uv")
        ensured = f"{python} -m ensurepip && {install}"
        install = f"{shlex.quote(uv)} pip install --python {python}" if uv else ensured
    return [f"cd {folder}", f"{install} -e '.[test]'", f"{python} -m pytest", f"{python} -m hub plugins list"]


@plugins.command("list")
@click.option(
    "--flows",
    "task_folders",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder whose tasks.py is loaded, and so run, and listed too; repeatable.",
)
@click.option(
    "--running",
    is_flag=True,
    help="Those of the hub that runs, with what they have done wrong since its start.",
)
@output_option
@server_options
def list_(
    task_folders: tuple[Path, ...], running: bool, format: str, server: str | None, data: Path | None
) -> None:
    """List the installed plugins.

    Those of this very Python, as the settings of this folder have them; needs no hub, except with --running.
    """
    if running and task_folders:
        raise click.UsageError("a running hub has loaded its folders already: leave out --flows or --running")
    show(
        _running(server, data) if running else _installed(task_folders),
        {
            "name": lambda item: item["name"],
            "distribution": lambda item: item.get("distribution"),
            "version": lambda item: item.get("version"),
            "state": lambda item: item["state"],
            "types": lambda item: item["types"],
            "what to do": _what_to_do,
        },
        format=format,
        name=lambda item: str(item["name"]),
        empty="no plugins",
    )


def _running(server: str | None, data: Path | None) -> list[dict[str, Any]]:
    """The plugins as the running hub knows them."""

    async def work(client: HubClient) -> Any:
        return await client.get("/plugins")

    found: list[dict[str, Any]] = with_hub(server, data, work)["items"]
    return found


def _installed(task_folders: tuple[Path, ...]) -> list[dict[str, Any]]:
    """The plugins of this very Python."""
    from hub.cli.failures import report as report_error
    from hub.cli.logs import configure_logs
    from hub.config.plugins import with_plugin_settings
    from hub.config.settings import load_settings
    from hub.errors import InvalidSettings
    from hub.registry import load_plugins, make_listeners, make_secret_sources
    from hub.registry.local import with_local_tasks

    configure_logs("critical")  # what went wrong is in the list
    folder = Path.cwd()
    settings = load_settings(os.environ, folder=folder).settings
    registry = load_plugins(settings.plugins)
    try:
        registry = with_plugin_settings(registry, settings)
    except InvalidSettings as error:
        report_error(error)  # what is installed is worth a look all the same
    _, registry = make_secret_sources(registry, os.environ, folder)
    _, registry = make_listeners(registry)
    registry = with_local_tasks(registry, task_folders, strict=False)
    return [{**asdict(report), "types": list(report.types)} for report in registry.plugins]


def _what_to_do(item: Mapping[str, Any]) -> str | None:
    """What is wrong with a plugin, and what to do."""
    said = [item.get("error"), item.get("advice")]
    for one in item.get("faults", ()):
        times = f" ({one['count']} times)" if one["count"] > 1 else ""
        said.append(f"{one.get('component') or 'somewhere'}: {one['fault']}{times}: {one['hint']}")
    said += [f"{one['type']}: {one['error']}" for one in item.get("listeners", ()) if one.get("error")]
    return "; ".join(filter(None, said)) or None
