"""A mark on every process of a tree that no ordinary means wipes off.

A process can start its children with another environment, in another folder, session and group, and without
any open file; then nothing of that says any more whose it is. Resource limits stay: they are inherited over
fork and exec and can be read from outside. The mark is the limit of processor time of real-time processes, set to a
number of microseconds (73,000 years and more) that nobody reaches. ``tree`` tells by it whose an orphan is,
``leftovers`` what a killed hub left behind.

On systems without this limit nothing is marked; environment, session and folder are left to tell.
"""

from __future__ import annotations

import hashlib
import itertools
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_LIMIT: int | None = getattr(resource, "RLIMIT_RTTIME", None)
_LINE = b"Max realtime timeout"
_FLAG = 1 << 61
_RUN_BITS = 28
_numbers = itertools.count(1)


def new_mark(instance: str) -> int:
    """A mark for one tree of this installation."""
    return _first_mark(instance) | next(_numbers) % (1 << _RUN_BITS)


def is_of(mark: int | None, instance: str) -> bool:
    """Whether a mark is one of this installation's."""
    return mark is not None and mark >> _RUN_BITS == _first_mark(instance) >> _RUN_BITS


@cache
def _first_mark(instance: str) -> int:
    digest = int.from_bytes(hashlib.sha256(instance.encode()).digest()[:8], "big")
    return _FLAG | digest % (_FLAG >> _RUN_BITS) << _RUN_BITS


@contextmanager
def marking(mark: int) -> Iterator[int | None]:
    """Mark what is started inside, from its first instruction on; gives None where that cannot be done.

    The hub carries the mark itself meanwhile: set on the child afterwards, a quick one would have got away.
    What another thread starts in the same millisecond is marked too.
    """
    own = _own_limits()
    if own is None or not _set(mark, own[1]):
        yield None
        return
    try:
        yield mark
    finally:
        _set(*own)


@cache
def _own_limits() -> tuple[int, int] | None:
    return None if _LIMIT is None else resource.getrlimit(_LIMIT)


def _set(soft: int, hard: int) -> bool:
    if _LIMIT is None:
        return False
    try:
        resource.setrlimit(_LIMIT, (soft, hard))
    except (OSError, ValueError):
        return False  # somebody has given the hub itself a lower limit
    return True


def mark_of(pid: int) -> int | None:
    """The mark a process carries, dead ones that nobody has taken included; None for any other."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(_LINE):
            soft = line[len(_LINE) :].split()[0]
            return int(soft) if soft.isdigit() and int(soft) & _FLAG else None
    return None
