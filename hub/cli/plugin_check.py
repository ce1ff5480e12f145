"""``hub plugins check``."""

from __future__ import annotations

from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import click

from hub.cli.output import output_option, show


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@output_option
def check(path: Path | None, format: str) -> None:
    """Check a plugin before others get it.

    PATH is a project's folder, or an installed one's name.

    Does it load, and how quickly; do its names fit; is everything described; do the examples parse; does a coroutine
    call what blocks the hub; do its contracts pass (a project's, where its tests have them). Without PATH every
    installed plugin that is not the hub's own is checked. Exit code 1 where something is wrong.
    """
    from hub.errors import NotFound
    from hub.testing.check import check_installed, check_project

    others = [
        point.name
        for point in metadata.entry_points(group="hub.plugins")
        if point.dist is None or point.dist.name != "asynchub"
    ]
    if path is None:
        findings = check_installed(others)
    elif path.is_dir():
        findings = check_project(path.resolve())
    elif str(path) in others:
        findings = check_installed([str(path)])
    else:
        raise NotFound(
            f"{path} is neither a folder nor an installed plugin", hint="hub plugins list names them"
        )
    show(
        [asdict(one) for one in findings],
        {
            "plugin": lambda item: item["plugin"],
            "check": lambda item: item["check"],
            "is": lambda item: item["level"],
            "what": lambda item: item["message"],
        },
        format=format,
        name=lambda item: str(item["plugin"]),
        empty="no plugins but the hub's own",
    )
    if any(one.level == "error" for one in findings):
        raise click.exceptions.Exit(1)
