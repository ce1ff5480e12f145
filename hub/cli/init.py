"""``hub init``: a folder whose first flow runs by itself as soon as it is served."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from hub.cli.output import say_next


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--namespace", help="The namespace of the first flow.  [default: the folder's name]")
@click.option("--force", is_flag=True, help="Replace hub.yaml, the first flow, the pipeline and README.md.")
@click.pass_context
def init(ctx: click.Context, folder: Path, namespace: str | None, force: bool) -> None:
    """Write a new project into DIR, which need not exist; `.` is the current folder.

    It has settings, a first flow with a schedule and a webhook, secrets.env, a pipeline for GitHub and what an
    editor needs. Files that exist are not touched; .gitignore, secrets.env and the editor's settings are added
    to.
    """
    from hub.registry import load_plugins
    from hub.scaffold import write_project

    written = write_project(folder, namespace=namespace, registry=load_plugins({}), force=force)
    for one in written:
        click.echo(f"{one.action} {one.path}")
    name = ctx.find_root().info_name
    steps = [] if folder.resolve() == Path.cwd() else [(f"cd {shlex.quote(str(folder))}", "")]
    steps += [
        (f"{name} serve", "the first flow runs every ten seconds"),
        (f"{name} executions logs last", "in another terminal: what the last run said"),
        (f"{name} triggers list", "a line that calls the webhook"),
        (f"{name} blueprints list", "ready flows to copy"),
    ]
    say_next(steps)
