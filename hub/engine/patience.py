"""Do what has to be done, again and again while the storage or the disk is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from hub.errors import StorageOverloaded, StorageUnavailable

log = structlog.get_logger("hub.engine")

T = TypeVar("T")

_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 1.0


async def persist(
    work: Callable[[], Awaitable[T]], *, execution: str, has_given_up: Callable[[], bool] = lambda: False
) -> T:
    """The answer of ``work`` as soon as it has one.

    Raises ``StorageUnavailable`` once ``has_given_up`` says so; everything else that ``work`` raises at once.
    """
    backoff = _FIRST_BACKOFF
    while True:
        try:
            return await work()
        except (StorageUnavailable, StorageOverloaded, OSError) as error:
            if has_given_up():
                raise StorageUnavailable(f"the storage is away: {error}") from error
            log.warning("storage is away; trying again", execution=execution, error=str(error))
        await asyncio.sleep(backoff)
        backoff = min(backoff * 2, _LONGEST_BACKOFF)
