"""``hub validate``."""

from __future__ import annotations

from pathlib import Path

import click

from hub.cli.flow_files import check_files, counted


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "-o",
    "--output",
    "format",
    type=click.Choice(["text", "json", "github", "gitlab", "azure", "sarif"]),
    default="text",
    show_default=True,
    help="How to print what was found: for people, for programs, or as annotations in a pipeline.",
)
@click.option(
    "--flows",
    "task_folders",
    multiple=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder whose tasks.py is loaded, and so run, to know its local tasks; repeatable.",
)
def validate(paths: tuple[Path, ...], format: str, task_folders: tuple[Path, ...]) -> None:
    """Check flow files and folders; needs no hub.

    A folder stands for every *.hub.yaml below it, - for what is piped in; without PATHS it is ./flows, else the
    current folder. Exit code 3 when there is an error.
    """
    from hub.cli.failures import INVALID
    from hub.config.reports import FORMATS

    report = check_files(paths, task_folders)
    text = FORMATS[format](report.problems, report.sources)
    if text:
        click.echo(text)
    warnings = len(report.problems) - report.errors
    files, errors = counted(len(report.files), "file"), counted(report.errors, "error")
    click.echo(f"{files}, {errors}, {counted(warnings, 'warning')}", err=True)
    if report.errors:
        raise click.exceptions.Exit(INVALID)
