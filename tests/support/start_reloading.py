"""Start the hub with one bug in its handover: ``python start_reloading.py BUG serve …``.

The process that takes over is started by the same command line, and so has the bug too.
"""

from __future__ import annotations

import sys
from typing import Any


def connections_closed() -> None:
    """Connections between two requests are closed, as if nobody could be sending just then."""
    from hub.api.door import Door

    def close(self: Any, connection: Any) -> None:
        connection.transport.close()

    Door._park = close  # type: ignore[method-assign]


def answers_not_awaited() -> None:
    """Who is being answered is cut off."""
    from hub.api.door import Door

    close = Door.close

    async def at_once(self: Any, patience: float) -> bool:
        await close(self, 0.0)
        for connection in self._connections():
            connection.transport.abort()
        return True

    Door.close = at_once  # type: ignore[method-assign]


def opened_too_early() -> None:
    """The new process answers before it knows any flow."""
    from hub.serving import serving

    open_node_and_api = serving._Serving._open

    async def opened(self: Any, stack: Any, *, is_first: bool) -> Any:
        node, api = await open_node_and_api(self, stack, is_first=True)
        scan = node.folders.scan

        async def late() -> None:
            import asyncio

            await asyncio.sleep(0.3)
            await scan()

        node.folders.scan = late  # type: ignore[method-assign]
        return node, api

    serving._Serving._open = opened  # type: ignore[method-assign]


def heir_cannot_open() -> None:
    """The new process fails once everything is left to it."""
    from hub.errors import StorageUnavailable
    from hub.serving import serving
    from hub.serving.predecessor import Predecessor

    leaves, opened = Predecessor.leaves, serving._Serving._open
    heirs: list[Any] = []

    async def left(self: Any, *about: Any) -> Any:
        estate = await leaves(self, *about)
        heirs.append(estate)
        return estate

    async def open_or_fail(self: Any, *about: Any, **more: Any) -> Any:
        if heirs:
            raise StorageUnavailable("the disk is full")
        return await opened(self, *about, **more)

    Predecessor.leaves = left  # type: ignore[assignment, method-assign]
    serving._Serving._open = open_or_fail  # type: ignore[method-assign]


def interpreter_gone() -> None:
    """No bug: what would be run in the place of the process that hands over is not there."""
    import os

    def execv(*command: Any) -> Any:
        raise FileNotFoundError(command[0])

    os.execv = execv


def what_runs_not_awaited() -> None:
    """What runs is handed back at once, and begun again."""
    from hub.engine.dispatcher import Dispatcher

    async def pause(self: Any, patience: float) -> bool:
        self._draining = True
        return True

    Dispatcher.pause = pause  # type: ignore[method-assign]


def main() -> None:
    """Patch and serve."""
    bug = sys.argv.pop(1)
    globals()[bug]()
    from hub.cli import main as hub

    hub()


if __name__ == "__main__":
    main()
