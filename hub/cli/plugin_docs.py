"""``hub plugins docs``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click


@click.command("docs")
@click.argument("name", required=False)
@click.option(
    "-o",
    "--output",
    "format",
    type=click.Choice(["markdown", "json"]),
    default="markdown",
    show_default=True,
    help="How to print it: a page for people, or data for programs.",
)
def docs(name: str | None, format: str) -> None:
    """Print the reference of what plugins bring.

    NAME is a plugin's, or the type of one component; without it everything that is installed is printed. Needs no
    hub.
    """
    from hub.cli.logs import configure_logs
    from hub.config.settings import load_settings
    from hub.errors import NotFound, did_you_mean
    from hub.reference.components import component_data, component_schema, component_text, components
    from hub.registry import load_plugins

    configure_logs("critical")
    registry = load_plugins(load_settings(os.environ, folder=Path.cwd()).settings.plugins)
    everything = list(components(registry))
    found = [(kind, one) for kind, one in everything if name in (None, one.type, registry.owner_of(one))]
    if not found:
        known = sorted({one.type for _, one in everything} | {one.name for one in registry.plugins})
        why = registry.explain("task", name or "") or did_you_mean(name or "", known)
        raise NotFound(
            f'nothing that is documented is called "{name}"',
            hint=why or "hub plugins list shows what is there",
        )
    if format == "json":
        data = [
            {**component_data(one, kind, registry.owner_of(one)), "schema": component_schema(one)}
            for kind, one in found
        ]
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    click.echo("\n".join(component_text(one, kind) for kind, one in found))
