"""Start the hub with a crash or a bug patched into the file trigger: ``python crash_files.py POINT serve …``.

The hub itself holds no switch for any of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any


def _crash() -> None:
    os._exit(137)


def _patch(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)


def _crash_before(module: Any, name: str, *, after_calls: int = 0) -> None:
    """Crash where a function is called, once it was called so many times."""
    function = getattr(module, name)
    calls = [0]

    def crashing(*args: Any, **more: Any) -> Any:
        if calls[0] >= after_calls:
            _crash()
        calls[0] += 1
        return function(*args, **more)

    setattr(module, name, crashing)


def between_row_and_rename() -> None:
    from plugins_core.file import taking

    _crash_before(taking, "claim")


def amid_the_renames() -> None:
    from plugins_core.file import taking

    _crash_before(taking, "claim", after_calls=7)


def between_end_and_after() -> None:
    from plugins_core.file import custody

    _crash_before(custody, "_apply")


def amid_the_after() -> None:
    from plugins_core.file import claims

    _crash_before(claims, "move_into", after_calls=7)


def between_link_and_unlink() -> None:
    from plugins_core.file import moving

    link = os.link

    def crashing(*args: Any, **more: Any) -> None:
        link(*args, **more)
        _crash()

    _patch(moving, "os", _With(os, link=crashing))


def amid_a_copy() -> None:
    from plugins_core.file import moving

    write = os.write

    def crashing(handle: int, content: Any) -> int:
        write(handle, bytes(content)[: len(content) // 2])
        _crash()
        raise AssertionError

    _patch(moving, "os", _With(os, write=crashing))


def between_copy_and_unlink() -> None:
    from plugins_core.file import moving

    named = moving._named

    def crashing(*args: Any) -> Any:
        named(*args)
        _crash()

    _patch(moving, "_named", crashing)


class _With:
    """A module with some of its functions replaced."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


# bugs that the rounds must find


def rename_before_row() -> None:
    """Files are claimed before their events are stored, and the hub dies in between."""
    from plugins_core.file.taking import Taker

    async def store(self: Any, arrived: Any, paths: Any) -> Any:
        for one, path in zip(arrived, paths, strict=True):
            os.rename(one.path, path)
        _crash()

    _patch(Taker, "_store", store)


def part_taken() -> None:
    """Nobody asks whether somebody still writes, or waits until a file has settled."""
    from plugins_core.file import looking

    _patch(looking.Looker, "_wait", lambda *_: 0.0)
    _patch(looking, "has_a_writer", lambda _: False)


def key_forgotten() -> None:
    """Events are stored without the key that says which file they are about."""
    from hub.engine.triggers import RunningTrigger
    from plugins_core.file import taking

    async def known(*_: Any) -> dict[str, str]:
        return {}

    _patch(RunningTrigger, "known", known)
    _patch(taking, "Delivery", lambda *_, **__: None)


def no_inotify() -> None:
    """Every instance is taken."""
    from plugins_core.file import inotify

    def taken(self: Any) -> None:
        raise OSError(24, "Too many open files")

    _patch(inotify.Inotify, "__init__", taken)


POINTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "between-row-and-rename": between_row_and_rename,
    "amid-the-renames": amid_the_renames,
    "between-end-and-after": between_end_and_after,
    "amid-the-after": amid_the_after,
    "between-link-and-unlink": between_link_and_unlink,
    "amid-a-copy": amid_a_copy,
    "between-copy-and-unlink": between_copy_and_unlink,
    "rename-before-row": rename_before_row,
    "part-taken": part_taken,
    "key-forgotten": key_forgotten,
    "no-inotify": no_inotify,
}

if __name__ == "__main__":
    POINTS[sys.argv.pop(1)]()
    from hub.cli import main

    main()
