"""A folder whose name leads elsewhere every other moment."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HERE = -100
_EXCHANGE = 2


@contextmanager
def swapping(folder: Path, outside: Path) -> Iterator[None]:
    """A folder that is now itself, now a link to somewhere else, as quickly as a thread can."""
    link = folder.with_name("link")
    link.symlink_to(outside)
    libc, over = ctypes.CDLL(None, use_errno=True), threading.Event()

    def swap() -> None:
        one, other = os.fsencode(folder), os.fsencode(link)
        while not over.is_set():
            assert libc.renameat2(_HERE, one, _HERE, other, _EXCHANGE) == 0, os.strerror(ctypes.get_errno())

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
