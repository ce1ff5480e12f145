"""Marks: what tells one state of a file from another, as long as it lies in one folder."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """One state of a file.

    The device is left out: its number may be another one after a restart of the machine.
    """

    inode: int
    size: int
    modified_ns: int
    changed_ns: int = 0
    """0 where a change of name, owner or mode alone does not count."""

    @classmethod
    def of(cls, found: os.stat_result, *, with_change: bool) -> Mark:
        """With the time of change a file that was moved away and back counts anew."""
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns if with_change else 0)

    @classmethod
    def read(cls, text: str) -> Mark | None:
        """The mark that ``text`` spells, if it is one."""
        parts = text.split(":")
        try:
            inode, size, modified, changed = (int(part) for part in parts)
        except ValueError:
            return None
        return cls(inode, size, modified, changed)

    @property
    def text(self) -> str:
        return f"{self.inode}:{self.size}:{self.modified_ns}:{self.changed_ns}"

    @property
    def key(self) -> str:
        """A short name for it, good for a folder."""
        return hashlib.blake2b(self.text.encode(), digest_size=16).hexdigest()

    def is_content_of(self, found: os.stat_result) -> bool:
        """Whether a file is this one and holds the same, whatever became of its name, owner and mode."""
        return (self.inode, self.size, self.modified_ns) == (
            found.st_ino,
            found.st_size,
            found.st_mtime_ns,
        )
