"""``hub plugins``."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import click

from hub.cli.output import output_option, show
from hub.cli.plugin_check import check
from hub.cli.plugin_packages import install, uninstall


@click.group()
def plugins() -> None:
    """List plugins, begin a new one, check, install and uninstall them."""


plugins.add_command(check)
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
@output_option
def list_(task_folders: tuple[Path, ...], format: str) -> None:
    """List the installed plugins.

    Those of this very Python, as the settings of this folder have them; needs no hub.
    """
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
    reports = [asdict(report) for report in registry.plugins]
    for report in reports:
        report["types"] = list(report["types"])
    show(
        reports,
        {
            "name": lambda item: item["name"],
            "distribution": lambda item: item["distribution"],
            "version": lambda item: item["version"],
            "state": lambda item: item["state"],
            "types": lambda item: item["types"],
            "error": lambda item: item["error"],
        },
        format=format,
        name=lambda item: str(item["name"]),
        empty="no plugins",
    )
