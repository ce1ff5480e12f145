"""A bar on stderr for what takes a while, where a person is looking."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

import click

T = TypeVar("T")

_FEW = 10
"""So few are done before anybody reads a bar."""


def progress(items: Sequence[T], label: str) -> Iterator[T]:
    """The items one by one, with a bar while stderr is a terminal."""
    if len(items) <= _FEW or not sys.stderr.isatty():
        yield from items
        return
    with click.progressbar(items, label=label, file=sys.stderr) as bar:
        yield from bar
