"""Rows and back: arrays of columns for one statement over many rows, and model objects out of rows."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

_VALUE = re.compile(r"\$(\d+)")


def arrays(rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """The columns of rows, for ``unnest``; of one that holds nothing no element is encoded, since it is filled up."""
    size = len(rows)
    return [column if column.count(None) < size else () for column in zip(*rows, strict=True)]


@lru_cache(maxsize=64)
def together(*statements: str) -> str:
    """One statement that does several, none of which sees what another changes: fewer round trips.

    The values of each come after those of the one before; what the last one returns is returned. The last one is done
    first, then the others in their order, so the first of several that are refused is the one that is named.
    """
    *others, last = list(_numbered(statements))
    if not others:
        return last
    # the server does them from behind (ExecInitModifyTable keeps them in a list that it puts each in front of)
    parts = [f"done{number} AS ({one})" for number, one in enumerate(others)]
    return f"WITH {', '.join(reversed(parts))} {last}"


def _numbered(statements: Sequence[str]) -> Iterator[str]:
    given = 0
    for statement in statements:
        numbers = [int(number) for number in _VALUE.findall(statement)]
        yield _VALUE.sub(partial(_moved, by=given), statement)
        given += max(numbers, default=0)


def _moved(found: re.Match[str], by: int) -> str:
    return f"${int(found[1]) + by}"


def clean(text: str | None) -> str | None:
    """Text as PostgreSQL can hold it: it has no NUL."""
    return text if text is None or "\0" not in text else text.replace("\0", "\ufffd")


def lock_number(*names: str) -> int:
    """What an advisory lock of this name is called: 64 bits, the same on every node."""
    text = "\0".join(names).encode()
    return (zlib.crc32(text) << 31) ^ zlib.adler32(text[::-1])
