"""Folders in each other, deeper than recursion or a path's length goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.plugin import remove_tree

DEEP = 3000
"""Three times what Python recurses to, and more than a path may be long."""

DEEPER_SCRIPT = f"""import os
for _ in range({DEEP}):
    os.mkdir("d"); os.chdir("d")
open("bottom", "w").close()
"""
"""A script's body that makes them where it stands."""


def make_deep(folder: Path) -> None:
    """Make a folder with so many in each other, a file at the bottom."""
    folder.mkdir(parents=True)
    handle = os.open(folder, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=handle))
    os.close(handle)


@contextmanager
def cleared(folder: Path) -> Iterator[None]:
    """Leave nothing in a folder, whatever fails: pytest's own clearing up breaks at so many."""
    try:
        yield
    finally:
        remove_tree(folder)
        folder.mkdir()
