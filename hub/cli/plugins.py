"""``hub plugins``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from hub.cli.output import output_option, show


@click.group()
def plugins() -> None:
    """List plugins."""


@plugins.command("list")
@output_option
def list_(format: str) -> None:
    """List the installed plugins.

    Those of this very Python, as the settings of this folder have them; needs no hub.
    """
    from hub.cli.failures import report as report_error
    from hub.cli.logs import configure_logs
    from hub.config.plugins import with_plugin_settings
    from hub.config.settings import load_settings
    from hub.errors import InvalidSettings
    from hub.registry import load_plugins, make_listeners, make_secret_sources

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
