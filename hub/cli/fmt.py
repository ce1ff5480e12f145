"""``hub fmt``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from hub.errors import InvalidFlow


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
    changed = failed = 0
    for file in files:
        texts = _texts(file)
        if texts is None:
            failed += 1
        elif texts.before != texts.after:
            changed += 1
            _change(file, texts, check=check, diff=diff)
    word = "would change" if check or diff else "changed"
    summary = f"{len(files)} file{'s' if len(files) != 1 else ''}, {changed} {word}"
    click.echo(summary + (f", {failed} left as they are" if failed else ""), err=True)
    if failed:
        raise click.exceptions.Exit(INVALID)
    _end(check and changed > 0)


class _Texts(NamedTuple):
    """A file as it is, and as it should be."""

    before: str
    after: str


def _texts(file: Path) -> _Texts | None:
    """A file's two texts, or None after what is wrong with it was said."""
    from hub.cli.failures import report
    from hub.config.formatting import formatted
    from hub.errors import HubError, InvalidFlow

    try:
        # as bytes: the line ends that are there count too
        before = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        click.echo(f"{file}:1:1  error: not UTF-8: {error.reason}", err=True)
        return None
    except OSError as error:
        click.echo(f"{file}:1:1  error: cannot be read: {error.strerror}", err=True)
        return None
    try:
        return _Texts(before, formatted(before, str(file)))
    except InvalidFlow as error:
        _say_problems(error, before)
    except HubError as error:
        report(error)
    return None


def _change(file: Path, texts: _Texts, *, check: bool, diff: bool) -> None:
    from hub.scaffold.files import NewFile, write_all

    if diff:
        click.echo(_diff(str(file), texts.before, texts.after), nl=False)
    elif check:
        click.echo(f"would format {file}")
    else:
        write_all([NewFile(file, texts.after)], force=True)
        click.echo(f"formatted {file}")


def _format_input(*, check: bool, diff: bool) -> None:
    from hub.cli.failures import INVALID
    from hub.config.formatting import formatted
    from hub.errors import InvalidFlow

    before = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
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


def _say_problems(error: InvalidFlow, source: str) -> None:
    from hub.config.text import render_problem

    for problem in error.problems:
        click.echo(render_problem(problem, source), err=True)


def _diff(name: str, before: str, after: str) -> str:
    import difflib

    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), name, f"{name} (formatted)"
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
