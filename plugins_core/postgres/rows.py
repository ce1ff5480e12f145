"""Rows and back: arrays of columns for one statement over many rows, and model objects out of rows."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any


def arrays(rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """The columns of rows, for ``unnest``."""
    return list(zip(*rows, strict=True))


def clean(text: str | None) -> str | None:
    """Text as PostgreSQL can hold it: it has no NUL."""
    return text if text is None or "\0" not in text else text.replace("\0", "\ufffd")


def lock_number(*names: str) -> int:
    """What an advisory lock of this name is called: 64 bits, the same on every node."""
    text = "\0".join(names).encode()
    return (zlib.crc32(text) << 31) ^ zlib.adler32(text[::-1])
