"""Data on stdout, as a table for people or in a form for programs."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("table", "json", "jsonl", "yaml", "name")


def output_option(function: F) -> F:
    """``-o FORMAT``."""
    return click.option(
        "-o",
        "--output",
        "format",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="How to print.",
    )(function)


def show(
    items: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Callable[[Mapping[str, Any]], Any]],
    *,
    format: str,
    name: Callable[[Mapping[str, Any]], str],
    empty: str,
) -> None:
    """Print a list in the wanted form; ``empty`` is said on stderr where a table would have no row."""
    if format == "json":
        click.echo(json.dumps(list(items), indent=2, ensure_ascii=False))
    elif format == "jsonl":
        for item in items:
            click.echo(json.dumps(item, ensure_ascii=False))
    elif format == "yaml":
        click.echo(as_yaml(list(items)), nl=False)
    elif format == "name":
        for item in items:
            click.echo(name(item))
    elif not items:
        click.echo(empty, err=True)
    else:
        _table([{title: _text(read(item)) for title, read in columns.items()} for item in items])


def show_one(item: Mapping[str, Any], *, format: str, name: str) -> None:
    """Print one thing; a table of one is its YAML."""
    if format in ("json", "jsonl"):
        click.echo(json.dumps(item, indent=2 if format == "json" else None, ensure_ascii=False))
    elif format == "name":
        click.echo(name)
    else:
        click.echo(as_yaml(item), nl=False)


def say_next(steps: Sequence[tuple[str, str]]) -> None:
    """Lines to type after this command, each with what it is for."""
    width = max(len(command) for command, _ in steps)
    click.echo("\nTry next:")
    for command, why in steps:
        click.echo(f"  {command.ljust(width)}  # {why}" if why else f"  {command}")


def as_yaml(value: Any) -> str:
    """Data as YAML."""
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)
    return text


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _table(rows: Sequence[Mapping[str, str]]) -> None:
    """Columns as wide as they need, folded between words where a terminal is narrower; nothing is ever cut."""
    titles = list(rows[0])
    widths = {title: max(len(title), *(len(row[title]) for row in rows)) for title in titles}
    if sys.stdout.isatty():
        words = {
            title: max(len(word) for row in rows for word in (title, *row[title].split())) for title in titles
        }
        widths = _narrowed(widths, words, shutil.get_terminal_size().columns - 2 * (len(titles) - 1))
    for row in [{title: title.upper() for title in titles}, *rows]:
        cells = [_folded(row[title], widths[title]) for title in titles]
        for line in zip_longest(*cells, fillvalue=""):
            padded = (cell.ljust(widths[title]) for title, cell in zip(titles, line, strict=True))
            click.echo("  ".join(padded).rstrip())


def _narrowed(widths: Mapping[str, int], words: Mapping[str, int], room: int) -> dict[str, int]:
    """Widths that fit, as far as the longest words let them: the widest columns give way."""
    found = dict(widths)
    while sum(found.values()) > room:
        widest = max(found, key=lambda title: found[title] - words[title] and found[title])
        if found[widest] <= words[widest]:
            break
        found[widest] -= 1
    return found


def _folded(text: str, width: int) -> list[str]:
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
