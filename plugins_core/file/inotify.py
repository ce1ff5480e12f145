"""inotify(7), the little of it that is needed: watch folders, read what happened in them.

Only on Linux. One instance serves all triggers, for a user may have no more than 128 of them.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

CLOSE_WRITE = 0x00000008
MOVED_TO = 0x00000080
CREATE = 0x00000100
DELETE_SELF = 0x00000400
MOVE_SELF = 0x00000800
OVERFLOW = 0x00004000
IGNORED = 0x00008000
IS_FOLDER = 0x40000000
_ONLY_FOLDERS = 0x01000000
_NO_LINKS = 0x02000000
_WANTED = CLOSE_WRITE | MOVED_TO | CREATE | DELETE_SELF | MOVE_SELF | _ONLY_FOLDERS | _NO_LINKS
_HEAD = struct.Struct("iIII")
_BUFFER = 64 * 1024


@dataclass(frozen=True, slots=True)
class Happened:
    """Something happened to ``name`` in the folder that ``watch`` stands for, or to the folder itself."""

    watch: int
    mask: int
    name: bytes


class Inotify:
    """One instance. Every method raises ``OSError``."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.handle = self._asked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def add(self, folder: str) -> int:
        """Watch a folder; the same one, by whatever name, gives the same watch."""
        name = ctypes.c_char_p(os.fsencode(folder))
        return self._asked(self._libc.inotify_add_watch(self.handle, name, ctypes.c_uint32(_WANTED)))

    def remove(self, watch: int) -> None:
        self._asked(self._libc.inotify_rm_watch(self.handle, watch))

    def read(self) -> Iterator[Happened]:
        """What has happened, a buffer full at most."""
        try:
            buffer = os.read(self.handle, _BUFFER)
        except BlockingIOError:
            return
        place = 0
        while place < len(buffer):
            watch, mask, _, length = _HEAD.unpack_from(buffer, place)
            place += _HEAD.size
            yield Happened(watch, mask, buffer[place : place + length].rstrip(b"\0"))
            place += length

    def close(self) -> None:
        os.close(self.handle)

    @staticmethod
    def _asked(answer: int) -> int:
        if answer < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return answer
