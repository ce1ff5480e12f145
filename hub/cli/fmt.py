"""``hub fmt``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--check", is_flag=True, help="Write nothing; exit with 9 when a file would change.")
@click.option("--diff", is_flag=True, help="Write nothing; print what would change.")
def fmt(paths: tuple[Path, ...], check: bool, diff: bool) -> None:
    """Format flow files and folders in place: indentation, spaces and blank lines; needs no hub.

    Comments, quotes, block texts and line breaks stay. Each result is read again first: a file whose meaning
    would change is left as it is. A folder stands for every *.hub.yaml below it; without PATHS it is ./flows,
    else the current folder; - formats standard input to standard output.
    """
    from hub.cli.failures import INVALID
    from hub.config.lint import flow_files

    if list(map(str, paths)) == ["-"]:
        _format_input(check=check, diff=diff)
        return
    files = flow_files(list(paths) or [Path("flows") if Path("flows").is_dir() else Path(".")])
    changes = [(file, *texts) for file in files if (texts := _change(file)) is not None]
    failed = sum(before is None for _, before, _ in changes)
    changed = [(file, before, after) for file, before, after in changes if before is not None]
    for file, before, after in changed:
        if diff:
            click.echo(_diff(str(file), before, after), nl=False)
        else:
            if not check:
                _write(file, after)
            click.echo(f"{'would format' if check else 'formatted'} {file}")
    word = "would change" if check or diff else "changed"
    summary = f"{len(files)} file{'s' if len(files) != 1 else ''}, {len(changed)} {word}"
    click.echo(summary + (f", {failed} left as they are" if failed else ""), err=True)
    if failed:
        raise click.exceptions.Exit(INVALID)
    _end(check and bool(changed))


def _change(file: Path) -> tuple[str | None, str] | None:
    """The text before and after, None where it stays, (None, …) after what is wrong was said."""
    from hub.cli.failures import report
    from hub.config.formatting import formatted
    from hub.errors import HubError, InvalidFlow

    try:
        # as bytes: the line ends that are there count too
        before = file.read_bytes().decode("utf-8")
        after = formatted(before, str(file))
    except InvalidFlow as error:
        _say_problems(error, before)
    except HubError as error:
        report(error)
    except UnicodeDecodeError as error:
        click.echo(f"{file}:1:1  error: not UTF-8: {error.reason}", err=True)
    except OSError as error:
        click.echo(f"{file}:1:1  error: cannot be read: {error.strerror}", err=True)
    else:
        return (before, after) if after != before else None
    return None, ""


def _format_input(*, check: bool, diff: bool) -> None:
    from hub.cli.failures import INVALID
    from hub.config.formatting import formatted
    from hub.errors import InvalidFlow

    before = sys.stdin.read()
    try:
        after = formatted(before, "<stdin>")
    except InvalidFlow as error:
        _say_problems(error, before)
        raise click.exceptions.Exit(INVALID) from None
    if diff:
        click.echo(_diff("<stdin>", before, after), nl=False)
    elif not check:
        click.echo(after, nl=False)
    _end(check and after != before)


def _end(differs: bool) -> None:
    from hub.cli.failures import DIFFERS

    if differs:
        raise click.exceptions.Exit(DIFFERS)


def _say_problems(error: object, source: str) -> None:
    from hub.config.text import render_problem

    for problem in getattr(error, "problems", ()):
        click.echo(render_problem(problem, source), err=True)


def _diff(name: str, before: str, after: str) -> str:
    import difflib

    lines: Sequence[str] = list(
        difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), name, f"{name} (formatted)"
        )
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _write(file: Path, text: str) -> None:
    from hub.scaffold.files import NewFile, write_all

    write_all([NewFile(file, text)], force=True)
