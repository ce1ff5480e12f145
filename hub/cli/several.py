"""Do one thing to several: what fails is said, and the others are done all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from hub.cli.failures import report
from hub.errors import HubError, Unreachable

T = TypeVar("T")


async def each(names: Sequence[str], work: Callable[[str], Awaitable[T]]) -> tuple[list[T], int]:
    """What ``work`` gave for each name, and the exit code: that of the first that failed.

    Raises ``Unreachable``: the others would fail as well.
    """
    done: list[T] = []
    code = 0
    for name in names:
        try:
            done.append(await work(name))
        except Unreachable:
            raise
        except HubError as error:
            failed = report(error)
            code = code or failed
    return done, code
