"""``hub validate``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "format",
    type=click.Choice(["text", "json", "github", "gitlab", "azure", "sarif"]),
    default="text",
    show_default=True,
    help="How to print what was found.",
)
def validate(paths: tuple[Path, ...], format: str) -> None:
    """Check flow files and folders; needs no hub.

    A folder stands for every *.hub.yaml below it, - for what is piped in; without PATHS it is ./flows, else the
    current folder. Exit code 3 when there is an error.
    """
    from datetime import UTC, datetime

    from hub.cli.failures import INVALID
    from hub.config.lint import flow_files, lint_files
    from hub.config.text import FORMATS
    from hub.expressions import builtin_functions
    from hub.registry import load_plugins

    wanted = list(paths) or [Path("flows") if Path("flows").is_dir() else Path(".")]
    files = flow_files(wanted)
    registry = load_plugins({})
    functions = builtin_functions(lambda: datetime.now(UTC)).with_functions(registry.functions)
    report = lint_files(files, registry, functions)
    text = FORMATS[format](report.problems, report.sources)
    if text:
        click.echo(text)
    warnings = len(report.problems) - report.errors
    click.echo(
        f"{_count(len(files), 'file')}, {_count(report.errors, 'error')}, {_count(warnings, 'warning')}",
        err=True,
    )
    if report.errors:
        raise click.exceptions.Exit(INVALID)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"
