"""Rows and back: SQL texts with many value lists, and model objects out of rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

_LARGEST_CHUNK = 64


def write_many(
    connection: sqlite3.Connection, sql: Callable[[str], str], width: int, rows: Sequence[Sequence[Any]]
) -> int:
    """Run one statement over many value lists; answers how many rows it changed.

    One step of SQLite does the whole chunk without holding the interpreter, which a row at a time does not;
    each step that ends has to win the interpreter back from the busy loop, so few large ones are quickest.
    """
    changed = 0
    for chunk in _chunks(rows):
        text = _statement(sql, width, len(chunk))
        changed += connection.execute(text, [value for row in chunk for value in row]).rowcount
    return changed


@lru_cache(maxsize=512)
def _statement(sql: Callable[[str], str], width: int, count: int) -> str:
    values = "(" + ",".join("?" * width) + ")"
    return sql(",".join([values] * count))


def _chunks(rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
    for start in range(0, len(rows), _LARGEST_CHUNK):
        yield rows[start : start + _LARGEST_CHUNK]
