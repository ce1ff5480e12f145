"""``hub reference``: the reference pages, written out of the code."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hub.registry import Registry


@click.command(hidden=True)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def reference(folder: Path) -> None:
    """Write the reference pages into FOLDER."""
    from datetime import UTC, datetime

    from hub.expressions import builtin_functions
    from hub.reference import pages
    from hub.registry import load_plugins

    registry = load_plugins({})
    functions = builtin_functions(lambda: datetime.now(UTC)).with_functions(registry.functions)
    folder.mkdir(parents=True, exist_ok=True)
    found = {**pages(registry, functions), "command-line.md": command_page(), "api.md": api_page()}
    found["components.json"] = components_data(registry)
    for name, text in found.items():
        (folder / name).write_text(text, encoding="utf-8")
        click.echo(folder / name)


def components_data(registry: Registry) -> str:
    """The built-in components as JSON."""
    from hub.reference.components import component_data, components

    data = [
        component_data(one, kind, registry.owner_of(one))
        for kind, one in components(registry)
        if one.__module__.startswith("plugins_core.")
    ]
    return json.dumps(data, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def command_page() -> str:
    """Every command with its arguments and options."""
    from hub.cli.root import cli

    parts = ["<!-- made by `hub reference docs/reference`; change the code, not this page -->\n"]
    parts.append("# The command line\n\n" + inspect.cleandoc(cli.help or "") + "\n")
    for context, command in _commands(cli, click.Context(cli, info_name="hub")):
        if isinstance(command, click.Group) or command.hidden:
            continue
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(f"## {context.command_path}\n\n`{context.command_path} {usage}`\n")
        parts.append(inspect.cleandoc((command.help or "").replace("\b\n", "")) + "\n")
        rows = [row for one in command.get_params(context) if (row := one.get_help_record(context))]
        if rows:
            lines = ["| option | what it does |", "|---|---|"]
            lines += [f"| `{_cell(name)}` | {_cell(about)} |" for name, about in rows]
            parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _commands(group: click.Group, context: click.Context) -> Iterator[tuple[click.Context, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        yield inner, command
        if isinstance(command, click.Group):
            yield from _commands(command, inner)


def api_page() -> str:
    """Every route with its query parameters."""
    from hub.api.application import ROUTES

    parts = ["<!-- made by `hub reference docs/reference`; change the code, not this page -->\n"]
    parts.append(
        "# The HTTP API\n\nThe whole of it with its models as OpenAPI 3.1: `GET /api/v1/openapi.json`. Errors have one"
        " shape: `code message hint details`.\n"
    )
    lines = ["| method | path | what it does |", "|---|---|---|"]
    lines += [f"| {route.method} | `{route.path}` | {_cell(route.summary)} |" for route in ROUTES]
    parts.append("\n".join(lines) + "\n")
    for route in ROUTES:
        if route.query:
            parts.append(f"## {route.method} {route.path}\n")
            rows = [f"| `{one.name}` | {one.type} | {_cell(one.description)} |" for one in route.query]
            parts.append("\n".join(["| parameter | type | what it is |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
