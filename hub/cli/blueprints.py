"""``hub blueprints``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from hub.cli.output import output_option, say_next, show, show_one

if TYPE_CHECKING:
    from hub.scaffold import Blueprint


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from hub.scaffold import blueprints_folder, read_blueprints

    found = read_blueprints(blueprints_folder())
    return [CompletionItem(one.name, help=one.summary) for one in found if one.name.startswith(incomplete)]


@click.group()
def blueprints() -> None:
    """List, show and use ready flows."""


@blueprints.command("list")
@output_option
def list_(format: str) -> None:
    """List the blueprints; needs no hub."""
    from hub.scaffold import blueprints_folder, read_blueprints

    show(
        [_view(one) for one in read_blueprints(blueprints_folder())],
        {
            "name": lambda item: item["name"],
            "triggers": lambda item: item["triggers"],
            "summary": lambda item: item["summary"],
        },
        format=format,
        name=lambda item: str(item["name"]),
        empty="no blueprints",
    )


@blueprints.command("show")
@click.argument("name", shell_complete=_complete)
@output_option
def show_(name: str, format: str) -> None:
    """Show a blueprint: what it does, what it needs, and its flows.

    NAME is one that `list` prints, or the path of a folder with a README.md and *.hub.yaml files.
    """
    from hub.scaffold import blueprints_folder, find_blueprint

    found = find_blueprint(name, blueprints_folder())
    if format != "table":
        view = {**_view(found), "readme": found.readme}
        sources = {flow.file: flow.source for flow in found.flows}
        for flow in view["flows"]:
            flow["source"] = sources[flow["file"]]
        show_one(view, format=format, name=found.name)
        return
    click.echo(found.readme.rstrip())
    for one in found.flows:
        click.echo(f"\n--- {one.file}\n{one.source.rstrip()}")


@blueprints.command()
@click.argument("name", shell_complete=_complete)
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder to write to.  [default: the first folder of the setting flows]",
)
@click.option("--id", help="The flow's new id; the file is named after it.")
@click.option("--namespace", help="The new namespace, also where the flows name each other.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.pass_context
def use(
    ctx: click.Context, name: str, into: Path | None, id: str | None, namespace: str | None, force: bool
) -> None:
    """Copy a blueprint's flows into a folder of flows.

    NAME is one that `list` prints, or the path of a folder of your own.
    """
    from hub.scaffold import blueprints_folder, find_blueprint, use_blueprint

    found = find_blueprint(name, blueprints_folder())
    folder = into if into is not None else _flow_folder()
    for one in use_blueprint(found, folder, id=id, namespace=namespace, force=force):
        click.echo(f"{one.action} {one.path}")
    program = ctx.find_root().info_name
    steps = [(f"echo {secret}=… >> secrets.env", "a secret that it needs") for secret in found.secrets]
    steps.append((f"{program} blueprints show {shlex.quote(name)}", "how to try it"))
    say_next(steps)


def _flow_folder() -> Path:
    """The first flow folder of the settings, as short as it can be said."""
    import os

    from hub.config.settings import load_settings

    folders = load_settings(os.environ, folder=Path.cwd()).settings.flows
    return Path(folders[0] if folders else "flows")


def _view(blueprint: Blueprint) -> dict[str, Any]:
    flows: list[Mapping[str, Any]] = [
        {
            "file": flow.file,
            "id": flow.key.id,
            "namespace": flow.key.namespace,
            "description": flow.description,
            "triggers": list(flow.triggers),
            "secrets": list(flow.secrets),
        }
        for flow in blueprint.flows
    ]
    return {
        "name": blueprint.name,
        "title": blueprint.title,
        "summary": blueprint.summary,
        "triggers": blueprint.triggers,
        "secrets": blueprint.secrets,
        "flows": flows,
    }
