"""``hub plugins``."""

from __future__ import annotations

from dataclasses import asdict

import click

from hub.cli.output import output_option, show


@click.group()
def plugins() -> None:
    """List plugins."""


@plugins.command("list")
@output_option
def list_(format: str) -> None:
    """List the plugins of this very Python; needs no hub."""
    from hub.registry import load_plugins

    reports = [asdict(report) for report in load_plugins({}).plugins]
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
