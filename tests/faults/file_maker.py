"""Bring files as programs bring them, and keep account of what was brought, outside the hub."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Brought:
    """What the world outside the hub knows: digests of contents, none of them twice."""

    stayed: dict[str, str] = field(default_factory=dict)
    """Of files that stayed until they were taken, each with the manner it came in."""
    replaced: set[str] = field(default_factory=set)
    """Of files that others were put in the place of: they may have been seen or not."""


class FileMaker:
    """Makes files, each with content of its own."""

    def __init__(self, inbox: Path, seed: int | None = None) -> None:
        self.inbox = inbox
        self.brought = Brought()
        self._chance = random.Random(seed)
        self._aside = inbox.parent / "aside"
        self._aside.mkdir(exist_ok=True)
        self._number = 0
        self._lock = threading.Lock()

    def drop(self, count: int) -> None:
        """Plain files, as quickly as can be."""
        for _ in range(count):
            name, content = self._next()
            (self.inbox / name).write_bytes(content)
            self.brought.stayed[digest(content)] = "plain"

    def bring(self, count: int) -> None:
        """Files in every manner."""
        manners = (self._plain, self._plain, self._slowly, self._renamed, self._again, self._replaced)
        for _ in range(count):
            self._chance.choice(manners)()

    def _next(self) -> tuple[str, bytes]:
        with self._lock:
            self._number += 1
            number = self._number
        size = self._chance.choice((0, 10, 300, 5_000))
        return f"f{number:06}.csv", f"{number},".encode() + self._chance.randbytes(size // 2).hex().encode()

    def _stayed(self, content: bytes, manner: str) -> None:
        with self._lock:
            self.brought.stayed[digest(content)] = manner

    def _plain(self) -> None:
        name, content = self._next()
        (self.inbox / name).write_bytes(content)
        self._stayed(content, "plain")

    def _slowly(self) -> None:
        """In parts, the handle open all the while, now and then for longer than a file takes to settle."""
        name, content = self._next()
        with (self.inbox / name).open("wb", buffering=0) as file:
            for part in range(4):
                file.write(content[part::4])
                time.sleep(self._chance.choice((0, 0.001, 0.01, 0.4)))
        self._stayed(b"".join(content[part::4] for part in range(4)), "slowly")

    def _renamed(self) -> None:
        name, content = self._next()
        part = self._aside / name
        part.write_bytes(content)
        part.rename(self.inbox / name)
        self._stayed(content, "renamed")

    def _again(self) -> None:
        """The same name again, once the one before it is gone."""
        name, content = self._next()
        try:
            with (self.inbox / f"again-{name[-5]}.csv").open("xb") as file:
                file.write(content)
        except FileExistsError:
            return
        self._stayed(content, "the same name again")

    def _replaced(self) -> None:
        """A file with others put in its place at once, by renames."""
        name, last = self._next()
        contents = [self._next()[1] for _ in range(self._chance.randint(1, 3))]
        for content in contents:
            part = self._aside / f"{name}.part"
            part.write_bytes(content)
            with self._lock:
                self.brought.replaced.add(digest(content))
            os.replace(part, self.inbox / name)
            time.sleep(self._chance.choice((0, 0, 0.02, 0.2)))
        part = self._aside / f"{name}.part"
        part.write_bytes(last)
        os.replace(part, self.inbox / name)
        self._stayed(last, "in another's place")
