"""Say in the log whose code ends the process, where a plugin does: ``os._exit`` and faults of the machine.

Nothing in a process survives either, and neither tells anybody. So the log names the plugin and the stack; the
next start goes on with what was accepted, and a task that does it three times ends FAILED. Used by ``serve``.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import structlog

from hub.engine.services import Services
from hub.engine.watchdog import block_of

log = structlog.get_logger("hub.watchdog")

_ADVICE = "let it raise Fail(reason): os._exit ends the whole hub"


@contextmanager
def last_words(services: Services) -> Iterator[None]:
    """Until the block ends, whoever calls ``os._exit`` is named, and a crash of the machine shows its stack."""
    with suppress(OSError, ValueError, RuntimeError):  # there is no stderr to write to
        faulthandler.enable()
    really, process = os._exit, os.getpid()

    def leave(status: int = 0) -> NoReturn:
        # a copy of this process, as multiprocessing makes them, ends itself like this
        if os.getpid() == process:
            _say(services, status)
        really(status)

    os._exit = leave
    try:
        yield
    finally:
        os._exit = really


def _say(services: Services, status: int) -> None:
    def owner_of(component: type[Any]) -> str:
        return services.registry.owner_of(component)

    block = block_of(sys._getframe(2), owner_of)
    log.critical(
        "the hub is ended by a call of os._exit; the next start goes on with what was accepted",
        plugin=block.plugin,
        component=block.component,
        where=block.where,
        status=status,
        hint=_ADVICE,
        stack=block.stack,
    )
    with suppress(OSError, ValueError):
        sys.stderr.flush()
